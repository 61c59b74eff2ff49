"""A real Kubernetes for the tests of this folder: a control plane of their own, or the cluster of KUBECONFIG.

They run with STREAMFORGE_TEST_KUBERNETES=1; with STREAMFORGE_TEST_KUBECONFIG=1 beside it on the cluster of KUBECONFIG.
"""

import asyncio
import json
import os
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing, contextmanager
from pathlib import Path

import httpx
import pytest

from queue_manager.launcher.interface import JobSpec
from queue_manager.launcher.kubernetes.janitor import Patience
from queue_manager.launcher.kubernetes.launcher import KubernetesLauncher
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from streamforge_local.kubernetes.cluster import INDEX, Cluster
from streamforge_local.kubernetes.control_plane import ControlPlane
from streamforge_local.kubernetes.played import annotations, played

HERE = Path(__file__).parent
TEST_TIMEOUT_S = 120
WITHIN_S = 30.0
WORKERS_IMAGE = "streamforge/dummy-service:0.1.0"


def pytest_collection_modifyitems(items):
    skip = pytest.mark.skip(reason="a real Kubernetes; run `make test-kubernetes`")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)
            # The first start may build the programs; every fixture has deadlines of its own.
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S, func_only=True))
            if os.environ.get("STREAMFORGE_TEST_KUBERNETES") != "1":
                item.add_marker(skip)


def _named_cluster():
    """The cluster that the user's environment names, if tests may use it."""
    kubeconfig = os.environ.get("KUBECONFIG")
    return Path(kubeconfig) if kubeconfig and os.environ.get("STREAMFORGE_TEST_KUBECONFIG") == "1" else None


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory):
    """A cluster: one of the tests' own with ten fake nodes, or the one that the environment names."""
    if (kubeconfig := _named_cluster()) is not None:
        with closing(Cluster(kubeconfig)) as named:
            yield named
        return
    with closing(ControlPlane(tmp_path_factory.mktemp("kubernetes"), kwok=True)) as own:
        own.start()
        own.wait_ready()
        yield own


@pytest.fixture
def own_control_plane(control_plane):
    """The tests' own: its servers may be killed, its pods do what their annotations say. Whole again afterwards."""
    if not isinstance(control_plane, ControlPlane):
        pytest.skip("needs servers that it may kill and nodes that kwok plays; unset STREAMFORGE_TEST_KUBECONFIG")
    yield control_plane
    control_plane.start()
    control_plane.wait_ready()


@contextmanager
def _namespace_in(cluster):
    name = cluster.new_namespace()
    try:
        yield name
    finally:
        try:
            cluster.remove_namespace(name)
        except httpx.TransportError:
            # A test that killed the API server has failed already; the folder is thrown away.
            assert isinstance(cluster, ControlPlane)


@pytest.fixture
def namespace(control_plane):
    """A fresh namespace's name; its removal is asked for afterwards."""
    with _namespace_in(control_plane) as name:
        yield name


@pytest.fixture(autouse=True)
def log_archive(tmp_path, monkeypatch):
    """The folder where the logs of pods are kept: nothing of a test stays in the checkout."""
    monkeypatch.setenv("KUBERNETES_LOG_ARCHIVE", str(tmp_path / "logs"))
    return tmp_path / "logs"


# -- launchers alone -----------------------------------------------------------------------------------------------


def make_spec(name="job-a", **more):
    """A launch of a step."""
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


