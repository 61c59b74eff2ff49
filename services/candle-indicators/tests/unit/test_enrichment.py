"""The processor's rules, and that a run may be cut anywhere."""

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candle_indicators.enrichment import EnrichCandles
from candle_indicators.indicators import Indicators
from candle_indicators.params import IndicatorParams
from streamforge_utils.contracts.candle import INDICATORS
from streamforge_utils.errors import FatalError
from streamforge_utils.pipeline import Batch, Processor, Stateful

MINUTE = 60_000
SMALL = IndicatorParams(ema=(2, 3), rsi=2, atr=2, macd=(2, 4, 2), bollinger=(3, 2.0))
LARGEST = IndicatorParams(ema=tuple(range(991, 1001)), rsi=1000, atr=1000, macd=(998, 999, 1000), bollinger=(100, 10.0))


def candle(minute: int, *, close: float = 10.0, **fields: Any) -> dict[str, Any]:
    open_time = minute * MINUTE
    return {
        "_key": str(open_time),
        "symbol": "BTCUSDT",
        "interval": "1m",
        "open_time": open_time,
        "close_time": open_time + MINUTE - 1,
        "open": close,
        "high": close,
        "low": close,
        "close": close,
        "volume": 1.0,
        "quote_volume": 10.0,
        "trades": 1,
        "taker_buy_volume": 0.5,
        "taker_buy_quote_volume": 5.0,
        **fields,
    }


class Reports:
    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, message: str, **payload: Any) -> None:
        self.said.append((message, payload))


def processor(params: IndicatorParams = SMALL, reports: Reports | None = None) -> EnrichCandles:
    return EnrichCandles(params, symbol="BTCUSDT", interval="1m", report=reports or Reports())


def test_the_processor_is_one_with_state():
    made: Processor = processor()
    assert isinstance(made, Stateful)


def test_a_candle_carries_the_indicators_of_the_contract_by_default():
    (enriched,) = processor(IndicatorParams()).process(Batch.of([candle(0)])).values
    assert tuple(name for name in enriched if name not in candle(0)) == INDICATORS
    assert enriched == candle(0) | dict.fromkeys(INDICATORS) | {"vwap": 10.0}


def test_an_indicator_that_is_left_out_is_no_field():
    params = IndicatorParams(ema=(), rsi=None, atr=None, vwap=False, macd=None, bollinger=None)
    assert processor(params).process(Batch.of([candle(0)])).values == [candle(0)]


def test_the_input_is_left_as_it_was():
    given_candle = candle(0)
    processor().process(Batch.of([given_candle]))
    assert given_candle == candle(0)


def test_a_candle_that_comes_twice_is_dropped_and_changes_nothing():
    once, twice = processor(), processor()
    batch = Batch.of([candle(0), candle(1, close=11.0), candle(1, close=99.0), candle(2)])
    got = twice.process(batch)
    expected = once.process(Batch.of([candle(0), candle(1, close=11.0), candle(2)]))
    assert got.values == expected.values
    assert list(got.origins) == [0, 1, 3]
    assert batch.verdicts.dropped == {2: "duplicate"}
    assert once.state() == twice.state()


def test_a_candle_from_before_the_last_is_dropped():
    batch = Batch.of([candle(5), candle(3)])
    assert len(processor().process(batch)) == 1
    assert batch.verdicts.dropped == {1: "out-of-order"}


def test_missing_candles_are_counted_reported_once_a_batch_and_remembered():
    reports = Reports()
    first = processor(reports=reports)
    first.process(Batch.of([candle(0), candle(1), candle(4), candle(6)]))
    assert reports.said == [("3 candles are missing in 2 gaps", {"missing": 3, "gaps": 2})]
    first.process(Batch.of([candle(7)]))
    assert len(reports.said) == 1
    second = processor(reports=reports)
    second.restore(orjson.loads(orjson.dumps(first.state())))
    second.process(Batch.of([candle(9)]))
    assert reports.said[-1] == ("4 candles are missing in 3 gaps", {"missing": 4, "gaps": 3})


