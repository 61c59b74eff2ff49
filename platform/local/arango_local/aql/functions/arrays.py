"""Array functions. None changes its argument."""

from __future__ import annotations

from typing import Any

from arango_local.aql.functions.registry import array, function, invalid, number
from arango_local.encoding import encode
from arango_local.values import contains, eq, is_array, ordered, to_array, truthy
from arango_local.values import unique as without_duplicates


def _place(values: Any, position: Any) -> int:
    place = int(number(position))
    return place if place >= 0 else len(values) + place


@function("APPEND")
def append(values: Any, more: Any, distinct: Any = False) -> list[Any]:
    """APPEND(array, values, unique)."""
    result = [*to_array(values), *to_array(more)]
    return without_duplicates(result) if truthy(distinct) else result


@function("PUSH")
def push(values: Any, value: Any, distinct: Any = False) -> list[Any]:
    """PUSH(array, value, unique)."""
    present = to_array(values)
    return present if truthy(distinct) and contains(present, value) else [*present, value]


@function("UNSHIFT")
def unshift(values: Any, value: Any, distinct: Any = False) -> list[Any]:
    """UNSHIFT(array, value, unique)."""
    present = to_array(values)
    return present if truthy(distinct) and contains(present, value) else [value, *present]


@function("POP")
def pop(values: Any) -> list[Any]:
    """POP(array): without the last element."""
    return list(array(values))[:-1]


@function("SHIFT")
def shift(values: Any) -> list[Any]:
    """SHIFT(array): without the first element."""
    return list(array(values))[1:]


@function("FIRST")
def first(values: Any) -> Any:
    """FIRST(array)."""
    return next(iter(array(values)), None)


@function("LAST")
def last(values: Any) -> Any:
    """LAST(array)."""
    return array(values)[-1] if len(array(values)) else None


@function("NTH")
def nth(values: Any, position: Any) -> Any:
    """NTH(array, position): null outside."""
    place = int(number(position))
    return array(values)[place] if 0 <= place < len(array(values)) else None


@function("FLATTEN")
def flatten(values: Any, depth: Any = 1) -> list[Any]:
    """FLATTEN(array, depth)."""
    levels = int(number(depth))
    result: list[Any] = []
    for value in array(values):
        result.extend(flatten(value, levels - 1) if is_array(value) and levels > 0 else [value])
    return result


@function("UNIQUE")
def unique(values: Any) -> list[Any]:
    """UNIQUE(array)."""
    return without_duplicates(array(values))


@function("SORTED")
def sorted_values(values: Any) -> list[Any]:
    """SORTED(array)."""
    return ordered(array(values))


@function("SORTED_UNIQUE")
def sorted_unique(values: Any) -> list[Any]:
    """SORTED_UNIQUE(array)."""
    return ordered(without_duplicates(array(values)))


@function("UNION")
def union(left: Any, right: Any, *more: Any) -> list[Any]:
    """UNION(array, array, ..): duplicates stay."""
    return [value for values in (left, right, *more) for value in array(values)]


@function("UNION_DISTINCT")
def union_distinct(left: Any, right: Any, *more: Any) -> list[Any]:
    """UNION_DISTINCT(array, array, ..)."""
    return without_duplicates(union(left, right, *more))


@function("INTERSECTION")
def intersection(left: Any, right: Any, *more: Any) -> list[Any]:
    """INTERSECTION(array, array, ..): what is in all of them, once."""
    others = [set(map(encode, array(values))) for values in (right, *more)]
    return [value for value in without_duplicates(array(left)) if all(encode(value) in other for other in others)]


@function("OUTERSECTION")
def outersection(left: Any, right: Any, *more: Any) -> list[Any]:
    """OUTERSECTION(array, array, ..): what is in exactly one of them, once."""
    arrays = [without_duplicates(array(values)) for values in (left, right, *more)]
    keys = [encode(value) for values in arrays for value in values]
    return [value for values in arrays for value in values if keys.count(encode(value)) == 1]


@function("MINUS")
def minus(left: Any, right: Any, *more: Any) -> list[Any]:
    """MINUS(array, array, ..): what is only in the first, once."""
    others = {encode(value) for values in (right, *more) for value in array(values)}
    return [value for value in without_duplicates(array(left)) if encode(value) not in others]


@function("POSITION", "CONTAINS_ARRAY")
def position(values: Any, wanted: Any, as_index: Any = False) -> Any:
    """POSITION(array, value, returnIndex)."""
    found = next((place for place, value in enumerate(array(values)) if eq(value, wanted)), -1)
    return found if truthy(as_index) else found >= 0


@function("REMOVE_VALUE")
def remove_value(values: Any, unwanted: Any, limit: Any = None) -> list[Any]:
    """REMOVE_VALUE(array, value, limit)."""
    left = len(array(values)) if limit is None else int(number(limit))
    result = []
    for value in array(values):
        if left > 0 and eq(value, unwanted):
            left -= 1
        else:
            result.append(value)
    return result


@function("REMOVE_VALUES")
def remove_values(values: Any, unwanted: Any) -> list[Any]:
    """REMOVE_VALUES(array, values)."""
    return [value for value in array(values) if not contains(array(unwanted), value)]


@function("REMOVE_NTH")
def remove_nth(values: Any, position: Any) -> list[Any]:
    """REMOVE_NTH(array, position)."""
    place = _place(array(values), position)
    return [value for index, value in enumerate(values) if index != place]


@function("REPLACE_NTH")
def replace_nth(values: Any, position: Any, value: Any, padding: Any = None) -> list[Any]:
    """REPLACE_NTH(array, position, value, padding)."""
    result, place = list(array(values)), max(0, _place(array(values), position))
    if place > len(result) + 10_000:
        invalid()
    result.extend([padding] * (place + 1 - len(result)))
    result[place] = value
    return result


@function("SLICE")
def cut(values: Any, start: Any, count: Any = None) -> list[Any]:
    """SLICE(array, start, length): negative values count from the end."""
    everything = list(array(values))
    rest = everything[max(0, _place(everything, start)) :]
    if count is None:
        return rest
    length = int(number(count))
    return rest[:length]
