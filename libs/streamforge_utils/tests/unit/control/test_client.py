import asyncio
from contextlib import asynccontextmanager

import pytest

from streamforge_utils import codec
from streamforge_utils.contracts.commands import Command
from streamforge_utils.control import ControlClient
from streamforge_utils.errors import ConfigurationError, NotConnected
from streamforge_utils.testing.control import MemoryClientTransport

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def running(*workers):
    tasks = [asyncio.create_task(part.serve()) for w in workers for part in (w.listener, w.telemetry)]
    try:
        await asyncio.sleep(0.01)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_a_ping_comes_back_with_the_answer_as_soon_as_it_is_there(worker, topics, looptime):
    async with running(worker), ControlClient(MemoryClientTransport(topics)) as client:
        (pong,) = await client.ping("wf-a", timeout_s=5)
    assert pong.event.producer == "load__abc123"
    assert 0 < pong.round_trip_s < 1
    assert looptime < 1


async def test_silence_is_an_empty_list_when_the_time_is_up(topics, looptime):
    async with ControlClient(MemoryClientTransport(topics)) as client:
        assert await client.ping("wf-a", timeout_s=5) == []
    assert 5 <= looptime < 5.1


async def test_one_answer_a_producer_counts_and_the_missing_one_is_waited_for(worker, make_worker, topics, looptime):
    async with running(worker, make_worker()), ControlClient(MemoryClientTransport(topics)) as client:
        pongs = await client.ping("wf-a", expected=2, timeout_s=5)
    assert len(pongs) == 1
    assert looptime >= 5


async def test_pings_at_once_each_get_their_own_answer(worker, topics):
    async with running(worker), ControlClient(MemoryClientTransport(topics)) as client:
        answers = await asyncio.gather(*(client.ping("wf-a") for _ in range(50)))
    assert [len(pongs) for pongs in answers] == [1] * 50
    assert len({pongs[0].event.payload["command_id"] for pongs in answers}) == 50


async def test_a_step_can_be_pinged_alone(worker, topics):
    async with running(worker), ControlClient(MemoryClientTransport(topics)) as client:
        assert await client.ping("wf-a", step="store", timeout_s=1) == []
        assert len(await client.ping("wf-a", step="load", timeout_s=1)) == 1


def old_pong(ping_ts):
    """As a worker writes it that knows no command ids."""
    names = {"queue_id": "wf-a", "producer": "p", "target": "t", "step": "s", "run": "r"}
    return codec.encode({**names, "seq": 0, "event": "pong", "ping_ts": ping_ts})


async def test_old_pongs_and_bad_messages_answer_nothing(topics):
    async with ControlClient(MemoryClientTransport(topics)) as client:
        pinging = asyncio.create_task(client.ping("wf-a", timeout_s=2))
        await asyncio.sleep(0.1)
        for value in (
            old_pong(ping_ts=1.0),
            b'{"pong"',
            b'{"event": "pong"}',
            b'{"decision": "pong"}',
            None,
            b"\xff",
            b"",
        ):
            topics.append(topics.events, value)
        assert await pinging == []


async def test_a_pong_without_a_command_id_is_known_by_its_time(topics):
    async with ControlClient(MemoryClientTransport(topics)) as client:
        pinging = asyncio.create_task(client.ping("wf-a", timeout_s=2))
        await asyncio.sleep(0.1)
        sent_at = Command.from_json(topics.control[0]).sent_at
        foreign = old_pong(ping_ts=sent_at)
        topics.append(topics.events, foreign)
        (pong,) = await pinging
    assert pong.event.producer == "p"


async def test_a_ping_that_cannot_be_sent_is_no_silence(topics):
    async with ControlClient(MemoryClientTransport(topics)) as client:
        topics.is_away = True
        with pytest.raises(NotConnected):
            await client.ping("wf-a")


async def test_a_send_that_hangs_is_no_silence(topics):
    transport = MemoryClientTransport(topics)
    transport.send = lambda _: asyncio.sleep(3600)
    async with ControlClient(transport) as client:
        with pytest.raises(NotConnected, match="could not be sent within 2 s"):
            await client.ping("wf-a", timeout_s=2)


async def test_a_reader_that_was_refused_is_no_silence(topics):
    transport = MemoryClientTransport(topics)

    async def refused():
        raise ConfigurationError("no right to read queue-events", code="not-authorized")
        yield

    transport.events = refused
    async with ControlClient(transport) as client:
        with pytest.raises(ConfigurationError):
            await client.ping("wf-a", timeout_s=1)


async def test_kafka_that_comes_back_is_read_on(worker, topics):
    async with running(worker), ControlClient(MemoryClientTransport(topics)) as client:
        topics.is_away = True
        topics.append(topics.events, None)
        topics.append(topics.control, None)
        await asyncio.sleep(1)
        topics.is_away = False
        await asyncio.sleep(10)
        assert len(await client.ping("wf-a")) == 1


async def test_commands_are_sent_as_they_are(topics):
    stop = Command(command="stop", queue_id="wf-a")
    async with ControlClient(MemoryClientTransport(topics)) as client:
        await client.send(stop)
    assert Command.from_json(topics.control[0]) == stop
