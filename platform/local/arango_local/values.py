"""AQL values: types, order, truth and casts.

Source: the docs, AQL / Fundamentals / Type and value order, Data types; AQL / Functions / Type check and cast.

JSON values are plain Python ones; `None` is null. Must never touch documents, storage or queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import orjson

from arango_local.encoding import encode

Value: TypeAlias = Any

_RANK: Final = {type(None): 0, bool: 1, int: 2, float: 2, str: 3, list: 4, tuple: 4, range: 4, dict: 5}
_TYPE_NAMES: Final = ("null", "bool", "number", "string", "array", "object")
_LARGEST_PLAIN_FLOAT: Final = 1e17
_MAY_HOLD_DOUBLES: Final = frozenset((float, dict, list, tuple, range))


def rank(value: Value) -> int:
    """Returns the place of a value's type in the order null < bool < number < string < array < object."""
    return _RANK[type(value)]


def type_name(value: Value) -> str:
    """Returns what AQL's TYPENAME() says."""
    return _TYPE_NAMES[rank(value)]


def is_number(value: Value) -> bool:
    """Says whether a value is a number (a bool is not)."""
    return type(value) in (int, float)


def is_array(value: Value) -> bool:
    """Says whether a value is an array; ranges are arrays that are not written out."""
    return type(value) in (list, tuple, range)


def eq(left: Value, right: Value) -> bool:
    """AQL's `==`: no cast, 1 == 1.0, a missing array element or attribute equals null."""
    left_rank, right_rank = _RANK[type(left)], _RANK[type(right)]
    if left_rank != right_rank:
        return False
    return bool(left == right) if left_rank < 4 else encode(left) == encode(right)


def lt(left: Value, right: Value) -> bool:
    """AQL's `<`: total over all types."""
    left_rank, right_rank = _RANK[type(left)], _RANK[type(right)]
    if left_rank != right_rank:
        return left_rank < right_rank
    if left_rank == 0:
        return False
    return bool(left < right) if left_rank < 4 else encode(left) < encode(right)


def contains(values: Value, wanted: Value) -> bool:
    """AQL's `wanted IN values`; false when `values` is no array."""
    if not is_array(values):
        return False
    if type(values) is range and is_number(wanted):
        return wanted in values
    return any(eq(value, wanted) for value in values)


def truthy(value: Value) -> bool:
    """Returns the truth of a value: null, false, 0 and "" are false, every array and object is true."""
    if value is True:
        return True
    if not value:
        return _RANK[type(value)] >= 4
    return True


def to_number(value: Value) -> int | float:
    """Casts to a number: null 0, true 1, "99" 99, [2] 2, anything else 0."""
    kind = type(value)
    if kind is int or kind is float:
        return value  # type: ignore[no-any-return]
    if kind is bool:
        return int(value)
    if kind is str:
        return _number_of_text(value.strip())
    if is_array(value) and len(value) == 1:
        return to_number(value[0])
    return 0


def _number_of_text(text: str) -> int | float:
    if "_" in text:
        return 0
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return 0
    return number if math.isfinite(number) else 0


def to_string(value: Value) -> str:
    """Casts to a string: null "", strings as they are, anything else its JSON."""
    if value is None:
        return ""
    if type(value) is str:
        return value
    return dump(value).decode()


def to_array(value: Value) -> list[Value]:
    """Casts to an array: null [], an object its values, a scalar an array of it."""
    if value is None:
        return []
    if is_array(value):
        return list(value)
    return list(value.values()) if type(value) is dict else [value]


def unique(values: Iterable[Value]) -> list[Value]:
    """Returns the values without those equal to an earlier one, in their order."""
    seen: dict[bytes, Value] = {}
    for value in values:
        seen.setdefault(encode(value), value)
    return list(seen.values())


def ordered(values: Iterable[Value]) -> list[Value]:
    """Returns the values in AQL's order."""
    return sorted(values, key=encode)


def integral(value: Value) -> Value:
    """Returns a value whose integral doubles are integers, as ArangoDB prints them (30000.0 is sent as 30000)."""
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() and abs(value) < _LARGEST_PLAIN_FLOAT else value
    if kind is dict:
        return {name: integral(part) if type(part) in _MAY_HOLD_DOUBLES else part for name, part in value.items()}
    if is_array(value):
        return [integral(part) if type(part) in _MAY_HOLD_DOUBLES else part for part in value]
    return value


def dump(value: Value) -> bytes:
    """Returns a value's JSON, with numbers as ArangoDB prints them."""
    data = orjson.dumps(value, default=list)
    # Most documents hold no integral double, and looking for its text is 20 times cheaper than walking the value.
    if b".0," in data or b".0}" in data or b".0]" in data or data.endswith(b".0"):
        return orjson.dumps(integral(value), default=list)
    return data


def merge(old: dict[str, Value], new: dict[str, Value], *, keep_null: bool, merge_objects: bool) -> dict[str, Value]:
    """Returns what an update stores.

    Args:
        old: The stored attributes.
        new: The patch.
        keep_null: False removes attributes that the patch sets to null, at every level of objects, not inside arrays.
        merge_objects: Objects are merged attribute by attribute; false replaces them. Arrays are always replaced.
    """
    result = dict(old)
    for name, value in new.items():
        if value is None and not keep_null:
            result.pop(name, None)
        elif type(value) is dict and (not keep_null or merge_objects):
            stored = result.get(name)
            base = stored if merge_objects and type(stored) is dict else {}
            result[name] = merge(base, value, keep_null=keep_null, merge_objects=merge_objects)
        else:
            result[name] = value
    return result


def attribute(value: Value, path: Sequence[str]) -> Value:
    """Returns the attribute at a path of names; null when any part is missing."""
    for name in path:
        if type(value) is not dict:
            return None
        value = value.get(name)
    return value
