import asyncio
import itertools
from contextlib import asynccontextmanager

import pytest

from streamforge_utils.contracts.commands import Command
from streamforge_utils.contracts.events import Counters, EventName
from streamforge_utils.control import telemetry as module
from streamforge_utils.errors import ConfigurationError, FatalError, NotConnected, PermanentError

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def serving(worker):
    task = asyncio.create_task(worker.telemetry.serve())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_started_goes_out_at_once_and_says_who_and_where(worker, looptime):
    async with serving(worker):
        worker.telemetry.started(metrics_port=8123)
        await worker.telemetry.flush()
    (event,) = worker.transport.sent
    assert looptime < 0.01
    assert event.event is EventName.STARTED
    assert event.payload == {"metrics_port": 8123}
    assert (event.queue_id, event.producer, event.target, event.step) == ("wf-a", "load__abc123", "loader", "load")
    assert (event.launch, event.ordinal, event.symbol, event.type) == (2, 1, "BTCUSDT", "api_candles_1m")
    assert event.installation == "inst"


async def test_progress_is_told_at_most_once_a_second_and_the_newest_counts(worker):
    async with serving(worker):
        for records in range(1, 501):
            worker.telemetry.progress(Counters(read=records, stored=records), lag=1000 - records)
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)
    loading = [event for event in worker.transport.sent if event.event is EventName.LOADING]
    assert 5 <= len(loading) <= 6
    assert loading[-1].records_written == 500
    assert loading[-1].message == "Saved 500 records"
    assert loading[-1].payload["lag"] == 500
    assert loading[-1].counters == Counters(read=500, stored=500)


async def test_what_is_reported_is_told_with_the_next_progress_and_only_once(worker):
    async with serving(worker):
        worker.telemetry.report("3 candles are missing", missing=3)
        worker.telemetry.progress(Counters(read=7, stored=7), lag=0)
        await asyncio.sleep(1.1)
        worker.telemetry.progress(Counters(read=8, stored=8), lag=0)
        await asyncio.sleep(1.1)
    first, second = worker.transport.sent
    assert first.message == "3 candles are missing"
    assert first.payload["missing"] == 3
    assert second.message == "Saved 8 records"
    assert "missing" not in second.payload


async def test_a_heartbeat_comes_every_ten_seconds(worker):
    async with serving(worker):
        await asyncio.sleep(35)
    assert worker.names == ["heartbeat"] * 3


async def test_seq_counts_and_run_names_the_life(worker, make_worker):
    async with serving(worker):
        worker.telemetry.started()
        worker.telemetry.progress(Counters(read=1))
        await asyncio.sleep(25)
        await worker.telemetry.finish(EventName.FINISHED, "Finished")
    assert [event.seq for event in worker.transport.sent] == list(range(len(worker.transport.sent)))
    assert {event.run for event in worker.transport.sent} == {worker.telemetry.run}
    assert make_worker().telemetry.run != worker.telemetry.run


async def test_events_that_count_wait_in_order_while_kafka_is_away_and_progress_does_not(worker, topics):
    topics.is_away = True
    async with serving(worker):
        worker.telemetry.started()
        worker.telemetry.progress(Counters(read=1))
        await asyncio.sleep(30)
        assert not worker.health.is_ready
        assert "away" in worker.health.ready()[1]["conditions"]["control"]["reason"]
        worker.telemetry.error(FatalError("broken"))
        finishing = asyncio.create_task(worker.telemetry.finish(EventName.INTERRUPTED, "Stopped"))
        await asyncio.sleep(5)
        assert not finishing.done()
        topics.is_away = False
        await finishing
        assert worker.health.is_ready
    assert worker.names == ["started", "error", "interrupted"]


async def test_kafka_that_goes_away_later_loses_progress_alone(worker, topics):
    async with serving(worker):
        worker.telemetry.started()
        await worker.telemetry.flush()
        topics.is_away = True
        for records in range(20):
            worker.telemetry.progress(Counters(read=records))
            await asyncio.sleep(1)
        worker.telemetry.error(FatalError("broken"))
        await asyncio.sleep(1)
        topics.is_away = False
        await worker.telemetry.flush()
    assert worker.names[:2] == ["started", "error"]
    assert worker.metrics.events_lost._value.get() > 0


