"""The byte order of encoded values is the order that ArangoDB's documentation gives."""

import functools
import itertools
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from arango_local import values
from arango_local.encoding import AFTER, encode
from arango_local.indexes import Bound, key_range

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([0, -0.0, 1, 1.0, 2**53, 2**53 + 1, float(2**53), -(2**53) - 1, 0.5, "", "\0", "a", "a\0", "ab"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["", "a", "ab", "b", "\0", "é"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def documented_order(left: Any, right: Any) -> int:
    """Compares as the documentation says: by type; arrays element by element, objects by the sorted union of their
    names; what is missing counts as null."""
    ranks = values.rank(left), values.rank(right)
    if ranks[0] != ranks[1]:
        return -1 if ranks[0] < ranks[1] else 1
    pairs: Iterable[tuple[Any, Any]]
    if ranks[0] == 4:
        pairs = itertools.zip_longest(left, right)
    elif ranks[0] == 5:
        pairs = ((left.get(name), right.get(name)) for name in sorted({*left, *right}))
    else:
        return 0 if left == right else (-1 if left < right else 1)
    return next((order for pair in pairs if (order := documented_order(*pair))), 0)


def byte_order(left: Any, right: Any) -> int:
    a, b = encode(left), encode(right)
    return (a > b) - (a < b)


@settings(max_examples=300, deadline=None)
@given(json_values, json_values)
def test_the_order_of_keys_is_the_documented_order(left: Any, right: Any) -> None:
    assert byte_order(left, right) == documented_order(left, right)


@settings(max_examples=120, deadline=None)
@given(json_values, json_values)
def test_comparisons_agree_with_the_documented_order(left: Any, right: Any) -> None:
    order = documented_order(left, right)
    assert values.eq(left, right) == (order == 0)
    assert values.lt(left, right) == (order < 0)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(json_values, json_values), max_size=6))
def test_compound_keys_sort_field_by_field(pairs: list[tuple[Any, Any]]) -> None:
    by_bytes = sorted(pairs, key=lambda pair: encode(pair[0]) + encode(pair[1]))

    def order_of(a: tuple[Any, Any], b: tuple[Any, Any]) -> int:
        return documented_order(a[0], b[0]) or documented_order(a[1], b[1])

    by_docs = sorted(pairs, key=functools.cmp_to_key(order_of))
    assert [list(map(encode, pair)) for pair in by_bytes] == [list(map(encode, pair)) for pair in by_docs]


@settings(max_examples=120, deadline=None)
@given(json_values, json_values, json_values, st.booleans(), st.booleans())
def test_a_range_of_keys_holds_exactly_the_values_between_its_bounds(
    value: Any, low: Any, high: Any, low_in: bool, high_in: bool
) -> None:
    first, last = key_range(["prefix"], Bound(low, low_in), Bound(high, high_in))
    key = encode("prefix") + encode(value) + encode("a further field")
    above = documented_order(value, low) > 0 or (low_in and documented_order(value, low) == 0)
    below = documented_order(value, high) < 0 or (high_in and documented_order(value, high) == 0)
    assert (first <= key < last) == (above and below)


@settings(max_examples=100, deadline=None)
@given(json_values)
def test_every_key_is_below_the_mark_that_follows_all_keys(value: Any) -> None:
    assert encode(value)[:1] < AFTER
