"""What is stored of a candle, and which candles are refused."""

from typing import Any

import pytest

from arango_candles.validation import ValidateCandle
from streamforge_utils.contracts.candle import FIELDS, INDICATORS
from streamforge_utils.contracts.time_range import TimeRange
from streamforge_utils.contracts.workflow_type import WorkflowType
from streamforge_utils.pipeline import Batch

START = 1_722_470_400_000  # 2024-08-01T00:00Z
END = START + 86_400_000
MINUTE = 60_000


def candle(**fields: Any) -> dict[str, Any]:
    open_time = fields.get("open_time", START)
    return {
        "_key": str(open_time),
        "symbol": "BTCUSDT",
        "interval": "1m",
        "open_time": open_time,
        "close_time": open_time + MINUTE - 1 if isinstance(open_time, int) else 0,
        "open": 10.0,
        "high": 12.0,
        "low": 9,
        "close": 11.5,
        "volume": 1.0,
        "quote_volume": 11.0,
        "trades": 3,
        "taker_buy_volume": 0.5,
        "taker_buy_quote_volume": 5.5,
        **fields,
    }


def validator() -> ValidateCandle:
    return ValidateCandle(
        queue_id="wf-btcusdt-api_candles_1m-20240801-abc123",
        symbol="BTCUSDT",
        workflow_type=WorkflowType.parse("api_candles_1m"),
        time_range=TimeRange.parse("2024-08-01:2024-08-02"),
    )


def without(name: str) -> dict[str, Any]:
    return {field: value for field, value in candle().items() if field != name}


def test_a_document_has_the_fields_of_the_contract_and_its_workflow():
    (document,) = validator().process(Batch.of([candle()])).values
    assert document == candle() | {"queue_id": "wf-btcusdt-api_candles_1m-20240801-abc123"}
    assert set(document) == {*FIELDS, "queue_id"}


def test_indicators_are_kept_under_whatever_periods_they_have_and_null_stays_null():
    carried = dict.fromkeys(INDICATORS) | {"ema_7": 10.5, "rsi_21": 50, "atr_3": 0.1}
    (document,) = validator().process(Batch.of([candle(**carried)])).values
    assert {name: document[name] for name in carried} == carried


def test_fields_that_are_no_candle_s_are_left_out():
    (document,) = validator().process(Batch.of([candle(ignore="0", _rev="x", ema="text", vwapx=1)])).values
    assert set(document) == {*FIELDS, "queue_id"}


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        *[(without(name), "wrong-schema", name) for name in FIELDS],
        (["no", "object"], "wrong-schema", "list"),
        (candle(volume="1.0"), "wrong-schema", "volume"),
        (candle(close=float("nan")), "wrong-schema", "close"),
        (candle(open_time=True), "wrong-schema", "open_time"),
        (candle(trades=1.5), "wrong-schema", "trades"),
        (candle(high=8.0), "inconsistent", "high 8.0 < low 9"),
        (candle(close=13.0), "inconsistent", "outside"),
        (candle(_key="1"), "inconsistent", "_key"),
        (candle(interval="5m"), "inconsistent", "interval '5m'"),
        (candle(symbol="ETHUSDT"), "wrong-symbol", "'ETHUSDT', the workflow's is 'BTCUSDT'"),
        (candle(open_time=START - MINUTE), "out-of-range", "2024-08-01:2024-08-02"),
        (candle(open_time=END), "out-of-range", str(END)),
        (candle(ema_50="12"), "wrong-schema", "ema_50"),
        (candle(vwap=float("inf")), "wrong-schema", "vwap"),
        (candle(rsi_14=True), "wrong-schema", "rsi_14"),
    ],
)
def test_a_wrong_candle_is_refused_with_its_reason_and_the_others_go_on(bad, code, says):
    batch = Batch.of([candle(), bad, candle(open_time=END - MINUTE)])
    got = validator().process(batch)
    assert [document["open_time"] for document in got.values] == [START, END - MINUTE]
    assert list(got.origins) == [0, 2]
    assert batch.verdicts.refused.keys() == {1}
    found, reason = batch.verdicts.refused[1]
    assert found == code
    assert says in reason


def test_a_worker_without_symbol_type_and_range_takes_every_right_candle():
    made = ValidateCandle(queue_id="q")
    batch = Batch.of([candle(), candle(symbol="X", interval="5m", open_time=0, close_time=1)])
    assert len(made.process(batch)) == 2


def test_records_that_all_have_other_fields_do_not_fill_the_memory():
    made = validator()
    made.process(Batch.of([candle(**{f"field_{number}": 1}) for number in range(2500)]))
    assert len(made._shapes) <= 1000
