"""A whole platform on played nodes: a queue-manager whose launcher is a real cluster, and voices for its pods.

Kafka and the store are the caller's. A client like any other: it knows the HTTP API, the cluster's API, and signals.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from streamforge_local.failures import StackError
from streamforge_local.kubernetes.cluster import Cluster
from streamforge_local.kubernetes.voices import PLAY, Voices
from streamforge_local.paths import repository_root
from streamforge_utils.settings import KafkaSettings, read_settings

Json = dict[str, Any]

BODY: Json = {"symbol": "BTCUSDT", "type": "api_candles_1m", "time_range": "2024-08-01:2024-08-02"}
POLL_S = 0.05
START_S = 30.0
STOP_S = 20.0


def annotations(play: Mapping[str, object]) -> dict[str, str | None]:
    """What pods shall do (``stages.yaml``), as annotations; None takes one away."""
    return {f"{PLAY}{name.replace('_', '-')}": None if told is None else str(told) for name, told in play.items()}


def settings_of(cluster: Cluster, namespace: str, **play: object) -> dict[str, str]:
    """The environment of a queue-manager whose pods are played, each as ``play`` says, and need be told nothing."""
    root = repository_root()
    return {
        "LAUNCHER": "kubernetes",
        "KUBECONFIG": str(cluster.kubeconfig),
        "KUBERNETES_NAMESPACE": namespace,
        "KUBERNETES_CONFIG_MAP": "",
        "KUBERNETES_SECRET": "",
        "KUBERNETES_POD_TEMPLATE_PATCH": json.dumps({"metadata": {"annotations": annotations(play)}}),
        "TARGETS_DIRS": str(root / "services"),
        "TEMPLATES_DIRS": str(root / "templates"),
    }


@dataclass(slots=True)
class Played:
    """The platform in one namespace. ``manager`` is the queue-manager's process."""

    cluster: Cluster
    namespace: str
    api: httpx.AsyncClient
    manager: "subprocess.Popen[bytes]"
    log: Path
    voices: Voices

    # --- workflows ---------------------------------------------------------------------------------------------------

    async def submit(self, target: str = "dummy-service", **step: Any) -> str:
        """POST a workflow of one step; its id."""
        body = {**BODY, "steps": [{"target": target, **step}]}
        answer = await self.api.post("/api/v1/workflows", json=body)
        if answer.status_code != httpx.codes.ACCEPTED:
            raise StackError(f"POST /workflows: {answer.status_code} {answer.text}")
        return str(answer.json()["queue_id"])

    async def get(self, queue_id: str) -> Json:
        """The workflow as the API shows it."""
        answer = await self.api.get(f"/api/v1/workflows/{queue_id}")
        answer.raise_for_status()
        return dict(answer.json())

    async def until(self, queue_id: str, holds: Callable[[Json], object], *, within_s: float) -> Json:
        """The workflow, as soon as the API shows it so.

        Raises:
            StackError: it did not within that time; with what was shown last.
        """
        deadline, shown = time.monotonic() + within_s, Json()
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                shown = await self.get(queue_id)
                if holds(shown):
                    return shown
            await asyncio.sleep(POLL_S)
        raise StackError(f"{queue_id} is not so after {within_s:g} s: {json.dumps(shown)} (log: {self.log})")

    async def tells(self, queue_id: str, code: str, *, within_s: float) -> Json:
        """The reason of that code, as soon as the API shows it."""
        shown = await self.until(queue_id, lambda w: (w["reason"] or {}).get("code") == code, within_s=within_s)
        return dict(shown["reason"])

    async def ends(self, queue_id: str, state: str = "finished", *, within_s: float = 30.0) -> Json:
        """The workflow, as soon as it is in that state; another final one is told at once."""

        def has_ended(shown: Json) -> bool:
            return shown["state"] in ("finished", "failed", "interrupted")

        shown = await self.until(queue_id, has_ended, within_s=within_s)
        if shown["state"] != state:
            raise StackError(f"{queue_id} is {shown['state']}, not {state}: {json.dumps(shown)} (log: {self.log})")
        return shown

    async def runs(self, queue_id: str, *, within_s: float = 30.0) -> Json:
        """The workflow, as soon as all its steps run."""
        return await self.until(queue_id, lambda w: {s["state"] for s in w["steps"]} == {"running"}, within_s=within_s)

    # --- the cluster -------------------------------------------------------------------------------------------------

    async def call(self, method: str, path: str, *arguments: Any, **query: Any) -> Json:
        """A call to the cluster's API as its admin."""
        return dict(await asyncio.to_thread(getattr(self.cluster.api, method), path, *arguments, **query))

    @property
    def core(self) -> str:
        """Path of the namespace's pods and quotas."""
        return f"/api/v1/namespaces/{self.namespace}"

    @property
    def jobs(self) -> str:
        """Path of the namespace's Jobs."""
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    async def pods(self, queue_id: str) -> list[Json]:
        """The workflow's pods that are not over."""
        found = await self.call("get", f"{self.core}/pods", labelSelector=f"queue_id={queue_id}")
        return [pod for pod in found["items"] if pod["status"].get("phase") in ("Pending", "Running")]

    async def play(self, queue_id: str, **play: object) -> None:
        """Say anew what the workflow's pods shall do."""
        for pod in await self.pods(queue_id):
            path = f"{self.core}/pods/{pod['metadata']['name']}"
            await self.call("patch", path, {"metadata": {"annotations": annotations(play)}})


