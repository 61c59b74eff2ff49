"""The schema ``candle.v1``: the record that loaders write, indicators enrich and stores keep.

A record is a plain dict (no model per record on the hot path). Times are milliseconds since the epoch, integers; prices
and volumes are numbers; the key is the open time. The fields are those of the exchange's klines
(https://developers.binance.com/docs/binance-spot-api-docs, "Kline/Candlestick data").
"""

import math
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


def fault(candle: Any) -> tuple[str, str] | None:
    """What is wrong with a candle, as (code, reason); None when nothing is."""
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
