"""A pytest plugin: real servers for tests, once a session, and a watch on leaked tasks. For tests alone.

The servers are started without an event loop, so that any test's loop can use them.
"""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
import pytest_asyncio

from streamforge_local.kafka.broker import Broker
from streamforge_local.paths import repository_root
from streamforge_local.ports import free_port
from streamforge_local.stack.parts import ARANGO_DATABASE, ARANGO_USER, ArangoPart, KafkaPart
from streamforge_local.stack.process import PartProcess

if TYPE_CHECKING:
    from streamforge_local.kubernetes.control_plane import ControlPlane

LEAK_GRACE_S = 0.5


class KafkaServer(PartProcess):
    """A real broker; after ``kill`` or ``stop`` comes ``start``, then ``wait_ready``: the same port, the same data."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        part = KafkaPart(Broker(folder / "kafka", port, free_port(frozenset({port}))))
        super().__init__(part, log=folder / "kafka.log", mark=str(folder))
        self.bootstrap_servers = part.address
        self.environment = part.environment()


class ArangoServer(PartProcess):
    """A real arango-local; the same handles as KafkaServer."""

    def __init__(self, folder: Path) -> None:
        part = ArangoPart(folder / "arango", free_port())
        super().__init__(part, log=folder / "arango.log", mark=str(folder))
        self.url = part.address
        self.database = ARANGO_DATABASE
        self.user = ARANGO_USER
        self.password = part.password
        self.environment = part.environment()


S = TypeVar("S", bound=PartProcess)


def _running(server: S) -> Iterator[S]:
    try:
        server.start()
        server.wait_ready()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """Real Kafka on a free port, with ``queue-control`` and ``queue-events``."""
    yield from _running(KafkaServer(tmp_path_factory.mktemp("kafka")))


@pytest.fixture(scope="session")
def arango(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArangoServer]:
    """A real arango-local on a free port, with an empty database."""
    yield from _running(ArangoServer(tmp_path_factory.mktemp("arango")))


@pytest.fixture(scope="session")
def able_machine() -> None:
    """Skips where no real node can be; in CI (``CI=true``) that is a failure."""
    from streamforge_local.kubernetes.node import why_no_node  # noqa: PLC0415 - most tests want no cluster

    if os.environ.get("STREAMFORGE_TEST_KUBECONFIG") == "1":
        pytest.skip("needs a node of its own with the workers' images; leave KUBECONFIG out")
    if (reason := why_no_node()) is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture(scope="session")
def node_cluster(able_machine: None, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ControlPlane]":
    """A Kubernetes with one real node, which has the images of all targets."""
    from streamforge_local.kubernetes.control_plane import ControlPlane  # noqa: PLC0415 - most tests want no cluster
    from streamforge_local.kubernetes.python_image import worker_image  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("node")
    with closing(ControlPlane(folder, node=True)) as cluster:
        cluster.start()
        cluster.wait_ready()
        image = worker_image(folder / "workers.tar")
        cluster.load_image(image)
        image.unlink()
        yield cluster


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real input, which its licence keeps out of the repository; skips where it is not."""
    folder = Path(os.environ.get("STREAMFORGE_SHARED_DATA") or repository_root().parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("needs the real input data; set STREAMFORGE_SHARED_DATA to its folder")
    return folder


@pytest_asyncio.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fails a test that leaves asyncio tasks behind; given to every coroutine test."""
    before = asyncio.all_tasks()
    yield
    leaked = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
    if leaked:
        _, leaked = await asyncio.wait(leaked, timeout=LEAK_GRACE_S)
    if leaked:
        pytest.fail(f"left behind: {'; '.join(sorted(map(repr, leaked)))}", pytrace=False)


def pytest_sessionstart() -> None:
    """Without this a plugin that asks for the loop of a test that has none makes one, which nobody closes."""
    asyncio.set_event_loop(None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a real node; have every coroutine test watched.

    First of the fixtures is last to be torn down: what other fixtures leave counts too.
    """
    for item in items:
        if "able_machine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.node)
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_leaked_tasks")
