"""A launcher in a namespace of its own, all that its watch tells, and hands to play the rest of the cluster."""

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

import pytest

from queue_manager.launcher.interface import JobSpec
from queue_manager.launcher.kubernetes.janitor import Patience
from queue_manager.launcher.kubernetes.launcher import KubernetesLauncher
from queue_manager.launcher.kubernetes.settings import KubernetesSettings

TOLD_WITHIN_S = 15.0
PATIENCE = Patience(look_s=0.3, sidecar_s=1.0, node_s=1.0)
SIDECAR = {"name": "proxy", "image": "no.such/proxy:1", "restartPolicy": "Always"}


def job_spec(name="job-a", **more):
    values = {
        "name": name,
        "queue_id": "wf-btcusdt-api_candles_1m-20240801-abc123",
        "step": "loader-candles",
        "target": "loader",
        "launch": 1,
        "installation": "abcd1234",
        "decision_id": "01J4QZ",
        "command": ("python", "-m", "loader_candles"),
        "image": "loader-candles:1",
        "env": {},
        "secret_env": {},
        "replicas": 1,
        "backoff_limit": 0,
        "grace_s": 1.0,
    }
    return JobSpec(**(values | more))


class Stage:
    """See the module."""

    patience = PATIENCE
    spec = staticmethod(job_spec)

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace
        self.core = f"/api/v1/namespaces/{namespace}"
        self.jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self.told = {}
        """Name of a Job -> its statuses as they were told, None at its end."""
        self.is_synced = asyncio.Event()

    def launcher(self, *, sidecar=False, settings=None, **play):
        annotations = {f"streamforge.test/{name.replace('_', '-')}": str(value) for name, value in play.items()}
        patch = {"metadata": {"annotations": annotations}} if annotations else {}
        if sidecar:
            patch["spec"] = {"initContainers": [SIDECAR]}
        given = {"config_map": "", "secret": "", "log_archive": "", "pod_template_patch": patch, **(settings or {})}
        return KubernetesLauncher(KubernetesSettings(namespace=self.namespace, **given), patience=PATIENCE)

    async def create(self, job=None, **more):
        launcher = self.launcher(**more)
        try:
            return await launcher.create(job or job_spec())
        finally:
            await launcher.close()

    @asynccontextmanager
    async def following(self, launcher):
        """While its watch is read."""
        task = asyncio.create_task(self._follow(launcher))
        try:
            yield
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _follow(self, launcher):
        async with aclosing(launcher.watch()) as events:
            async for event in events:
                if event.synced:
                    self.is_synced.set()
                else:
                    self.told.setdefault(event.name, []).append(event.status)

    async def until(self, holds, name="job-a", *, within_s=TOLD_WITHIN_S):
        """The first status, of all that were told, for which it holds."""
        deadline = time.monotonic() + within_s
        while True:
            for status in self.told.get(name, ()):
                if status is not None and holds(status):
                    return status
            assert time.monotonic() < deadline, self.told.get(name)
            await asyncio.sleep(0.02)

    async def until_gone(self, name="job-a"):
        await self.sooner_or_later(lambda: None in self.told.get(name, ()))

    async def sooner_or_later(self, holds, *, within_s=TOLD_WITHIN_S):
        """Wait until it holds; it may be a coroutine function."""
        deadline = time.monotonic() + within_s
        while True:
            found = holds()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            assert time.monotonic() < deadline, self.told
            await asyncio.sleep(0.05)

    async def call(self, method, path, *arguments, **query):
        return await asyncio.to_thread(getattr(self.cluster.api, method), path, *arguments, **query)

    async def warn(self, thing, reason, message):
        """An event such as a kubelet writes."""
        meta = thing["metadata"]
        concerned = {"kind": "Pod", "namespace": self.namespace, "name": meta["name"], "uid": meta["uid"]}
        event = {"type": "Warning", "reason": reason, "message": message, "lastTimestamp": stamp()}
        named = {"generateName": "test-", "namespace": self.namespace}
        await self.call("post", f"{self.core}/events", {"metadata": named, "involvedObject": concerned, **event})

    async def pods(self, holds=lambda pod: True):
        found = await self.call("get", f"{self.core}/pods")
        return [pod for pod in found["items"] if holds(pod)]

    async def running_pod(self, ordinal=0):
        """The pod that kwok has started."""

        def is_it(pod):
            number = pod["metadata"]["annotations"].get("batch.kubernetes.io/job-completion-index", 0)
            return pod["status"].get("phase") == "Running" and int(number) == ordinal

        return (await self.sooner_or_later(lambda: self.pods(is_it)))[0]

    async def play(self, pod, *, code, phase="Running", message="", sidecar=True):
        """As a kubelet would say it: the worker has ended, its sidecar has not."""
        at, begun = stamp(), pod["status"].get("startTime", stamp())
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": begun, "finishedAt": at}
        status = {
            "phase": phase,
            "containerStatuses": [self.container("loader", {"terminated": {**ended, "message": message}})],
        }
        if sidecar:
            status["initContainerStatuses"] = [self.container("proxy", {"running": {"startedAt": begun}})]
        await self.call("patch", f"{self.core}/pods/{pod['metadata']['name']}/status", {"status": status})

    @staticmethod
    def container(name, state):
        return {"name": name, "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}


def stamp():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def make_stage(monkeypatch):
    """Begins a stage in a namespace of a cluster; its watch is in step."""

    @asynccontextmanager
    async def make(cluster, namespace):
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        stage = Stage(cluster, namespace)
        launcher = stage.launcher()
        async with stage.following(launcher):
            async with asyncio.timeout(TOLD_WITHIN_S):
                await stage.is_synced.wait()
            yield stage
        await launcher.close()

    return make


@pytest.fixture
async def stage(control_plane, namespace, make_stage):
    async with make_stage(control_plane, namespace) as stage:
        yield stage
