"""A stack whose workflows are Jobs of a cluster, as a test sees it: the same questions, answered by the cluster."""

import asyncio
import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from streamforge_local.kubernetes.api import ApiError
from streamforge_local.kubernetes.cluster import INDEX, Cluster
from streamforge_local.scenario import Json, Scenario, Worker, until
from streamforge_local.stack.parts import CLUSTER_PARTS, POD_DATA

METRICS_PORT = 8000


@dataclass(slots=True, kw_only=True)
class ClusterScenario(Scenario):
    """Workers are pods, which have addresses but, for those who stand outside, no process."""

    cluster: Cluster
    namespace: str

    async def jobs(self, queue_id: str) -> list[Json]:
        """The Jobs of a workflow, each with its pods; ``live``: those that have not ended."""
        jobs, pods = await asyncio.gather(
            *(self._labelled(kind, queue_id) for kind in ("/apis/batch/v1/{}/jobs", "/api/v1/{}/pods"))
        )
        found = []
        for job in jobs:
            name = job["metadata"]["name"]
            mine = [pod for pod in pods if pod["metadata"]["labels"].get("job-name") == name]
            live = sum(pod["status"].get("phase") not in ("Succeeded", "Failed") for pod in mine)
            found.append({"name": name, "labels": job["metadata"]["labels"], "pods": mine, "live": live})
        return found

    async def worker(self, queue_id: str, step: str, ordinal: int = 0, *, former: int | None = None) -> Worker:
        """A worker that lives and answers at its pod's address; its process is nobody's business here."""

        async def look() -> Worker | None:
            for job in await self.jobs(queue_id):
                for pod in job["pods"] if job["labels"]["step"] == step else ():
                    is_it = int(pod["metadata"].get("annotations", {}).get(INDEX) or 0) == ordinal
                    address = f"{pod['status'].get('podIP')}:{METRICS_PORT}"
                    if is_it and pod["status"].get("phase") == "Running" and await self._answers(address):
                        return Worker(step, ordinal, 0, address)
            return None

        return await until(look, f"{step}/{ordinal} of {queue_id} lives", timeout_s=60)

    async def all_ready(self) -> None:
        """Wait until every part of the stack is ready; the cluster is asked by the queue-manager."""
        for name in CLUSTER_PARTS:
            await self.pid(name)

        async def look() -> bool:
            return (await self.api.get("/health/ready")).is_success

        await until(look, "the stack is ready", timeout_s=60)

    async def _labelled(self, path: str, queue_id: str) -> list[Json]:
        where = path.format(f"namespaces/{self.namespace}")
        found = await asyncio.to_thread(self.cluster.api.get, where, labelSelector=f"queue_id={queue_id}")
        items: list[Json] = found["items"]
        return items

    async def _answers(self, address: str) -> bool:
        try:
            return (await self.workers.get(f"http://{address}/health/live")).is_success
        except httpx.HTTPError:
            return False


class Lending:
    """Files of this machine for pods: each folder's files become a Secret, mounted where workers may read.

    A pod's volumes are fixed before anybody knows the files, so there are as many Secrets as folders that may come.
    """

    def __init__(self, cluster: Cluster, namespace: str, *, folders: int = 8) -> None:
        self._cluster = cluster
        self._secrets = f"/api/v1/namespaces/{namespace}/secrets"
        self._free = [f"lent-{number}" for number in range(folders)]
        self.mounts = {name: f"{POD_DATA}/{name}" for name in self._free}
        """Secret -> folder, as the launcher's settings want them."""
        self._lent: dict[Path, str] = {}
        for name in self._free:
            cluster.api.post(self._secrets, {"metadata": {"name": name}})

    def lend(self, file: Path) -> str:
        """The file's path in pods that start from now on.

        Raises:
            ApiError: the files of its folder are larger than a Secret may be (1 MiB).
        """
        name = self._lent.get(file.parent) or self._lent.setdefault(file.parent, self._free.pop())
        content: dict[str, Any] = {"data": {file.name: base64.b64encode(file.read_bytes()).decode()}}
        try:
            self._cluster.api.patch(f"{self._secrets}/{name}", content)
        except ApiError as error:
            raise ApiError(f"lending {file}", error.status, error.reason, str(error)) from error
        return f"{self.mounts[name]}/{file.name}"