async def test_the_last_event_carries_the_totals_and_nothing_comes_after_it(worker):
    totals = Counters(read=9, stored=6, dead_lettered=1, dropped={"late": 2})
    async with serving(worker):
        worker.telemetry.progress(Counters(read=1))
        await worker.telemetry.finish(EventName.FINISHED, "Stopped", counters=totals, partial=True)
        worker.telemetry.error(FatalError("too late"))
        worker.telemetry.progress(Counters(read=99))
        await asyncio.sleep(60)
    (event,) = worker.transport.sent
    assert event.counters == totals
    assert event.payload["partial"] is True
    assert event.finished
    assert event.records_written == 6


async def test_only_a_last_event_can_be_the_last(worker):
    with pytest.raises(ValueError, match="error"):
        await worker.telemetry.finish(EventName.ERROR, "no")


async def test_an_error_carries_its_reason_and_a_long_text_is_cut(worker):
    async with serving(worker):
        worker.telemetry.error(ConfigurationError("x" * 100_000, code="bad-input"), line=17)
        await worker.telemetry.flush()
    (event,) = worker.transport.sent
    assert event.payload["reason"]["code"] == event.payload["code"] == "bad-input"
    assert event.payload["line"] == 17
    assert len(event.to_json()) < 3 * module.MAX_MESSAGE


async def test_text_that_utf_8_does_not_have_is_replaced(worker):
    async with serving(worker):
        worker.telemetry.error(ConfigurationError("/data/\udcff.csv: empty", code="bad-input"), files=["\udcff", 7])
        await worker.telemetry.finish(EventName.INTERRUPTED, "Stopped")
    event, _ = worker.transport.sent
    assert event.message == event.payload["reason"]["message"] == "/data/?.csv: empty"
    assert event.payload["files"] == ["?", 7]


async def test_a_pong_carries_the_pings_time_at_both_places(worker):
    ping = Command(command="ping", queue_id="wf-a", sent_at=1754202651.997)
    async with serving(worker):
        worker.telemetry.pong(ping)
        await worker.telemetry.flush()
    (event,) = worker.transport.sent
    assert event.ping_ts == event.payload["ping_ts"] == 1754202651.997
    assert event.ponged_at == event.payload["ponged_at"]
    assert event.payload["command_id"] == ping.command_id


async def test_few_pongs_wait_while_kafka_is_away(worker, topics):
    topics.is_away = True
    async with serving(worker):
        for _ in range(1000):
            worker.telemetry.pong(Command(command="ping", queue_id="wf-a"))
        topics.is_away = False
        await worker.telemetry.flush()
    assert worker.names == ["pong"] * module.MAX_WAITING_PONGS


async def test_a_refusal_at_the_start_ends_the_task(worker):
    async def refused():
        raise ConfigurationError("wrong password", code="unauthenticated")

    worker.transport.open = refused
    async with serving(worker) as task:
        await asyncio.wait([task])
        with pytest.raises(ConfigurationError, match="wrong password"):
            task.result()


async def test_an_event_that_can_never_be_sent_does_not_hold_up_the_others(worker):
    send, calls = worker.transport.send, []

    async def picky(event):
        calls.append(event)
        if len(calls) == 1:
            raise PermanentError("too large", code="too-large")
        await send(event)

    worker.transport.send = picky
    async with serving(worker):
        worker.telemetry.error(FatalError("one"))
        worker.telemetry.error(FatalError("two"))
        await worker.telemetry.flush()
    assert [event.message for event in worker.transport.sent] == ["two"]
    assert worker.metrics.events_lost._value.get() == 1


async def test_a_send_in_doubt_is_repeated_as_the_same_event(worker):
    send, calls = worker.transport.send, []

    async def doubtful(event):
        calls.append(event)
        await send(event)
        if len(calls) == 1:
            raise NotConnected("no acknowledgement")

    worker.transport.send = doubtful
    async with serving(worker):
        worker.telemetry.started()
        await worker.telemetry.flush()
    first, second = worker.transport.sent
    assert (first.producer, first.run, first.seq) == (second.producer, second.run, second.seq)


async def test_pauses_grow_up_to_a_few_seconds(worker, topics):
    tries = []

    async def away():
        tries.append(asyncio.get_running_loop().time())
        raise NotConnected("away")

    worker.transport.open = away
    async with serving(worker):
        await asyncio.sleep(60)
    gaps = [b - a for a, b in itertools.pairwise(tries)]
    assert gaps[0] <= 0.1
    assert 2.5 <= gaps[-1] <= 5.0