class Stage:
    """Launchers in one namespace, all that is told of their Jobs, and hands for what else happens in a cluster."""

    spec = staticmethod(make_spec)

    def __init__(self, cluster, namespace, patience):
        self.cluster, self.namespace, self.patience = cluster, namespace, patience
        self.core = f"/api/v1/namespaces/{namespace}"
        self.jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self.launchers = []
        self.told = {}
        """Name of a Job -> its statuses as they were told, None at its end."""
        self.launcher()

    @staticmethod
    def program(code, **more):
        """A launch of Python code, for a node that is real."""
        return make_spec(**({"command": ("python", "-c", code), "image": WORKERS_IMAGE} | more))

    def launcher(self, *, settings=None, pod=None, **play):
        """One more; ``pod`` is added to its pods' spec, ``play`` is what they do where nodes are played."""
        parts = {"metadata": {"annotations": annotations(play)} if play else None, "spec": pod}
        patch = {name: part for name, part in parts.items() if part}
        own = {"namespace": self.namespace, "config_map": "", "secret": "", "pod_template_patch": patch}
        made = KubernetesLauncher(KubernetesSettings(**(own | (settings or {}))), patience=self.patience)
        self.launchers.append(made)
        return made

    async def create(self, job=None, **more):
        return await self.launcher(**more).create(job or make_spec())

    @asynccontextmanager
    async def watching(self, launcher=None):
        """While the launcher, by default the first one, watches; it is in step."""
        is_synced = asyncio.Event()
        task = asyncio.create_task(self._follow(launcher or self.launchers[0], is_synced))
        try:
            async with asyncio.timeout(WITHIN_S):
                await is_synced.wait()
            yield self
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _follow(self, launcher, is_synced):
        async with aclosing(launcher.watch()) as events:
            async for event in events:
                if event.synced:
                    is_synced.set()
                else:
                    self.told.setdefault(event.name, []).append(event.status)

    async def until(self, holds, name="job-a", *, within_s=WITHIN_S):
        """The first status, of all that were told, for which it holds."""

        def found():
            return [status for status in self.told.get(name, ()) if status is not None and holds(status)]

        return (await self.sooner_or_later(found, within_s=within_s))[0]

    async def runs(self, name="job-a"):
        """Every replica of it."""
        return await self.until(lambda s: all(o.phase == "running" for o in s.ordinals), name)

    async def ended(self, name="job-a", *, within_s=WITHIN_S):
        return await self.until(lambda s: s.condition is not None and s.live == 0, name, within_s=within_s)

    async def until_gone(self, name="job-a"):
        await self.sooner_or_later(lambda: None in self.told.get(name, ()))

    async def sooner_or_later(self, holds, *, within_s=WITHIN_S):
        """What it returns as soon as that is something; it may be a coroutine function."""
        deadline = time.monotonic() + within_s
        while True:
            found = holds()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            assert time.monotonic() < deadline, self.told
            await asyncio.sleep(0.05)

    async def lines(self, name="job-a", **wanted):
        """The log: replica and text of each line."""
        async with asyncio.timeout(WITHIN_S):
            return [(line.replica, line.line) async for line in self.launchers[0].logs(name, **wanted)]

    async def texts(self, **wanted):
        return [text for _, text in await self.lines(**wanted)]

    async def call(self, method, path, *arguments, **query):
        """A call to the API as its admin."""
        return await asyncio.to_thread(getattr(self.cluster.api, method), path, *arguments, **query)

    async def pods(self, holds=lambda pod: True):
        found = await self.call("get", f"{self.core}/pods")
        return [pod for pod in found["items"] if holds(pod)]

    async def running_pod(self, ordinal=0):
        def is_it(pod):
            number = int(pod["metadata"].get("annotations", {}).get(INDEX) or 0)
            return pod["status"].get("phase") == "Running" and number == ordinal

        return (await self.sooner_or_later(lambda: self.pods(is_it)))[0]

    async def evict(self, pod):
        name = pod["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        await self.call("post", f"{self.core}/pods/{name}/eviction", eviction)


@pytest.fixture
def patience():
    """Of a stage's launchers."""
    return Patience()


@pytest.fixture
def make_stage(monkeypatch, patience):
    """Sets a stage in a fresh namespace of a cluster; nobody watches there yet."""

    @asynccontextmanager
    async def make(cluster):
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        with _namespace_in(cluster) as namespace:
            stage = Stage(cluster, namespace, patience)
            try:
                yield stage
            finally:
                for launcher in stage.launchers:
                    await launcher.close()

    return make


@pytest.fixture
async def stage(control_plane, make_stage):
    """A stage whose first launcher watches."""
    async with make_stage(control_plane) as stage, stage.watching():
        yield stage


@pytest.fixture
async def node_stage(node_cluster, make_stage):
    """The same with real pods."""
    async with make_stage(node_cluster) as stage, stage.watching():
        yield stage


# -- the whole platform --------------------------------------------------------------------------------------------


@pytest.fixture
def stores(kafka, arango, namespace):
    """The environment of Kafka and of a fresh database: what another test left unfinished must not begin again here."""
    url, login = f"{arango.url}/_db/_system/_api/database", (arango.user, arango.password)
    httpx.post(url, json={"name": namespace}, auth=login).raise_for_status()
    return {**kafka.environment, **arango.environment, "ARANGO_DB": namespace}


@pytest.fixture
async def platform(own_control_plane, namespace, stores, tmp_path):
    """Starts the whole platform on played nodes; ``settings`` are the queue-manager's, the rest is what pods do."""
    async with AsyncExitStack() as stack:

        async def start(*, settings=None, **play):
            begun = played(own_control_plane, namespace, tmp_path, stores=stores, settings=settings, **play)
            return await stack.enter_async_context(begun)

        yield start


@pytest.fixture
def told():
    """Notes what a user was told of a fault and after how many seconds: a line in STREAMFORGE_FAULT_TIMES, if set."""

    def note(fault, since, words, *, code=None):
        line = {"fault": fault, "seconds": round(time.monotonic() - since, 2), "code": code, "words": words}
        if path := os.environ.get("STREAMFORGE_FAULT_TIMES"):
            with open(path, "a") as file:
                file.write(json.dumps(line) + "\n")
        return line["seconds"]

    return note
