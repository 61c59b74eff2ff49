"""Numeric functions and statistics. Aggregates leave nulls out; any other element that is no number makes them null."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from typing import Any

from arango_local.aql.functions.registry import array, function, invalid, number
from arango_local.encoding import encode
from arango_local.values import is_number, to_number, unique


def _numeric(*names: str) -> Callable[[Callable[[float], float]], Callable[[float], float]]:
    def register(compute: Callable[[float], float]) -> Callable[[float], float]:
        def implementation(value: Any) -> float | None:
            try:
                return compute(to_number(value))
            except ValueError:
                return None

        function(*names)(implementation)
        return compute

    return register


_numeric("ABS")(abs)
_numeric("CEIL")(math.ceil)
_numeric("FLOOR")(math.floor)
_numeric("ROUND")(lambda value: math.floor(value + 0.5))
_numeric("SQRT")(math.sqrt)
_numeric("LOG")(math.log)
_numeric("LOG2")(math.log2)
_numeric("LOG10")(math.log10)
_numeric("EXP")(math.exp)


@function("POW")
def power(base: Any, exponent: Any) -> float | None:
    """POW(base, exponent)."""
    try:
        result = math.pow(to_number(base), to_number(exponent))
    except ValueError:
        return None
    return int(result) if result.is_integer() and abs(result) < 1 << 53 else result


@function("PI")
def pi() -> float:
    """PI()."""
    return math.pi


@function("RAND")
def rand() -> float:
    """RAND(): 0 <= x < 1."""
    return random.random()  # noqa: S311 - AQL's RAND is no source of secrets


@function("RANGE")
def number_range(start: Any, stop: Any, step: Any = 1) -> list[float]:
    """RANGE(start, stop, step)."""
    first, last, width = number(start), number(stop), number(step)
    if width == 0 or (last - first) / width > 1_000_000:
        invalid()
    return (
        [first + index * width for index in range(int((last - first) / width) + 1)]
        if (last - first) / width >= 0
        else []
    )


@function("MIN")
def minimum(values: Any) -> Any:
    """MIN(array) in AQL's order."""
    return min((value for value in array(values) if value is not None), key=encode, default=None)


@function("MAX")
def maximum(values: Any) -> Any:
    """MAX(array) in AQL's order."""
    return max((value for value in array(values) if value is not None), key=encode, default=None)


def _numbers(values: Any) -> list[float]:
    found = [value for value in array(values) if value is not None]
    if not all(map(is_number, found)):
        invalid()
    return found


@function("SUM")
def total(values: Any) -> float:
    """SUM(array)."""
    found = _numbers(values)
    return math.fsum(found) if any(type(value) is float for value in found) else sum(found)


@function("AVERAGE", "AVG")
def average(values: Any) -> float | None:
    """AVERAGE(array)."""
    found = _numbers(values)
    return math.fsum(found) / len(found) if found else None


@function("PRODUCT")
def product(values: Any) -> float:
    """PRODUCT(array)."""
    return math.prod(_numbers(values))


@function("MEDIAN")
def median(values: Any) -> float | None:
    """MEDIAN(array)."""
    found = _numbers(values)
    return statistics.median(found) if found else None


@function("PERCENTILE")
def percentile(values: Any, part: Any, method: Any = "rank") -> float | None:
    """PERCENTILE(array, n, "rank" or "interpolation")."""
    found, share = sorted(_numbers(values)), number(part)
    if not 0 < share <= 100 or method not in ("rank", "interpolation"):
        invalid()
    if not found:
        return None
    if method == "rank":
        return found[max(0, math.ceil(share / 100 * len(found)) - 1)]
    place = share / 100 * (len(found) + 1)
    below = int(place)
    if below < 1:
        return found[0]
    if below >= len(found):
        return found[-1]
    return found[below - 1] + (place - below) * (found[below] - found[below - 1])


@function("VARIANCE_POPULATION", "VARIANCE")
def variance_population(values: Any) -> float | None:
    """VARIANCE_POPULATION(array)."""
    found = _numbers(values)
    return statistics.pvariance(map(float, found)) if found else None


@function("VARIANCE_SAMPLE")
def variance_sample(values: Any) -> float | None:
    """VARIANCE_SAMPLE(array)."""
    found = _numbers(values)
    return statistics.variance(map(float, found)) if len(found) > 1 else None


@function("STDDEV_POPULATION", "STDDEV")
def stddev_population(values: Any) -> float | None:
    """STDDEV_POPULATION(array)."""
    variance = variance_population(values)
    return None if variance is None else math.sqrt(variance)


@function("STDDEV_SAMPLE")
def stddev_sample(values: Any) -> float | None:
    """STDDEV_SAMPLE(array)."""
    variance = variance_sample(values)
    return None if variance is None else math.sqrt(variance)


@function("COUNT_DISTINCT", "COUNT_UNIQUE")
def count_distinct(values: Any) -> int:
    """COUNT_DISTINCT(array)."""
    return len(unique(array(values)))
