"""Date functions, in UTC (docs: AQL / Functions / Date): milliseconds or ISO 8601 in, ISO 8601 out."""

from __future__ import annotations

import datetime as dt
import math
import re
import time
from collections.abc import Callable
from typing import Any, Final

from arango_local.aql.functions.registry import function, invalid, number
from arango_local.errors import unsupported
from arango_local.values import is_number, to_number, truthy

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ISO: Final = re.compile(
    r"(\d{4})(?:-(\d\d?)(?:-(\d\d?))?)?(?:[T ](\d\d?):(\d\d?)(?::(\d\d?)(?:[.,](\d+))?)?)?\s*(Z|[+-]\d\d:?\d\d)?",
    re.IGNORECASE,
)
_DURATION: Final = re.compile(
    r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_UNITS: Final = {
    spelling: unit
    for unit, spellings in {
        "y": "y year years",
        "m": "m month months",
        "w": "w week weeks",
        "d": "d day days",
        "h": "h hour hours",
        "i": "i minute minutes",
        "s": "s second seconds",
        "f": "f millisecond milliseconds",
    }.items()
    for spelling in spellings.split()
}
_MILLISECONDS: Final = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "i": 60_000, "s": 1000, "f": 1}
# The mean month and year of the Gregorian calendar, which DATE_DIFF uses.
_MEAN: Final = {"m": 2_629_746_000, "y": 31_556_952_000}


def moment(value: Any) -> dt.datetime:
    """Returns the time of a number of milliseconds or of an ISO string."""
    if is_number(value):
        try:
            return _EPOCH + dt.timedelta(milliseconds=int(value))
        except OverflowError:
            invalid()
    found = _ISO.fullmatch(value.strip()) if type(value) is str else None
    if found is None:
        invalid()
    milliseconds = int((found[7] or "0")[:3].ljust(3, "0"))
    try:
        parts = [int(found[group] or default) for group, default in ((1, 1), (2, 1), (3, 1), (4, 0), (5, 0), (6, 0))]
        local = dt.datetime(*parts, milliseconds * 1000, tzinfo=dt.UTC)  # type: ignore[arg-type,misc]  # six integers
    except ValueError:
        invalid()
    return local - _offset(found[8])


def _offset(zone: str | None) -> dt.timedelta:
    if zone is None or zone in "Zz":
        return dt.timedelta()
    digits = zone[1:].replace(":", "")
    offset = dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -offset if zone[0] == "-" else offset


def timestamp(value: Any) -> int:
    """Returns milliseconds since the epoch."""
    return (moment(value) - _EPOCH) // dt.timedelta(milliseconds=1)


def iso(time_of: dt.datetime) -> str:
    """Returns ISO 8601 with milliseconds."""
    return f"{time_of:%Y-%m-%dT%H:%M:%S}.{time_of.microsecond // 1000:03d}Z"


def _given(value: Any, parts: tuple[Any, ...]) -> Any:
    if not parts:
        return value
    year, month, day, *rest = [int(to_number(part)) for part in (value, *parts)] + ([1] if len(parts) == 1 else [])
    hour, minute, second, milliseconds = (*rest, 0, 0, 0, 0)[:4]
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}.{milliseconds:03d}Z"


def _unit(name: Any) -> str:
    return _UNITS.get(str(name).lower()) or invalid()


@function("DATE_NOW")
def date_now() -> int:
    """DATE_NOW(): milliseconds."""
    return time.time_ns() // 1_000_000


@function("DATE_TIMESTAMP")
def date_timestamp(value: Any, *parts: Any) -> int:
    """DATE_TIMESTAMP(date), or of year, month, day, hour, minute, second, millisecond."""
    return timestamp(_given(value, parts))


@function("DATE_ISO8601")
def date_iso8601(value: Any, *parts: Any) -> str:
    """DATE_ISO8601(date), or of year, month, day, hour, minute, second, millisecond."""
    return iso(moment(_given(value, parts)))


@function("IS_DATESTRING")
def is_datestring(value: Any) -> bool:
    """IS_DATESTRING(value)."""
    return type(value) is str and _ISO.fullmatch(value.strip()) is not None


def _moved(value: Any, amount: Any, unit: Any, sign: int) -> str:
    if unit is not None:
        steps = [(float(number(amount)), _unit(unit))]
    else:
        found = _DURATION.fullmatch(amount) if type(amount) is str else None
        steps = (
            []
            if found is None
            else [(float(part or 0), name) for part, name in zip(found.groups(), "ymwdhis", strict=True)]
        )
        if found is None:
            invalid()
    result = moment(value)
    for count, name in steps:
        result = _step(result, count * sign, name)
    return iso(result)


