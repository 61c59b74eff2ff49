import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamforge_utils.contracts import candle
from streamforge_utils.contracts.candle import FIELDS, fault

RIGHT = {
    "_key": "60000",
    "symbol": "BTCUSDT",
    "interval": "1m",
    "open_time": 60000,
    "close_time": 119999,
    "open": 2.0,
    "high": 3.0,
    "low": 1.0,
    "close": 2.5,
    "volume": 1.0,
    "quote_volume": 2.0,
    "taker_buy_volume": 0.5,
    "taker_buy_quote_volume": 1.0,
    "trades": 7,
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 120_000),
    st.floats(-1, 4),
    st.sampled_from([float("nan"), float("inf"), -0.0, 1e308]),
    st.sampled_from(["60000", "", "BTCUSDT"]),
    st.lists(st.integers(), max_size=1),
)


def test_a_right_candle_has_no_fault_whole_prices_too():
    assert fault(RIGHT) is None
    assert fault(RIGHT | {"open": 2, "volume": 0, "ema_50": None}) is None


@pytest.mark.parametrize("value", [None, 7, "text", [], tuple(RIGHT.values())])
def test_what_is_no_object_is_told(value):
    assert fault(value)[0] == "wrong-schema"


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_named(name):
    code, reason = fault({key: value for key, value in RIGHT.items() if key != name})
    assert code == "wrong-schema"
    assert name in reason


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
@example({})
@example({"high": float("nan")})
@example({"trades": True})
def test_the_quick_look_never_passes_what_the_long_one_refuses(changes):
    changed = RIGHT | changes
    if candle._is_usual(changed):
        assert candle._found_fault(changed) is None
    assert fault(changed) == candle._found_fault(changed)
