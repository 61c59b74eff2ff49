"""The controller on real Kafka and a real store: lives, restarts, parts that go away."""

import asyncio
import contextlib

import pytest
from aiokafka import AIOKafkaProducer

from queue_manager import decisions
from queue_manager.controller.broker import FOR_EVER
from queue_manager.rebuild import read_all, rebuild
from streamforge_utils.contracts.events import from_json
from streamforge_utils.errors import ConfigurationError, StreamForgeError
from streamforge_utils.kafka.admin import TopicSpec

pytestmark = pytest.mark.integration


async def test_a_workflow_finishes_and_its_history_is_kept(stage, make_step):
    async with stage.running() as controller:
        queue_id = await stage.submit(make_step("loader", writes=("data",)), make_step("sink", reads=("data",)))
        controller.nudge(queue_id)
        await stage.finish(queue_id, "loader", counters={"read": 3, "stored": 3, "written": 3})
        await stage.job(queue_id, "sink")
        await stage.until(queue_id, lambda d: d.step("sink").launch.drain is not None)
        await stage.finish(queue_id, "sink", counters={"read": 3, "stored": 3})
        document = await stage.until(queue_id, lambda d: d.status.state == "finished" and not d.is_open)
        history = await stage.store.history(queue_id, limit=100)
    assert document.status.streams["data"].ended
    said = [entry.message.get("event") or entry.message["decision"] for entry in history]
    words = "accepted launched launched started finished ended asked started finished ended ended"
    assert sorted(said) == sorted(words.split())


async def test_a_record_of_an_open_transaction_counts_for_the_drain(stage, make_step):
    """An uncommitted end, taken after the writer was fenced: what is behind it never comes."""
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)), make_step("sink", reads=("data",)))
        job = await stage.job(queue_id, "loader")
        producer = AIOKafkaProducer(
            bootstrap_servers=stage.kafka.bootstrap_servers, transactional_id=f"{queue_id}-loader-1-0"
        )
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(f"{queue_id}-data", b"1")
        await producer.begin_transaction()
        await producer.send_and_wait(f"{queue_id}-data", b"2")
        await stage.say(queue_id, "loader", "finished")
        stage.launcher.exit(job, 0, 0)
        document = await stage.until(queue_id, lambda d: d.step("sink").launch and d.step("sink").launch.drain)
        with contextlib.suppress(Exception):
            await producer.stop()
    # record, its commit marker, record, the abort marker of the fencing
    assert document.step("sink").launch.drain.ends == {f"{queue_id}-data": {0: 4}}


async def test_a_controller_that_was_killed_goes_on_where_it_was(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)))
        job = await stage.job(queue_id, "loader")
        await stage.say(queue_id, "loader", "started")
        await stage.until_state(queue_id, "running")
    await stage.say(queue_id, "loader", "finished", counters={"read": 9, "stored": 9})
    stage.launcher.exit(job, 0, 0)
    async with stage.running():
        document = await stage.until_state(queue_id, "finished")
    assert document.step("loader").ordinals[0].counters.read == 9
    assert len(stage.launcher.created) == 1


async def test_two_controllers_on_one_store_launch_nothing_twice(stage, make_step):
    async with stage.running() as first, stage.running() as second:
        ids = [await stage.submit(make_step("loader")) for _ in range(12)]
        for queue_id in ids:
            first.nudge(queue_id)
            second.nudge(queue_id)
        await asyncio.gather(*(stage.finish(queue_id, "loader") for queue_id in ids))
        for queue_id in ids:
            await stage.until_state(queue_id, "finished")
    assert sorted(made.queue_id for made in stage.launcher.created) == sorted(ids)


async def test_a_rebuild_gives_the_same_documents(stage, make_step):
    async with stage.running():
        ids = [await stage.submit(make_step("loader", writes=("data",))) for _ in range(3)]
        for queue_id in ids:
            await stage.finish(queue_id, "loader", counters={"read": 2, "stored": 2})
        live = {q: await stage.until(q, lambda d: d.status.state == "finished" and not d.is_open) for q in ids}
    broker = stage.broker()
    documents = rebuild(await read_all(broker))
    await broker.close()
    for queue_id in ids:
        made = documents[queue_id].model_copy(update={"rev": None, "outbox": []})
        made.status.topics = "released"
        assert made == live[queue_id].model_copy(update={"rev": None})


