"""What a pod meets: a broker that knows itself by another address, behind the relay that has that address."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from streamforge_local.failures import StackError
from streamforge_local.kafka.broker import Broker, PodListener
from streamforge_local.ports import free_port
from streamforge_local.stack.parts import KafkaPart, RelayPart
from streamforge_local.stack.process import PartProcess
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.settings import KafkaSettings

pytestmark = pytest.mark.integration

HOST = "127.0.0.2"
"""Stands for this machine's address in a pod network: Linux has all of 127.0.0.0/8."""


@asynccontextmanager
async def admin_of(settings):
    admin = KafkaAdmin(settings)
    try:
        yield admin
    finally:
        await admin.close()


@pytest.fixture(params=["plaintext", "scram"])
def kafka_for_pods(request, tmp_path):
    """The broker's part, running, and its relay."""
    listener = PodListener(HOST, free_port())
    broker = Broker(tmp_path / "kafka", free_port(), free_port(), request.param, pods=listener)
    parts = [KafkaPart(broker), RelayPart(HOST, (listener.port,))]
    processes = [PartProcess(part, log=tmp_path / f"{part.name}.log", mark=str(tmp_path)) for part in parts]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.wait_ready()
        yield parts[0]
    finally:
        for process in reversed(processes):
            process.close()


async def test_a_client_that_knows_the_other_address_alone_can_work(kafka_for_pods):
    env = kafka_for_pods.environment()
    given = {name.removeprefix("KAFKA_").lower(): value for name, value in env.items()}
    settings = KafkaSettings(**given | {"bootstrap_servers": kafka_for_pods.broker.pods.address})
    async with admin_of(settings) as admin:
        await admin.create_topics([TopicSpec("wf-a-data", replication=1)])
        async with asyncio.timeout(10):
            while await admin.partitions(["wf-a-data", "queue-events"]) != {"wf-a-data": 1, "queue-events": 3}:
                await asyncio.sleep(0.05)  # a new topic shows a moment later


def test_an_address_that_another_program_has_is_said_in_one_line(kafka, tmp_path):
    port = int(kafka.bootstrap_servers.rpartition(":")[2])
    process = PartProcess(RelayPart("127.0.0.1", (port,)), log=tmp_path / "relay.log", mark=str(tmp_path))
    process.start()
    try:
        while process.is_running:
            time.sleep(0.05)
        with pytest.raises(StackError, match=r"^relay: ended with exit code 1: .*in use.*relay\.log\)$"):
            process.check()
    finally:
        process.close()
