"""What is asked of Kafka beside records, on a real broker."""

import asyncio

import pytest
from ulid import ULID

from streamforge_utils.errors import TransientError
from streamforge_utils.kafka import admin as module
from streamforge_utils.kafka.admin import TopicSpec
from streamforge_utils.kafka.log import TopicWriter

pytestmark = pytest.mark.integration


@pytest.fixture
def names():
    run = str(ULID()).lower()
    return [f"one-{run}", f"two-{run}"]


async def test_the_ends_of_several_topics_are_told_at_once(settings, admin, names):
    one, two = names
    await admin.create_topics([TopicSpec(one), TopicSpec(two, partitions=3)])
    writer = TopicWriter(settings)
    await writer.write(one, [("a", b"1"), ("a", b"2")])
    await writer.write(two, [("a", b"1")])
    await writer.close()
    ends = await admin.end_offsets([(one, 0), (two, 0), (two, 1), (two, 2)])
    assert ends.pop((one, 0)) == 2
    assert sorted(ends) == [(two, 0), (two, 1), (two, 2)]
    assert sorted(ends.values()) == [0, 0, 1]


async def test_a_topic_that_comes_a_moment_later_is_waited_for(admin, names):
    asking = asyncio.create_task(admin.end_offsets([(names[0], 0)]))
    await asyncio.sleep(3 * module.RETRY_S)
    assert not asking.done()
    await admin.create_topics([TopicSpec(names[0])])
    assert await asking == {(names[0], 0): 0}


@pytest.mark.parametrize("number", [0, 1], ids=["topic", "partition"])
async def test_what_does_not_come_is_told_by_name(admin, names, number, monkeypatch):
    monkeypatch.setattr(module, "REQUEST_TIMEOUT_MS", 500)
    missing, there = names
    await admin.create_topics([TopicSpec(there)])
    asked = there if number else missing
    with pytest.raises(TransientError, match=f"UnknownTopicOrPartitionError.*{asked}"):
        await admin.end_offsets([(there, 0), (asked, number)])
    assert await admin.partitions(names) == {there: 1}


async def test_no_topic_of_the_broker_is_kept(admin, names):
    await admin.create_topics([TopicSpec(name) for name in names])
    await admin.end_offsets([(name, 0) for name in names])
    client = admin._client._client
    assert await client.force_metadata_update()  # as every five minutes, and when a connection breaks
    assert client.cluster.brokers()
    assert not client.cluster.topics()
