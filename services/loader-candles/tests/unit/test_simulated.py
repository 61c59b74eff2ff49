from dataclasses import replace
from itertools import pairwise

import pytest

from loader_candles.pacing import PacedSource
from loader_candles.series import FOREVER
from loader_candles.simulated_source import SimulatedSource
from streamforge_utils import codec
from streamforge_utils.contracts import candle

MINUTE = 60_000
DAY = 1440 * MINUTE
START = 1_754_006_400_000


@pytest.fixture
def long(series):
    return replace(series, start_ms=series.start_ms + 700 * MINUTE + 1, end_ms=series.start_ms + 3 * DAY)


async def test_the_whole_range_is_there_valid_and_without_jumps(long, drain, values):
    found = values(await drain(SimulatedSource(long, seed=1)))
    assert [one["open_time"] for one in found] == list(range(START + 701 * MINUTE, START + 3 * DAY, MINUTE))
    assert all(candle.fault(one) is None for one in found)
    assert all(one["open"] == before["close"] for before, one in pairwise(found))
    assert len({one["close"] for one in found}) > 500


async def test_a_seed_gives_the_same_bytes_from_every_position(long, drain, values):
    whole = codec.encode(values(await drain(SimulatedSource(long, seed=7))))
    for cut in (1, 2, 739, 1440, 2000):
        before = await drain(SimulatedSource(long, seed=7), size=cut, most=1)
        position = codec.decode(codec.encode(before[-1].position))
        after = await drain(SimulatedSource(long, seed=7), position, size=333)
        assert codec.encode(values(before) + values(after)) == whole


async def test_another_seed_or_symbol_gives_other_candles(long, drain, values):
    closes = {
        tuple(one["close"] for one in values(await drain(source, size=100, most=1)))
        for source in (
            SimulatedSource(long, seed=1),
            SimulatedSource(long, seed=2),
            SimulatedSource(replace(long, symbol="ETHUSDT"), seed=1),
        )
    }
    assert len(closes) == 3


@pytest.mark.looptime
async def test_the_rate_is_kept(looptime, series, drain, values):
    found = await drain(PacedSource(SimulatedSource(series, seed=1), 100.0))
    assert len(values(found)) == 1440
    assert all(len(delivery.values) <= 10 for delivery in found)
    assert looptime == pytest.approx(14.4, abs=0.2)


@pytest.mark.looptime
async def test_live_candles_come_when_their_interval_is_over_and_none_is_missing_after_a_restart(looptime, series):
    live = replace(series, start_ms=0, end_ms=FOREVER, is_live=True)
    begin = START / 1000 + 30

    def clock():
        return begin + float(looptime)

    source = SimulatedSource(live, seed=1, clock=clock)
    await source.open(None)
    assert await source.read(100) == _told(START)
    first = await source.read(100)
    assert [one["open_time"] for one in first.values] == [START]
    assert looptime == pytest.approx(30, abs=0.1)
    begin += 300  # away for five minutes
    later = SimulatedSource(live, seed=1, clock=clock)
    await later.open(first.position)
    missed = await later.read(100)
    assert [one["open_time"] for one in missed.values] == [START + k * MINUTE for k in range(1, 6)]
    await later.read(100)
    assert looptime == pytest.approx(90, abs=0.1)


async def test_live_candles_with_a_rate_do_not_wait_for_the_clock(series, drain, values):
    live = replace(series, start_ms=0, end_ms=FOREVER, is_live=True)
    found = values(await drain(SimulatedSource(live, seed=1, is_real_time=False), size=100, most=21))
    assert len(found) > 1440
    assert {b["open_time"] - a["open_time"] for a, b in pairwise(found)} == {MINUTE}


def _told(position):
    from streamforge_utils.pipeline import Delivery

    return Delivery([], {"next": position})
