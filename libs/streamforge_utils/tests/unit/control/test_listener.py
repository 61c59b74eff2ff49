import asyncio
from contextlib import asynccontextmanager

import pytest
import structlog

from streamforge_utils.contracts.commands import ALL_QUEUES, Command
from streamforge_utils.control import ControlListener, Handlers, Received
from streamforge_utils.errors import ConfigurationError

pytestmark = pytest.mark.looptime


def command(name, queue_id="wf-a", **fields):
    return Command(command=name, queue_id=queue_id, **fields)


def drain(drain_id, launch=2, **fields):
    return command("drain", payload={"drain_id": drain_id, "launch": launch, "ends": {"t": {"0": 5}}}, **fields)


@asynccontextmanager
async def listening(worker):
    tasks = [asyncio.create_task(worker.listener.serve()), asyncio.create_task(worker.telemetry.serve())]
    try:
        await asyncio.sleep(0.01)
        yield tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_levels_sent_before_it_came_hold_and_edges_do_not(worker, topics):
    topics.command(command("ping"))
    topics.command(command("simulate-loading"))
    topics.command(command("fail-after"))
    topics.command(drain(1))
    topics.command(command("stop"))
    async with listening(worker):
        pass
    assert worker.told == [("drain", 1), ("stop", False)]
    assert worker.names == []


async def test_all_that_is_sent_while_it_runs_is_obeyed(worker, topics):
    async with listening(worker):
        topics.command(command("ping", sent_at=5.5))
        topics.command(command("simulate-loading", payload={"rate": 3}))
        topics.command(drain(4))
        topics.command(command("stop", payload={"drain": True}))
        await asyncio.sleep(1)
    assert worker.told == [("simulate-loading", {"rate": 3}), ("drain", 4), ("stop", True)]
    assert [event.ping_ts for event in worker.transport.sent] == [5.5]
    assert worker.sample("streamforge_commands_total", command="ping") == 1


async def test_only_a_higher_drain_of_its_own_launch_counts_and_a_stop_counts_once(worker, topics):
    async with listening(worker):
        for one in (drain(2), drain(1), drain(2), drain(9, launch=1), drain(8, launch=3), drain(3)):
            topics.command(one)
        topics.command(command("stop"))
        topics.command(command("stop"))
        await asyncio.sleep(1)
    assert worker.told == [("drain", 2), ("drain", 3), ("stop", False)]


@pytest.mark.parametrize(
    "fields",
    [
        {"queue_id": "wf-b"},
        {"target": "arango"},
        {"step": "store"},
        {"queue_id": ALL_QUEUES, "installation": "other"},
        {"queue_id": ALL_QUEUES, "target": "arango"},
    ],
)
async def test_what_is_meant_for_others_is_left_alone(worker, topics, fields):
    async with listening(worker):
        for name in ("ping", "stop", "simulate-loading"):
            topics.command(command(name, **fields))
        topics.command(drain(1, **fields))
        await asyncio.sleep(1)
    assert worker.told == []
    assert worker.names == []
    assert worker.skipped == 0


async def test_a_launch_begins_at_its_offset(make_worker, topics):
    topics.command(command("stop"))
    topics.command(drain(1))
    worker = make_worker(offset=1)
    async with listening(worker):
        pass
    assert worker.told == [("drain", 1)]


async def test_a_worker_started_by_hand_begins_at_the_end(make_worker, topics):
    topics.command(command("stop"))
    worker = make_worker(offset=None)
    async with listening(worker):
        topics.command(drain(1))
        await asyncio.sleep(1)
    assert worker.told == [("drain", 1)]


BAD = [
    None,
    b"",
    b"null",
    b"[]",
    b"{}",
    b"0",
    b'"stop"',
    b"stop",
    b"{",
    b"\x00\x01",
    b"\xff\xfe\xfd",
    b'{"command": "stop"}',
    b'{"command": "stop", "queue_id": ""}',
    b'{"command": "explode", "queue_id": "wf-a"}',
    b'{"command": ["stop"], "queue_id": "wf-a"}',
    b'{"command": "stop", "queue_id": 7}',
    b'{"command": "stop", "queue_id": "wf-a", "payload": []}',
    b'{"command": "stop", "queue_id": "wf-a", "sent_at": "soon"}',
    b'{"command": "drain", "queue_id": "wf-a"}',
    b'{"command": "drain", "queue_id": "wf-a", "payload": {"drain_id": 0, "launch": 2, "ends": {}}}',
    b'{"command": "drain", "queue_id": "wf-a", "payload": {"drain_id": 1, "launch": 2, "ends": {"t": {"x": 1}}}}',
    b'{"command": "drain", "queue_id": "wf-a", "payload": {"drain_id": 1, "launch": 2, "ends": [1]}}',
    b'{"command": "fail-after", "queue_id": "wf-a", "payload": {"bad": true}}',
    b'{"command": "stop", "queue_id": "wf-a"' + b" " * 1_000_000,
]


async def test_bad_messages_are_counted_logged_and_skipped_and_the_next_command_is_obeyed(worker, topics):
    async with listening(worker):
        with structlog.testing.capture_logs() as logs:
            for value in BAD:
                topics.command(value)
            topics.command(command("stop"))
            await asyncio.sleep(1)
    assert worker.told == [("stop", False)]
    assert worker.skipped == len(BAD)
    assert [line["event"] for line in logs].count("message_skipped") == len(BAD)


async def test_kafka_away_is_waited_out_and_told_by_health(worker, topics):
    async with listening(worker):
        topics.is_away = True
        topics.command(command("simulate-loading", payload={"a": 1}))
        await asyncio.sleep(30)
        assert not worker.health.ready()[1]["conditions"]["commands"]["ok"]
        topics.command(command("simulate-loading", payload={"a": 2}))
        topics.is_away = False
        await asyncio.sleep(10)
        assert worker.health.ready()[1]["conditions"]["commands"]["ok"]
    assert worker.told == [("simulate-loading", {"a": 1}), ("simulate-loading", {"a": 2})]


async def test_it_is_ready_without_any_command(worker):
    async with listening(worker):
        await asyncio.sleep(1)
    assert worker.health.ready()[1]["conditions"]["commands"]["ok"]


async def test_a_refusal_ends_the_task(worker):
    async def refused():
        raise ConfigurationError("no right to read", code="not-authorized")

    worker.transport.listen = refused
    async with listening(worker) as task:
        with pytest.raises(ConfigurationError):
            task.result()


async def test_a_worker_without_commands_of_its_own_skips_them(worker):
    handlers = Handlers(on_stop=lambda _: None, on_drain=lambda _: None)
    listener = ControlListener(
        worker.transport,
        worker.listener._identity,
        worker.telemetry,
        handlers,
        health=worker.health,
        metrics=worker.metrics,
    )
    listener.receive(Received(command("fail-after").to_json(), is_history=False))
    assert worker.skipped == 1
