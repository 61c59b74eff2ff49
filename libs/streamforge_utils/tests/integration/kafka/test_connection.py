"""Clients on real Kafka, ended at any moment."""

import asyncio
import contextlib
import gc
import warnings

import pytest

from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.log import TopicTail, TopicWriter
from streamforge_utils.kafka.transactor import Transactor
from streamforge_utils.settings import KafkaSettings

pytestmark = pytest.mark.integration

TOPIC = "cancelled-starts"
STEPS = 30
LONGEST_S = 0.03
"""A start takes some milliseconds on loopback: the cancellations lie before, within and behind it."""


@pytest.mark.parametrize("kind", ["writer", "tail", "admin"])
async def test_a_start_that_is_cancelled_leaves_no_connection(kafka, kind, request):
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    admin = KafkaAdmin(settings)
    await admin.create_topics([TopicSpec(TOPIC)])
    await admin.close()
    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # what other tests left with a broker that was away is not ours
    gc.freeze()  # each of the collections below is then over the few objects made here
    request.addfinalizer(gc.unfreeze)
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


@pytest.mark.parametrize("kind", ["writer", "transaction", "tail", "admin"])
async def test_a_stop_that_a_silent_broker_holds_up_leaves_no_task_and_no_connection(
    kafka, kind, request, monkeypatch, caplog
):
    monkeypatch.setattr("streamforge_utils.kafka.connection.STOP_SECONDS", 0.3)
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    before = asyncio.all_tasks()
    admin = KafkaAdmin(settings)
    await admin.create_topics([TopicSpec(TOPIC)])
    with warnings.catch_warnings(action="ignore"):
        gc.collect()
    gc.freeze()
    request.addfinalizer(gc.unfreeze)
    client, work, close = await _busy(kind, settings, admin)
    kafka.pause()
    try:
        working = asyncio.create_task(work())
        await asyncio.sleep(0.2)
        assert not working.done()
        async with asyncio.timeout(3):
            await close()
    finally:
        kafka.resume()
    working.cancel()
    await asyncio.wait([working])
    if kind != "admin":
        await admin.close()
    assert asyncio.all_tasks() == before
    del client, work, close, working, admin
    gc.collect()
    assert not [record for record in caplog.records if "never retrieved" in record.message]


async def _busy(kind, settings, admin):
    """A client that is connected, something for it to do, and its end."""
    if kind == "writer":
        writer = TopicWriter(settings)
        await writer.write(TOPIC, [("a", b"1")])
        return writer, lambda: writer.write(TOPIC, [("a", b"2"), ("a", b"3")]), writer.close
    if kind == "tail":
        tail = TopicTail(settings, TOPIC, {0: 0})
        await tail.open()
        return tail, lambda: tail.read(60.0), tail.close
    if kind == "admin":
        await admin.partitions([TOPIC])
        return admin, lambda: admin.partitions([TOPIC]), admin.close
    transactor = Transactor(settings, transactional_id="stuck", former=(), group="stuck", admin=admin)
    await transactor.start()
    outputs = [(TOPIC, b"a", b"1", (), None)]
    await transactor.commit(outputs, {})
    return transactor, lambda: transactor.commit(outputs, {}), transactor.close


def _client(kind, settings):
    if kind == "writer":
        writer = TopicWriter(settings)
        return writer, writer.open
    if kind == "tail":
        tail = TopicTail(settings, TOPIC, {0: 0})
        return tail, tail.open
    admin = KafkaAdmin(settings)
    return admin, lambda: admin.partitions([])
