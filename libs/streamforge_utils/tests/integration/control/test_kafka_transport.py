"""The control transports against a real broker, which is also killed."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from ulid import ULID

from streamforge_utils.contracts.commands import Command
from streamforge_utils.contracts.events import EventName
from streamforge_utils.control import ControlClient, ControlListener, Handlers, Identity, Telemetry
from streamforge_utils.errors import FatalError, NotConnected, PermanentError, TransientError
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.transport import KafkaClientTransport, KafkaControlTransport
from streamforge_utils.observability import Health, WorkerMetrics
from streamforge_utils.settings import KafkaSettings

pytestmark = pytest.mark.integration


@pytest.fixture
async def names(settings):
    """Keywords that name a control topic of two partitions and an events topic of three, of this test alone."""
    run = str(ULID()).lower()
    control, events = f"control-{run}", f"events-{run}"
    admin = KafkaAdmin(settings)
    await admin.create_topics([TopicSpec(control, 2), TopicSpec(events, 3)])
    await admin.close()
    return {"control_topic": control, "events_topic": events}


class Worker:
    def __init__(self, settings, names, queue_id="wf-a", *, offsets=None):
        self.identity = Identity(queue_id=queue_id, producer=f"{queue_id}-p", target="t", step="s")
        self.health, self.told = Health(["control"]), []
        metrics = WorkerMetrics(CollectorRegistry())
        self.transport = KafkaControlTransport(settings, **names, offsets=offsets or {})
        self.telemetry = Telemetry(self.transport, self.identity, health=self.health, metrics=metrics)
        handlers = Handlers(
            on_stop=lambda _: self.told.append("stop"),
            on_drain=lambda drain: self.told.append(drain.drain_id),
            on_command=lambda name, payload: self.told.append((name, payload)),
        )
        self.listener = ControlListener(
            self.transport, self.identity, self.telemetry, handlers, health=self.health, metrics=metrics
        )

    @asynccontextmanager
    async def running(self):
        tasks = [asyncio.create_task(self.listener.serve()), asyncio.create_task(self.telemetry.serve())]
        try:
            await self.transport.listen()
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.transport.close()

    async def hears(self, count):
        async with asyncio.timeout(60):
            while len(self.told) < count:
                await asyncio.sleep(0.02)
        return self.told


@asynccontextmanager
async def client_of(settings, names):
    async with ControlClient(KafkaClientTransport(settings, **names)) as client:
        yield client


async def events_of(settings, names, count):
    """The first events on the topic."""
    reader = KafkaClientTransport(settings, **names)
    reader._tail._offsets = {0: 0, 1: 0, 2: 0}
    found = []
    async with asyncio.timeout(30):
        async for value in reader.events():
            found.append(value)
            if len(found) == count:
                break
    await reader.close()
    return found


async def test_started_is_acknowledged_and_lies_on_the_topic(settings, names):
    worker = Worker(settings, names)
    start = time.perf_counter()
    async with worker.running():
        worker.telemetry.started(metrics_port=1)
        await worker.telemetry.flush()
        took = time.perf_counter() - start
        await worker.telemetry.finish(EventName.FINISHED, "Finished")
    assert took < 2
    assert worker.health.is_ready
    first, last = await events_of(settings, names, 2)
    assert b'"started"' in first
    assert b'"finished"' in last


async def test_a_ping_is_answered_and_edges_of_before_are_not(settings, names):
    async with client_of(settings, names) as client:
        for name in ("ping", "fail-after"):
            await client.send(Command(command=name, queue_id="wf-a"))
        async with Worker(settings, names, offsets={0: 0, 1: 0}).running() as worker:
            (pong,) = await client.ping("wf-a", timeout_s=10)
            assert pong.event.producer == "wf-a-p"
            assert worker.told == []


async def test_levels_of_before_hold_from_the_offsets_of_the_launch_on(settings, names):
    async with client_of(settings, names) as client:
        await client.send(Command(command="stop", queue_id="wf-a"))
        async with Worker(settings, names, offsets={0: 0, 1: 0}).running() as worker:
            assert await worker.hears(1) == ["stop"]
        async with Worker(settings, names).running() as by_hand:
            await client.ping("wf-a", timeout_s=10)
            assert by_hand.told == []


async def test_offsets_that_expired_or_never_were_mean_the_start_of_the_log(settings, names):
    async with client_of(settings, names) as client:
        await client.send(Command(command="stop", queue_id="wf-a"))
        async with Worker(settings, names, offsets={0: 10**9, 1: 10**9}).running() as worker:
            assert await worker.hears(1) == ["stop"]


async def test_every_partition_is_read(settings, names):
    queues = [f"wf-{number}" for number in range(6)]
    workers = [Worker(settings, names, queue) for queue in queues]
    async with client_of(settings, names) as client, asyncio.timeout(60):
        for worker in workers:
            async with worker.running():
                assert len(await client.ping(worker.identity.queue_id, timeout_s=10)) == 1


async def test_garbage_on_both_topics_stops_nobody(settings, names):
    transport = KafkaClientTransport(settings, **names)
    worker = Worker(settings, names)
    async with worker.running(), ControlClient(transport) as client:
        for value in (b"", b"{", b"\xff\x00", b'{"command": "explode"}', b"[1]"):
            await transport._writer.write(names["control_topic"], [("wf-a", value)])
            await transport._writer.write(names["events_topic"], [("wf-a", b'{"event": "pong"' + value)])
        assert len(await client.ping("wf-a", timeout_s=10)) == 1


async def test_what_is_too_large_is_a_permanent_error(settings, names):
    transport = KafkaClientTransport(settings, **names)
    with pytest.raises(PermanentError) as caught:
        await transport.send(Command(command="ping", queue_id="wf-a", payload={"x": "x" * 2_000_000}))
    assert caught.value.code == "too-large"
    await transport.close()


async def test_no_broker_is_told_within_a_few_seconds():
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    transport = KafkaControlTransport(settings, control_topic="c", events_topic="e", offsets={})
    start = time.perf_counter()
    for connect in (transport.open, transport.listen):
        with pytest.raises(NotConnected, match=r"127\.0\.0\.1:1"):
            await connect()
    assert time.perf_counter() - start < 10
    await transport.close()


async def test_a_topic_that_is_not_there_is_named(settings):
    transport = KafkaControlTransport(settings, control_topic="no-control", events_topic="no-events", offsets={})
    with pytest.raises(TransientError, match="no-control"):
        await transport.listen()
    await transport.close()


async def test_a_broker_that_is_killed_is_waited_out_and_nothing_that_counts_is_lost(settings, names, kafka):
    worker = Worker(settings, names)
    async with worker.running(), client_of(settings, names) as client:
        worker.telemetry.started()
        await worker.telemetry.flush()
        kafka.kill()
        worker.telemetry.report("while it is away")
        async with asyncio.timeout(30):
            while worker.health.is_ready:
                await asyncio.sleep(0.1)
        finishing = asyncio.create_task(worker.telemetry.finish(EventName.INTERRUPTED, "Stopped"))
        await asyncio.to_thread(kafka.start)
        await asyncio.to_thread(kafka.wait_ready)
        async with asyncio.timeout(60):
            await finishing
        await client.send(Command(command="stop", queue_id="wf-a"))
        assert await worker.hears(1) == ["stop"]
        assert worker.health.is_ready
    found = await events_of(settings, names, 2)
    assert b'"started"' in found[0]
    assert b'"interrupted"' in found[-1]


async def test_closing_is_bounded_and_raises_nothing_while_the_broker_is_away(settings, names, kafka):
    before = asyncio.all_tasks()
    worker = Worker(settings, names)
    async with worker.running():
        worker.telemetry.started()
        await worker.telemetry.flush()
        kafka.kill()
        try:
            worker.telemetry.error(FatalError("nobody will hear it"))
            await asyncio.sleep(0.3)
            start = time.perf_counter()
            await worker.transport.close()
            assert time.perf_counter() - start < 5
        finally:
            await asyncio.to_thread(kafka.start)
            await asyncio.to_thread(kafka.wait_ready)
    assert asyncio.all_tasks() == before