async def test_delete_leaves_no_topic(stage, make_step):
    async with stage.running() as controller:
        queue_id = await stage.submit(make_step("loader", writes=("data",)))
        await stage.finish(queue_id, "loader")
        await stage.until_state(queue_id, "finished")
        await stage.store.change(queue_id, lambda d: decisions.ask_delete(d, purge=True, now=1.0))
        controller.nudge(queue_id)
        async with asyncio.timeout(30):
            while await stage.store.get(queue_id) is not None:
                await asyncio.sleep(0.05)
        broker = stage.broker()
        assert await broker._admin.partitions([f"{queue_id}-data", f"{queue_id}-dead-letter"]) == {}
        await broker.close()


async def test_the_store_away_and_back(stage, make_step, arango):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)))
        job = await stage.job(queue_id, "loader")
        arango.kill()
        try:
            await stage.say(queue_id, "loader", "started")
            await stage.say(queue_id, "loader", "finished", counters={"read": 1, "stored": 1})
            stage.launcher.exit(job, 0, 0)
            async with asyncio.timeout(20):
                while stage.health.is_ready:
                    await asyncio.sleep(0.1)
        finally:
            arango.start()
            arango.wait_ready()
        document = await stage.until(queue_id, lambda d: d.status.state == "finished", timeout=30)
    assert document.step("loader").ordinals[0].counters.read == 1


async def test_kafka_away_and_back(stage, make_step, kafka, monkeypatch):
    monkeypatch.setattr("queue_manager.controller.broker.DEADLINE_S", 3.0)
    async with stage.running():
        await asyncio.sleep(0.5)
        kafka.kill()
        try:
            queue_id = await stage.submit(make_step("loader", writes=("data",)))
            document = await stage.until(queue_id, lambda d: d.step("loader").reason is not None, timeout=30)
            assert document.step("loader").reason.code == "broker-unreachable"
        finally:
            kafka.start()
            await asyncio.to_thread(kafka.wait_ready)
        await stage.finish(queue_id, "loader")
        await stage.until_state(queue_id, "finished", timeout=60)


async def test_retention_is_set_and_lifted(stage):
    broker = stage.broker()
    topic = f"{stage.events}-x"
    try:
        await broker.create_topics([TopicSpec(topic, 2, -1, {"retention.ms": "-1"})])
        await broker.create_topics([TopicSpec(topic, 2, -1, {"retention.ms": "-1"})])
        await broker.set_retention([topic, "no-such-topic"], 5000)
        await _until_retention(broker, topic, "5000")
        await broker.set_retention([topic], FOR_EVER)
        await _until_retention(broker, topic, "-1")
    finally:
        await broker.delete_topics([topic])
        await broker.close()


async def _until_retention(broker, topic, expected):
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    client = await broker._admin._admin()
    found = None
    async with asyncio.timeout(10):
        # a broker learns of a changed setting a moment after it was acknowledged
        while found != expected:
            answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            settings = answers[0].resources[0][4]  # none yet of a topic that was made just now
            found = next((entry[1] for entry in settings if entry[0] == "retention.ms"), None)


async def test_decisions_lie_in_order_and_the_tail_passes_control_records(stage):
    broker = stage.broker()
    document = None
    try:
        made = [decisions.deleted(_document(stage, f"q{n}"), now=float(n)) for n in range(30)]
        await broker.publish(made)
        producer = AIOKafkaProducer(
            bootstrap_servers=stage.kafka.bootstrap_servers, transactional_id=f"t-{stage.events}"
        )
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(stage.events, b"never", partition=1)
        await producer.abort_transaction()
        await producer.stop()
        lines = await asyncio.wait_for(read_all(broker), 20)
    finally:
        await broker.close()
    assert document is None
    said = [from_json(line.value) for line in lines]
    assert sorted(message.timestamp for message in said) == [float(n) for n in range(30)]


def _document(stage, queue_id):
    from queue_manager.model import WorkflowDocument, WorkflowSpec

    spec = WorkflowSpec(
        installation=stage.installation,
        type="api_candles_1m",
        collection="c",
        created_at=0.0,
        steps=(),
        dead_letter_topic="d",
    )
    return WorkflowDocument(queue_id=queue_id, spec=spec)


async def test_missing_common_topics_are_told_by_name(stage):
    stage.events = "no-such-events"
    broker = stage.broker()
    try:
        with pytest.raises(ConfigurationError, match="no-such-events"):
            await broker.events_ends()
    finally:
        await broker.close()


async def test_a_wrong_address_is_an_error_that_says_so(stage):
    stage.kafka = stage.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    broker = stage.broker()
    try:
        with pytest.raises(StreamForgeError, match=r"127\.0\.0\.1:1"):
            await broker.control_ends()
    finally:
        await broker.close()