def test_a_late_batch_passes_as_it_is_and_leaves_the_state_alone():
    made = processor()
    made.process(Batch.of([candle(0), candle(1), candle(2)]))
    before = orjson.dumps(made.state())
    late = Batch.of([candle(1, close=7.0), candle(9), candle(0, symbol="ETHUSDT")], is_late=True)
    assert made.process(late).values == [candle(1, close=7.0), candle(9)]
    assert late.verdicts.refused.keys() == {2}
    assert orjson.dumps(made.state()) == before


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (candle(1, symbol="ETHUSDT"), "wrong-symbol"),
        (candle(1, interval="5m"), "inconsistent"),
        (candle(1, high=9.0), "inconsistent"),
        (candle(1, high=1e101), "inconsistent"),
        (candle(1, volume=1e101), "inconsistent"),
        (candle(1, close="10"), "wrong-schema"),
        (candle(1, volume=float("nan")), "wrong-schema"),
        ({"open_time": 1}, "wrong-schema"),
        ([1, 2, 3], "wrong-schema"),
    ],
)
def test_a_bad_candle_is_refused_and_the_others_go_on(bad, code):
    made, clean = processor(), processor()
    batch = Batch.of([candle(0), bad, candle(1)])
    assert made.process(batch).values == clean.process(Batch.of([candle(0), candle(1)])).values
    assert {index: verdict[0] for index, verdict in batch.verdicts.refused.items()} == {1: code}
    assert orjson.dumps(made.state()) == orjson.dumps(clean.state())


price = st.one_of(st.floats(min_value=0, max_value=1e100), st.integers(min_value=0, max_value=10**6))
steps = st.lists(st.tuples(st.integers(min_value=-1, max_value=3), price, price, price), min_size=1, max_size=60)


def drawn_candles(drawn: list[tuple[int, Any, Any, Any]]) -> list[dict[str, Any]]:
    minute = 1430  # a midnight comes soon
    candles = []
    for step, first, second, volume in drawn:
        minute += step
        low, high = sorted((first, second))
        candles.append(candle(minute, close=second, open=first, low=low, high=high, volume=volume))
    return candles


@settings(deadline=None)
@given(drawn=steps, cuts=st.sets(st.integers(min_value=0, max_value=60)))
def test_a_run_cut_anywhere_is_the_uninterrupted_run_bit_for_bit(drawn, cuts):
    candles = drawn_candles(drawn)
    whole = processor()
    expected = whole.process(Batch.of(candles)).values
    got: list[Any] = []
    borders = sorted({0, len(candles)} | {cut for cut in cuts if cut < len(candles)})
    state = orjson.dumps(processor().state())
    for start, end in itertools.pairwise(borders):
        piece = processor()
        piece.restore(orjson.loads(state))
        got += piece.process(Batch.of(candles[start:end])).values
        state = orjson.dumps(piece.state())
    assert [orjson.dumps(value) for value in got] == [orjson.dumps(value) for value in expected]
    assert state == orjson.dumps(whole.state())


def test_the_largest_state_stays_within_a_commit():
    made = processor(LARGEST)
    digits = 1.2345678901234567e-290  # as many characters as a double takes in JSON
    for start in range(0, 3000, 1000):
        batch = [
            candle(minute * 2, close=digits * (1 + minute % 7 / 7), high=digits * 3, low=digits / 3, volume=digits)
            for minute in range(start, start + 1000)
        ]
        assert len(made.process(Batch.of(batch))) == 1000
    state = orjson.dumps(made.state())
    assert len(orjson.loads(state)["indicators"]["bb_100"]) == 100
    assert 3000 < len(state) < 3500


def test_a_state_of_other_params_is_not_taken():
    with pytest.raises(FatalError, match="of other params"):
        Indicators(IndicatorParams(rsi=15)).restore(Indicators(IndicatorParams()).state())
