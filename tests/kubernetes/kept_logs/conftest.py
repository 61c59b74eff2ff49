"""A launcher and its archive, on nodes that kwok plays or on a real one."""

import asyncio
from contextlib import aclosing, asynccontextmanager

import pytest

from queue_manager.launcher.interface import JobSpec
from queue_manager.launcher.kubernetes.archive import Archive, Kept
from queue_manager.launcher.kubernetes.launcher import KubernetesLauncher
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from queue_manager.launcher.kubernetes.spool import Spool

SEEN_WITHIN_S = 15.0
BEGAN = 1_790_000_000.0
"""When the first of the pods was made that are played in the archive."""


def job_spec(name="job-a", **more):
    values = {
        "name": name,
        "queue_id": "wf-btcusdt-api_candles_1m-20240801-abc123",
        "step": "load",
        "target": "loader-candles",
        "launch": 2,
        "installation": "abcd1234",
        "decision_id": "01J4QZ",
        "command": ("python", "-m", "loader_candles"),
        "image": "loader-candles:1",
        "env": {},
        "secret_env": {},
        "replicas": 1,
        "backoff_limit": 0,
        "grace_s": 30.0,
    }
    return JobSpec(**(values | more))


class Scene:
    """Launchers with one archive, and what one of them watches."""

    spec = staticmethod(job_spec)

    def __init__(self, cluster, namespace, folder):
        self.cluster, self.namespace, self.folder = cluster, namespace, folder
        self.launchers = []
        self.seen = {}

    def launcher(self, *, settings=None, **play):
        annotations = {f"streamforge.test/{name}": str(value) for name, value in play.items()}
        patch = {"metadata": {"annotations": annotations}} if annotations else {}
        settings = KubernetesSettings(
            namespace=self.namespace,
            config_map="",
            secret="",
            pod_template_patch=patch,
            log_archive=str(self.folder),
            **(settings or {}),
        )
        self.launchers.append(KubernetesLauncher(settings))
        return self.launchers[-1]

    async def keep(self, uid, *lines, ordinal=0, life=0, job="job-a"):
        """A log in the archive, of a pod that was made so many seconds after the first; (second, text) each."""
        archive = Archive(KubernetesSettings(log_archive=str(self.folder)))
        with Spool(100_000) as spool:
            for second, text in lines:
                await spool.add(BEGAN + second, text)
            with await spool.packed({"step": "load", "launch": "2"}) as packed:
                await archive.put(Kept(job=job, created_at=BEGAN + life, ordinal=ordinal, uid=uid), packed)

    async def texts(self, name="job-a", **wanted):
        return [text for _, text in await self.lines(name, **wanted)]

    async def until_gone(self, name="job-a"):
        async with asyncio.timeout(2 * SEEN_WITHIN_S):
            while self.seen.get(name):
                await asyncio.sleep(0.02)

    async def until_lines(self, wanted):
        """The log, as soon as it is so long: what a pod says last is stored when it is gone."""
        async with asyncio.timeout(2 * SEEN_WITHIN_S):
            while len(found := await self.texts()) < len(wanted):
                await asyncio.sleep(0.1)
        assert found == wanted

    async def lines(self, name="job-a", **wanted):
        async with asyncio.timeout(SEEN_WITHIN_S):
            return [(line.replica, line.line) async for line in self.launchers[0].logs(name, **wanted)]

    @asynccontextmanager
    async def watching(self, launcher):
        async def watch():
            async with aclosing(launcher.watch()) as events:
                async for event in events:
                    self.seen[event.name] = event.status

        task = asyncio.create_task(watch())
        try:
            yield
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def until(self, holds, name="job-a"):
        async with asyncio.timeout(SEEN_WITHIN_S):
            while not ((status := self.seen.get(name)) and holds(status)):
                await asyncio.sleep(0.02)
        return status

    async def call(self, method, path, *arguments):
        return await asyncio.to_thread(getattr(self.cluster.api, method), path, *arguments)


@pytest.fixture
async def scene(control_plane, namespace, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    scene = Scene(control_plane, namespace, tmp_path / "logs")
    scene.launcher()
    yield scene
    for launcher in scene.launchers:
        await launcher.close()


@pytest.fixture
async def node_scene(node_cluster, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(node_cluster.kubeconfig))
    namespace = node_cluster.new_namespace()
    scene = Scene(node_cluster, namespace, tmp_path / "logs")
    scene.launcher()
    yield scene
    for launcher in scene.launchers:
        await launcher.close()
    node_cluster.remove_namespace(namespace)
