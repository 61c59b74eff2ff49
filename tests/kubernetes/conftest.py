"""A real Kubernetes for the tests of this folder: a control plane of their own, or the cluster of KUBECONFIG.

They run with STREAMFORGE_TEST_KUBERNETES=1; with STREAMFORGE_TEST_KUBECONFIG=1 beside it on the cluster of KUBECONFIG.
"""

import json
import os
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path

import httpx
import pytest

from streamforge_local.kubernetes.cluster import Cluster
from streamforge_local.kubernetes.control_plane import ControlPlane
from streamforge_local.kubernetes.played import played

HERE = Path(__file__).parent
TEST_TIMEOUT_S = 120


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


@pytest.fixture
def namespace(control_plane):
    """A fresh namespace's name; its removal is asked for afterwards."""
    name = control_plane.new_namespace()
    try:
        yield name
    finally:
        try:
            control_plane.remove_namespace(name)
        except httpx.TransportError:
            # A test that killed the API server has failed already; the folder is thrown away.
            assert isinstance(control_plane, ControlPlane)


@pytest.fixture(autouse=True)
def log_archive(tmp_path, monkeypatch):
    """Where the logs of pods are kept: nothing of a test stays in the checkout."""
    monkeypatch.setenv("KUBERNETES_LOG_ARCHIVE", str(tmp_path / "logs"))


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
