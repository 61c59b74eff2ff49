"""A kline as the exchange publishes it, made a ``candle.v1``. Pure; the hot path of the loader.

Columns of archive files and of ``/api/v3/klines``, and the fields of the kline stream: "Kline/Candlestick data" and
"Kline/Candlestick Streams" in https://developers.binance.com/docs/binance-spot-api-docs. Archive files of spot carry
microseconds since 2025-01-01 (https://github.com/binance/binance-public-data).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from operator import itemgetter
from typing import Any

from loader_candles.series import Series

Cells = Sequence[Any]

COLUMNS = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)
"""The columns that are used, in the exchange's order; a twelfth, ``ignore``, follows."""
WIDTH = len(COLUMNS) + 1

_ALIASES = {
    "quote_asset_volume": "quote_volume",
    "count": "trades",
    "trade_count": "trades",
    "number_of_trades": "trades",
    "num_trades": "trades",
    "taker_buy_base": "taker_buy_volume",
    "taker_buy_base_volume": "taker_buy_volume",
    "taker_buy_base_asset_volume": "taker_buy_volume",
    "taker_buy_quote": "taker_buy_quote_volume",
    "taker_buy_quote_asset_volume": "taker_buy_quote_volume",
}
_STREAM_FIELDS = itemgetter("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# As milliseconds these bounds are 1973 to 5138, as microseconds again; seconds and nanoseconds lie outside of both.
_MIN_MS, _MIN_US, _MAX_US = 10**11, 10**14, 10**17
_MAX_TRADES = 2**63 - 1  # what 64 bits hold: a larger one cannot be written as JSON


def milliseconds(cell: Any) -> int:
    """A time in milliseconds or microseconds since the epoch, or in ISO 8601 with an offset; floored to milliseconds.

    Raises:
        ValueError: none of these.
    """
    try:
        value = int(cell)
    except ValueError:
        return _of_iso(cell)
    if _MIN_MS <= value < _MIN_US:
        return value
    if _MIN_US <= value < _MAX_US:
        return value // 1000
    raise ValueError(f"{value} is no time in milliseconds or microseconds since 1970")


def _of_iso(cell: Any) -> int:
    text = _text(cell)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time") from None
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def candle(cells: Cells, series: Series) -> dict[str, Any]:
    """The record of one kline: the values of ``COLUMNS``, as texts, bytes or numbers.

    Raises:
        ValueError: a value that is no number or too large, or not of the interval; the message names the column.
    """
    try:
        opened, o, h, low, c, v, closed, q, n, tb, tq = cells
        open_time, close_time, trades = milliseconds(opened), milliseconds(closed), int(n)
        o, h, low, c, v, q, tb, tq = float(o), float(h), float(low), float(c), float(v), float(q), float(tb), float(tq)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(_fault(cells)) from error
    if not (isfinite(o + h + low + c + v + q + tb + tq) and 0 <= trades <= _MAX_TRADES):
        raise ValueError(_fault(cells))
    if open_time % series.interval_ms or close_time - open_time >= series.interval_ms:
        raise ValueError(f"open_time {open_time} to close_time {close_time} is no candle of {series.interval}")
    return {
        "_key": str(open_time),
        "symbol": series.symbol,
        "interval": series.interval,
        "open_time": open_time,
        "close_time": close_time,
        "open": o,
        "high": h,
        "low": low,
        "close": c,
        "volume": v,
        "quote_volume": q,
        "trades": trades,
        "taker_buy_volume": tb,
        "taker_buy_quote_volume": tq,
    }


def candle_of_stream(kline: Mapping[str, Any], series: Series) -> dict[str, Any]:
    """The record of the object ``k`` of a kline event.

    Raises:
        ValueError: a field that is missing or no number, or another symbol or interval.
    """
    if (kline.get("s"), kline.get("i")) != (series.symbol, series.interval):
        raise ValueError(f"a kline of {kline.get('s')} {kline.get('i')}, not of {series.symbol} {series.interval}")
    try:
        return candle(_STREAM_FIELDS(kline), series)
    except KeyError as error:
        raise ValueError(f"the field {error} is missing") from error


def columns_of(header: bytes) -> Callable[[Cells], Cells]:
    """How to pick the values of ``COLUMNS`` from the rows under a header line; order and further columns are free.

    Raises:
        ValueError: columns are missing; the message names them.
    """
    names = [_canonical(name) for name in _text(header).split(",")]
    if missing := [name for name in COLUMNS if name not in names]:
        raise ValueError(f"the header lacks the columns {', '.join(missing)}")
    return itemgetter(*(names.index(name) for name in COLUMNS))


def is_header(line: bytes) -> bool:
    """Whether a first line names columns: its first cell has letters and is no time."""
    first = line.split(b",", 1)[0]
    try:
        milliseconds(first)
    except ValueError:
        return re.search(rb"[A-Za-z]{3}", first) is not None
    return False


def _canonical(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")
    return _ALIASES.get(plain, plain)


def _fault(cells: Cells) -> str:
    for name, cell in zip(COLUMNS, cells, strict=False):
        if fault := _cell_fault(name, cell):
            return f"{name} {fault}: {_text(cell)[:40]!r}"
    return f"{len(cells)} values instead of {len(COLUMNS)}"


def _cell_fault(name: str, cell: Any) -> str | None:
    read = milliseconds if name in {"open_time", "close_time"} else int if name == "trades" else float
    try:
        value = read(cell)
    except (ValueError, TypeError, OverflowError):
        return "is no time" if read is milliseconds else "is no number"
    if name == "trades":
        return None if 0 <= value <= _MAX_TRADES else f"is not from 0 to {_MAX_TRADES}"
    return None if isfinite(value) else "is no number"


def _text(cell: Any) -> str:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)
