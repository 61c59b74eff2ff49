"""The transactor on the client's own state machine; the network alone is left out."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced, UnknownError

from streamforge_utils.errors import FencedError, TransientError
from streamforge_utils.kafka import transactor as module
from streamforge_utils.kafka.transactor import Transactor
from streamforge_utils.pipeline.ports import Output, Position
from streamforge_utils.settings import KafkaSettings

POSITION = {("in", 0): Position(2, "")}


@pytest.fixture
async def producer():
    """Has its id, and is not connected."""
    made = AIOKafkaProducer(
        bootstrap_servers="127.0.0.1:1", transactional_id="s-1-0", acks="all", request_timeout_ms=100
    )
    made._txn_manager.set_pid_and_epoch(7, 0)
    yield made
    made._closed = True  # it never started
    waiter = made._txn_manager._transaction_waiter
    if waiter is not None and waiter.done():
        waiter.exception()
    for batches in made._message_accumulator._batches.values():
        for batch in batches:
            batch._drain_waiter.cancel()


def transactor(producer, **partitions):
    made = Transactor(KafkaSettings(), transactional_id="s-1-0", former=[], group="g", admin=None)
    made._producer, made._partitions = producer, partitions
    return made


async def test_a_producer_that_is_fenced_while_a_topic_is_looked_up_is_told_as_fenced(producer):
    known = {"data"}
    producer._metadata.partitions_for_topic = lambda topic: {0} if topic in known else None

    async def look_up(topic):
        if topic not in known:
            await asyncio.sleep(0.01)
            known.add(topic)
        return {0}

    async def sender():
        while not producer._txn_manager.partitions_to_add():
            await asyncio.sleep(0)
        raise ProducerFenced

    producer.client._wait_on_metadata = look_up
    sending = asyncio.ensure_future(sender())
    sending.add_done_callback(producer._sender._fail_all)
    outputs = [Output("data", b"1", b"{}", ()), Output("dead", b"2", b"x", (), 0)]
    with pytest.raises(FencedError):
        await transactor(producer, data=1).commit(outputs, POSITION)
    assert isinstance(sending.exception(), ProducerFenced)


async def test_a_transaction_that_hangs_is_left_for_a_fresh_producer(producer, monkeypatch):
    monkeypatch.setattr(module, "COMMIT_S", 0.3)
    producer._metadata.partitions_for_topic = lambda topic: {0}

    async def look_up(topic):
        return {0}

    producer.client._wait_on_metadata = look_up
    outputs = [Output("data", b"k", b"x", ())]
    began = asyncio.get_running_loop().time()
    with pytest.raises(TransientError, match="the transaction of s-1-0"):
        await transactor(producer, data=1).commit(outputs, POSITION)
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.3, abs=0.1)


async def test_a_broker_that_fails_within_a_transaction_may_have_fenced_us(producer):
    """What Kafka 4.2 answers to the end of a transaction while a successor fences its writer: error -1."""
    producer._metadata.partitions_for_topic = lambda topic: {0}

    async def look_up(topic):
        return {0}

    async def sender():
        while not producer._txn_manager.partitions_to_add():
            await asyncio.sleep(0)
        try:
            raise UnknownError
        except UnknownError as error:  # as the client's own routine tells it
            raise KafkaError("Unexpected error during batch delivery") from error

    producer.client._wait_on_metadata = look_up
    sending = asyncio.ensure_future(sender())
    sending.add_done_callback(producer._sender._fail_all)
    with pytest.raises(FencedError, match="a successor may have taken over"):
        await transactor(producer, data=1).commit([Output("data", b"1", b"{}", ())], POSITION)
    assert isinstance(sending.exception(), KafkaError)
