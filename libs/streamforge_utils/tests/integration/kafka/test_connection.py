"""Clients on real Kafka, ended at any moment."""

import asyncio
import contextlib
import gc
import warnings

import pytest

from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.log import TopicTail, TopicWriter
from streamforge_utils.settings import KafkaSettings

pytestmark = pytest.mark.integration

TOPIC = "cancelled-starts"
STEPS = 30
LONGEST_S = 0.03
"""A start takes some milliseconds on loopback: the cancellations lie before, within and behind it."""


@pytest.mark.parametrize("kind", ["writer", "tail", "admin"])
async def test_a_start_that_is_cancelled_leaves_no_connection(kafka, kind):
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    admin = KafkaAdmin(settings)
    await admin.create_topics([TopicSpec(TOPIC)])
    await admin.close()
    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # what other tests left with a broker that was away is not ours
    ends = set()
    for number in range(STEPS):
        client, start = _client(kind, settings)
        starting = asyncio.create_task(start())
        await asyncio.sleep(LONGEST_S * number / STEPS)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        ends.add(starting.cancelled())
        await client.close()
        del client, start, starting
        gc.collect()  # a connection that is left open warns now, which is an error
    assert ends == {True, False}


def _client(kind, settings):
    if kind == "writer":
        writer = TopicWriter(settings)
        return writer, writer.open
    if kind == "tail":
        tail = TopicTail(settings, TOPIC, {0: 0})
        return tail, tail.open
    admin = KafkaAdmin(settings)
    return admin, lambda: admin.partitions([])
