"""Requests drawn from the OpenAPI document: whatever comes, the answer is one that the document describes."""

import socket
import threading

import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # now: Python 3.11 cannot collect garbage while this deep module is compiled
import uvicorn
from hypothesis import HealthCheck, given, settings
from prometheus_client import CollectorRegistry
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from queue_manager.api import ApiSettings, Parts, create_app
from queue_manager.launcher.memory import MemoryLauncher
from queue_manager.resolve import Limits, Resolver
from queue_manager.store.memory import MemoryStore
from queue_manager.targets import read_targets
from queue_manager.templates import read_templates
from streamforge_utils.observability import Health

pytestmark = pytest.mark.integration
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


class Nobody:
    """Controller, workers and topics of an installation in which nothing runs."""

    def submitted(self, document): ...
    def nudge(self, queue_id): ...
    async def ping(self, queue_id, *, expected, timeout_s):
        return []

    async def read(self, topic, *, after, limit):
        return []

    async def close(self): ...


@pytest.fixture
def url(request):
    root = request.config.rootpath
    targets, templates = read_targets([root / "services"]), read_templates([root / "templates"])
    limits = Limits(max_replicas=8, max_partitions=8, data_roots=(), reserved_collections=frozenset())
    parts = Parts(
        store=MemoryStore(),
        launcher=MemoryLauncher(),
        pinger=Nobody(),
        dead_letters=Nobody(),
        targets=targets,
        templates=templates,
        resolver=Resolver(targets, templates, limits),
        health=Health(),
        registry=CollectorRegistry(),
        controller=Nobody(),
        settings=ApiSettings(),
        installation="test0001",
    )
    server = uvicorn.Server(uvicorn.Config(create_app(parts), lifespan="off", log_config=None, access_log=False))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


def test_any_request_gets_an_answer_as_described(url):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.include(path_regex="^/api/v1").get_all_operations()]
    assert len(operations) == 13
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def check(case):
            case.call_and_validate(checks=CHECKS)

        check()
