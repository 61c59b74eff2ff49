"""The schema ``candle.v1``: the record that loaders write, indicators enrich and stores keep.

A record is a plain dict (no model per record on the hot path). Times are milliseconds since the epoch, integers; prices
and volumes are numbers; the key is the open time. The fields are those of the exchange's klines
(https://developers.binance.com/docs/binance-spot-api-docs, "Kline/Candlestick data").
"""

import math
from operator import itemgetter
from typing import Any

SCHEMA = "candle.v1"
INDICATORS = (
    "ema_50",
    "ema_200",
    "rsi_14",
    "atr_14",
    "vwap",
    "macd",
    "macd_signal",
    "macd_hist",
    "bb_upper",
    "bb_middle",
    "bb_lower",
)
"""What an enriched candle carries besides, null while undefined (names by the default params)."""

_TIMES = ("open_time", "close_time")
_PRICES = ("open", "high", "low", "close")
_VOLUMES = ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
FIELDS = ("_key", "symbol", "interval", *_TIMES, *_PRICES, *_VOLUMES, "trades")
"""What every candle carries."""


_values = itemgetter(*FIELDS)
_USUAL = (str, str, str, int, int, *[float] * (len(_PRICES) + len(_VOLUMES)), int)


def fault(candle: Any) -> tuple[str, str] | None:
    """What is wrong with a candle, as (code, reason); None when nothing is."""
    return None if _is_usual(candle) else _found_fault(candle)


def _is_usual(candle: Any) -> bool:
    """Whether nothing is wrong, seen at one glance: four times as fast as looking for what may be."""
    if type(candle) is not dict:
        return False
    try:
        values = _values(candle)
    except KeyError:
        return False
    if tuple(map(type, values)) != _USUAL:
        return False
    key, _, _, opened, closed, first, high, low, last, volume, quote, taker, taker_quote, trades = values
    return bool(
        0 <= opened < closed
        and 0 <= low <= first <= high < math.inf
        and low <= last <= high
        and 0 <= volume < math.inf
        and 0 <= quote < math.inf
        and 0 <= taker < math.inf
        and 0 <= taker_quote < math.inf
        and trades >= 0
        and key == str(opened)
    )


def _found_fault(candle: Any) -> tuple[str, str] | None:
    if type(candle) is not dict:
        return "wrong-schema", f"a candle is an object, not {type(candle).__name__}"
    for name in FIELDS:
        if name not in candle:
            return "wrong-schema", f"the field {name} is missing"
    return _type_fault(candle) or _consistency_fault(candle)


def _type_fault(candle: dict[str, Any]) -> tuple[str, str] | None:
    for name in ("_key", "symbol", "interval"):
        if type(candle[name]) is not str:
            return "wrong-schema", f"{name} is not a text: {candle[name]!r:.80}"
    for name in (*_TIMES, "trades"):
        if type(candle[name]) is not int or candle[name] < 0:
            return "wrong-schema", f"{name} is not a whole number >= 0: {candle[name]!r:.80}"
    for name in (*_PRICES, *_VOLUMES):
        value = candle[name]
        if (type(value) is not float and type(value) is not int) or not math.isfinite(value) or value < 0:
            return "wrong-schema", f"{name} is not a finite number >= 0: {value!r:.80}"
    return None


def _consistency_fault(candle: dict[str, Any]) -> tuple[str, str] | None:
    if candle["_key"] != str(candle["open_time"]):
        return "inconsistent", f"_key {candle['_key']!r:.40} is not the open time {candle['open_time']}"
    high, low = candle["high"], candle["low"]
    if high < low:
        return "inconsistent", f"high {high} < low {low}"
    if not (low <= candle["open"] <= high and low <= candle["close"] <= high):
        return "inconsistent", f"open or close lies outside of low {low} and high {high}"
    if candle["close_time"] <= candle["open_time"]:
        return "inconsistent", f"close_time {candle['close_time']} is not after open_time {candle['open_time']}"
    return None
