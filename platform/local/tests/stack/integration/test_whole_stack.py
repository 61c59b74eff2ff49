"""All four parts together, as `make up` starts them."""

import http.client

import pytest

from streamforge_local.paths import Home
from streamforge_local.stack.leftovers import leftovers
from streamforge_local.stack.supervisor import running_stack

pytestmark = pytest.mark.integration


def status(address, path):
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("security", ["plaintext", "scram"])
async def test_the_queue_manager_gets_ready_on_the_stack(tmp_path, security):
    async with running_stack("kafka", "arango", "node", "queue-manager", home=tmp_path, security=security) as stack:
        assert status(stack.address("queue-manager"), "/health/ready") == 200
        assert {"QUEUE_MANAGER_URL", "KAFKA_BOOTSTRAP_SERVERS", "ARANGO_PASSWORD"} <= stack.env().keys()
        await stack.kill("queue-manager")
        await stack.wait_ready("queue-manager")
        assert status(stack.address("queue-manager"), "/health/ready") == 200
    assert leftovers(Home.at(tmp_path)) == []