def _step(start: dt.datetime, count: float, unit: str) -> dt.datetime:
    if unit in _MILLISECONDS:
        return start + dt.timedelta(milliseconds=count * _MILLISECONDS[unit])
    year, month = divmod(start.year * 12 + start.month - 1 + int(count * (12 if unit == "y" else 1)), 12)
    # A day that the month lacks runs over into the next: 31 January and a month is 2 or 3 March.
    return start.replace(year=year, month=month + 1, day=1) + dt.timedelta(days=start.day - 1)


@function("DATE_ADD")
def date_add(value: Any, amount: Any, unit: Any = None) -> str:
    """DATE_ADD(date, amount, unit), or DATE_ADD(date, ISO duration)."""
    return _moved(value, amount, unit, 1)


@function("DATE_SUBTRACT")
def date_subtract(value: Any, amount: Any, unit: Any = None) -> str:
    """DATE_SUBTRACT(date, amount, unit), or DATE_SUBTRACT(date, ISO duration)."""
    return _moved(value, amount, unit, -1)


@function("DATE_DIFF")
def date_diff(first: Any, second: Any, unit: Any, as_float: Any = False) -> float:
    """DATE_DIFF(date, date, unit, asFloat)."""
    if type(as_float) is str:
        raise unsupported("a time zone in DATE_DIFF()")
    name = _unit(unit)
    difference = (timestamp(second) - timestamp(first)) / (_MILLISECONDS | _MEAN)[name]
    return difference if truthy(as_float) else math.trunc(difference)


@function("DATE_TRUNC")
def date_trunc(value: Any, unit: Any) -> str:
    """DATE_TRUNC(date, unit)."""
    time_of, name = moment(value), _unit(unit)
    if name == "w":
        invalid()
    keep = "ymdhisf".index(name) + 1
    parts = [
        time_of.year,
        time_of.month,
        time_of.day,
        time_of.hour,
        time_of.minute,
        time_of.second,
        time_of.microsecond,
    ]
    year, month, day, hour, minute, second, micro = parts[:keep] + [1, 1, 1, 0, 0, 0, 0][keep:]
    return iso(dt.datetime(year, month, day, hour, minute, second, micro, tzinfo=dt.UTC))


@function("DATE_ROUND")
def date_round(value: Any, amount: Any, unit: Any) -> str:
    """DATE_ROUND(date, amount, unit): down to a multiple since the epoch."""
    width = int(number(amount) * _MILLISECONDS.get(_unit(unit), 0))
    if width <= 0:
        invalid()
    milliseconds = timestamp(value)
    return iso(moment(milliseconds - milliseconds % width))


@function("DATE_COMPARE")
def date_compare(first: Any, second: Any, start: Any, end: Any = None) -> bool:
    """DATE_COMPARE(date, date, unitRangeStart, unitRangeEnd)."""
    order = "ymdhisf"
    low, high = _unit(start), _unit(start if end is None else end)
    if "w" in (low, high):
        invalid()
    parts = slice(order.index(low), order.index(high) + 1)
    return _parts(moment(first))[parts] == _parts(moment(second))[parts]


def _parts(time_of: dt.datetime) -> list[int]:
    return [*time_of.timetuple()[:6], time_of.microsecond // 1000]


def _part(name: str, part: Callable[[dt.datetime], Any]) -> None:
    function(name)(lambda value: part(moment(value)))


_part("DATE_YEAR", lambda time_of: time_of.year)
_part("DATE_MONTH", lambda time_of: time_of.month)
_part("DATE_DAY", lambda time_of: time_of.day)
_part("DATE_HOUR", lambda time_of: time_of.hour)
_part("DATE_MINUTE", lambda time_of: time_of.minute)
_part("DATE_SECOND", lambda time_of: time_of.second)
_part("DATE_MILLISECOND", lambda time_of: time_of.microsecond // 1000)
_part("DATE_DAYOFWEEK", lambda time_of: time_of.isoweekday() % 7)
_part("DATE_DAYOFYEAR", lambda time_of: time_of.timetuple().tm_yday)
_part("DATE_ISOWEEK", lambda time_of: time_of.isocalendar().week)
_part("DATE_QUARTER", lambda time_of: (time_of.month + 2) // 3)
_part("DATE_LEAPYEAR", lambda time_of: time_of.year % 4 == 0 and (time_of.year % 100 != 0 or time_of.year % 400 == 0))
_part(
    "DATE_DAYS_IN_MONTH",
    lambda time_of: (_step(time_of.replace(day=1), 1, "m") - time_of.replace(day=1)).days,
)
