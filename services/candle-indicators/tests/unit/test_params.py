"""Which params are taken."""

import pytest
from pydantic import ValidationError

from candle_indicators.params import IndicatorParams


def test_the_defaults_are_those_of_the_contract():
    assert IndicatorParams.model_validate_json("{}").model_dump(mode="json") == {
        "ema": [50, 200],
        "rsi": 14,
        "atr": 14,
        "vwap": True,
        "macd": [12, 26, 9],
        "bollinger": [20, 2.0],
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"ema": [50, 50]}',
        '{"ema": [1]}',
        '{"ema": [1001]}',
        '{"ema": [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]}',
        '{"rsi": 0}',
        '{"atr": "fourteen"}',
        '{"macd": [12, 26]}',
        '{"bollinger": [101, 2.0]}',
        '{"bollinger": [20, 0]}',
        '{"sma": 20}',
    ],
)
def test_params_out_of_bounds_are_refused(text):
    with pytest.raises(ValidationError):
        IndicatorParams.model_validate_json(text)
