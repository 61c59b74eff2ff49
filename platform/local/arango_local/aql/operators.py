"""What AQL's operators do to values (docs: AQL / Operators). Must never read documents."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Protocol

from arango_local.errors import QUERY_ARRAY_EXPECTED, QUERY_DIVISION_BY_ZERO
from arango_local.values import contains, eq, is_array, is_number, lt, to_number, to_string, truthy

_SMALLEST: Final = -(1 << 63)
_LARGEST: Final = 1 << 64


class Warnings(Protocol):
    """Takes the warnings of a query."""

    def warn(self, number: int, message: str) -> None:
        """Adds a warning."""


def plain_number(number: float) -> int | float | None:
    """Returns a result as AQL holds it: integers beyond 64 bits become doubles, what is not finite becomes null."""
    if type(number) is int:
        return number if _SMALLEST <= number < _LARGEST else float(number)
    return number if math.isfinite(number) else None


def arithmetic(warnings: Warnings, operator: str, left: Any, right: Any) -> int | float | None:
    """Computes `left operator right` after a cast to numbers; null for a division by zero, with a warning."""
    a, b = to_number(left), to_number(right)
    if operator in "/%" and b == 0:
        warnings.warn(QUERY_DIVISION_BY_ZERO, "division by zero")
        return None
    try:
        return plain_number(_ARITHMETIC[operator](a, b))
    except OverflowError:
        return None


def _divide(a: float, b: float) -> float:
    return a // b if type(a) is int and type(b) is int and a % b == 0 else a / b


def _remainder(a: float, b: float) -> float:
    if type(a) is int and type(b) is int:
        return a - b * int(_truncated(a, b))
    return math.fmod(a, b)


def _truncated(a: int, b: int) -> int:
    return a // b if (a >= 0) == (b > 0) else -(-a // b)


_ARITHMETIC: Final[dict[str, Callable[[float, float], float]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "%": _remainder,
}
COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": eq,
    "!=": lambda left, right: not eq(left, right),
    "<": lt,
    "<=": lambda left, right: not lt(right, left),
    ">": lambda left, right: lt(right, left),
    ">=": lambda left, right: not lt(left, right),
    "IN": lambda left, right: contains(right, left),
    "NOT IN": lambda left, right: not contains(right, left),
}


def compare(operator: str, left: Any, right: Any) -> bool:
    """Computes a comparison."""
    return COMPARISONS[operator](left, right)


def quantified(quantifier: str, operator: str, values: Any, right: Any) -> bool:
    """Computes `values ALL|ANY|NONE operator right`; false when the left side is no array."""
    if not is_array(values):
        return False
    found = (COMPARISONS[operator](value, right) for value in values)
    if quantifier == "ALL":
        return all(found)
    return any(found) if quantifier == "ANY" else not any(found)


def both(left: Any, right: Callable[[], Any]) -> Any:
    """Computes AND: the first operand that is false, else the last."""
    return right() if truthy(left) else left


def either(left: Any, right: Callable[[], Any]) -> Any:
    """Computes OR and `?:`: the first operand that is true, else the last."""
    return left if truthy(left) else right()


def interval(low: Any, high: Any) -> range:
    """Computes `low..high`: integers, both ends inside, falling when high is below low."""
    first, last = int(to_number(low)), int(to_number(high))
    return range(first, last + 1) if first <= last else range(first, last - 1, -1)


def access(base: Any, name: Any) -> Any:
    """Computes `base[name]`: an attribute, a path of attributes, or an element counted from either end; else null."""
    if type(base) is dict:
        if is_array(name):
            for part in name:
                base = base.get(part) if type(base) is dict else None
            return base
        return base.get(name if type(name) is str else to_string(name))
    if is_array(base) and is_number(name):
        position = int(name)
        return base[position] if -len(base) <= position < len(base) else None
    return None


def elements(warnings: Warnings, value: Any) -> Any:
    """Returns what FOR goes through; nothing, with a warning, when it is no array."""
    if is_array(value):
        return value
    warnings.warn(QUERY_ARRAY_EXPECTED, "array expected as operand to FOR loop")
    return ()


def flattened(value: Any, depth: int) -> list[Any]:
    """Returns the elements that `[*]`, `[**]`.. goes through; none when it is no array."""
    if not is_array(value):
        return []
    if depth <= 1:
        return list(value)
    return [inner for each in value for inner in (flattened(each, depth - 1) if is_array(each) else [each])]
