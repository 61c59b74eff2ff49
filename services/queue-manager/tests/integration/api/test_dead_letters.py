"""Dead letters on a real broker: sent back once, whoever calls how often."""

import asyncio
from uuid import uuid4

import pytest

from streamforge_utils.contracts.dead_letters import DeadLetter
from streamforge_utils.errors import FencedError
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.dead_letters import KafkaDeadLetters
from streamforge_utils.kafka.stream import StreamReader
from streamforge_utils.kafka.transactor import Transactor
from streamforge_utils.pipeline.ports import Output
from streamforge_utils.settings import KafkaSettings

pytestmark = pytest.mark.integration
COUNT = 5


@pytest.fixture
def settings(kafka):
    return KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)


@pytest.fixture
async def queue_id(settings):
    """A workflow's topics: a stream of two partitions, and dead letters of two steps and of a source."""
    queue = f"wf-x-{uuid4().hex[:8]}"
    admin = KafkaAdmin(settings)
    await admin.create_topics([TopicSpec(f"{queue}-data", 2), TopicSpec(f"{queue}-dead-letter")])
    letters = [
        DeadLetter(
            step="store" if number % 2 else "stage",
            code="not-json",
            reason=f"number {number}",
            topic=f"{queue}-data",
            partition=number % 2,
            offset=number,
            key=b"k",
            value=b"v%d" % number,
            position="line 7" if number == 4 else None,
            original_headers=(("schema", b"candle.v1"),),
        )
        for number in range(COUNT)
    ]
    writer = Transactor(settings, transactional_id=f"{queue}-writer", former=(), group=queue, admin=admin)
    await writer.start()
    outputs = [Output(f"{queue}-dead-letter", x.key, x.value, x.headers(), 0) for x in letters]
    await writer.commit([*outputs, Output(f"{queue}-dead-letter", None, b"?", (("strange", b"1"),), 0)], {})
    await writer.close()
    await admin.close()
    return queue


@pytest.fixture
async def letters(settings):
    made = KafkaDeadLetters(settings)
    yield made
    await made.close()


async def returned(settings, queue, count):
    """The stream's records as (partition, value, headers), at least ``count``, and no more than come in a while."""
    reader, found = StreamReader(settings), []
    await reader.start({(f"{queue}-data", 0): -1, (f"{queue}-data", 1): -1})
    try:
        async with asyncio.timeout(1.5):
            while True:
                taken = await reader.fetch(max_records=100, max_bytes=10**6, linger_s=0.2)
                found += [(tp[1], r.value, r.headers) for tp, records in taken.items() for r in records]
                if len(found) > count:
                    break
    except TimeoutError:
        pass
    finally:
        await reader.close()
    return found


async def test_a_workflow_without_the_topic_has_none(letters):
    assert await letters.read("wf-nobody-dead-letter", after=-1, limit=10) == []


async def test_letters_are_listed_in_pages(letters, queue_id):
    first = await letters.read(f"{queue_id}-dead-letter", after=-1, limit=3)
    rest = await letters.read(f"{queue_id}-dead-letter", after=first[-1].offset, limit=3)
    assert [kept.letter.value for kept in (*first, *rest)] == [b"v%d" % number for number in range(COUNT)]
    assert not any(kept.is_redriven for kept in (*first, *rest))


async def test_all_go_back_once_to_their_partition_with_step_and_origin(settings, letters, queue_id):
    topic = f"{queue_id}-dead-letter"
    first = await letters.redrive(queue_id, topic, None)
    again = await letters.redrive(queue_id, topic, None)
    assert (len(first.sent), len(again.sent)) == (4, 0)
    assert first.totals == again.totals == {"stage": 2, "store": 2}
    found = await returned(settings, queue_id, 4)
    assert sorted((partition, value) for partition, value, _ in found) == [
        (0, b"v0"),
        (0, b"v2"),
        (1, b"v1"),
        (1, b"v3"),
    ]
    by_value = {value: headers for _, value, headers in found}
    assert by_value[b"v3"] == (
        ("for-step", b"store"),
        ("origin", f"{queue_id}-data/1/3".encode()),
        ("schema", b"candle.v1"),
    )
    kept = await letters.read(topic, after=-1, limit=10)
    assert [k.is_redriven for k in kept] == [True] * 4 + [False]


async def test_the_named_ones_go_back_and_the_others_are_told(settings, letters, queue_id):
    topic = f"{queue_id}-dead-letter"
    await letters.redrive(queue_id, topic, [1])
    done = await letters.redrive(queue_id, topic, [0, 1, 4, 99])
    assert set(done.sent) == {0}
    assert done.skipped == {
        1: "sent back before",
        4: "came from a source, not from a stream",
        99: "no such dead letter",
    }
    assert len(await returned(settings, queue_id, 2)) == 2


async def test_calls_at_the_same_time_never_send_twice(settings, letters, queue_id):
    topic = f"{queue_id}-dead-letter"
    done = await asyncio.gather(*(letters.redrive(queue_id, topic, None) for _ in range(3)))
    assert sorted(len(one.sent) for one in done) == [0, 0, 4]
    assert len(await returned(settings, queue_id, 4)) == 4


async def test_two_replicas_at_the_same_time_never_send_twice(settings, letters, queue_id):
    topic, other = f"{queue_id}-dead-letter", KafkaDeadLetters(settings)
    calls = [one.redrive(queue_id, topic, None) for one in (letters, other)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    await other.close()
    failed = [one for one in done if isinstance(one, BaseException)]
    assert all(isinstance(error, FencedError) for error in failed), failed
    assert (await letters.redrive(queue_id, topic, None)).totals == {"stage": 2, "store": 2}
    assert len(await returned(settings, queue_id, 4)) == 4