@asynccontextmanager
async def played(
    cluster: Cluster,
    namespace: str,
    folder: Path,
    *,
    stores: Mapping[str, str],
    settings: Mapping[str, str] | None = None,
    **play: object,
) -> AsyncIterator[Played]:
    """Run it while the block lasts.

    Args:
        cluster: A cluster whose nodes kwok plays.
        namespace: Where the Jobs go.
        folder: For the log.
        stores: The environment of Kafka and ArangoDB.
        settings: More environment for the queue-manager.
        play: What every pod does: names and values of ``stages.yaml``.
    """
    kafka = {name[6:].lower(): value for name, value in stores.items() if name.startswith("KAFKA_")}
    voices = Voices(read_settings(KafkaSettings, **kafka), cluster.access, namespace)
    log = folder / f"queue-manager-{time.monotonic_ns()}.log"
    environment = {
        "PATH": os.environ["PATH"],
        "PORT": "0",
        **settings_of(cluster, namespace, **play),
        **stores,
        **(settings or {}),
    }
    speaking = asyncio.create_task(voices.run(), name="voices")
    with log.open("wb") as output:
        command = (sys.executable, "-m", "queue_manager")
        manager = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=folder)  # noqa: S603, ASYNC220
    try:
        address = await _address(manager, log)
        async with httpx.AsyncClient(base_url=address, timeout=15.0) as api:
            await _started(api, log)
            yield Played(cluster, namespace, api, manager, log, voices)
        if speaking.done():
            speaking.result()
    finally:
        speaking.cancel()
        await asyncio.wait([speaking])
        for number in (signal.SIGTERM, signal.SIGCONT):
            manager.send_signal(number)
        try:
            await asyncio.to_thread(manager.wait, STOP_S)
        except subprocess.TimeoutExpired:
            manager.kill()
            manager.wait()


async def _address(manager: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where its API listens, from its log."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and manager.poll() is None:
        for line in log.read_text().splitlines():  # noqa: ASYNC240
            if '"listening"' in line:
                told = json.loads(line)
                return f"http://{told['host']}:{told['port']}"
        await asyncio.sleep(POLL_S)
    raise StackError(f"the queue-manager does not listen: {log.read_text()[-2000:]}")  # noqa: ASYNC240


async def _started(api: httpx.AsyncClient, log: Path) -> None:
    """Until it takes workflows."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if (await api.get("/health/startup")).is_success:
            return
        await asyncio.sleep(POLL_S)
    raise StackError(f"the queue-manager does not take workflows: {log.read_text()[-2000:]}")  # noqa: ASYNC240
