"""Casts, truth, merging and number printing are ArangoDB's."""

import time
from typing import Any

import pytest

from arango_local import values
from arango_local.revisions import Clock, revision


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, 0), (True, 1), ("99", 99), (" 1.5 ", 1.5), ("1_0", 0), ("x", 0), ([2], 2), ([1, 2], 0), ([], 0), ({}, 0)],
)
def test_a_cast_to_a_number(value: Any, expected: float) -> None:
    assert values.to_number(value) == expected


@pytest.mark.parametrize("value", [[], {}, [0], {"a": None}, "0", 0.1, -1, True, range(0)])
def test_true_values(value: Any) -> None:
    assert values.truthy(value)


@pytest.mark.parametrize("value", [None, False, 0, 0.0, ""])
def test_false_values(value: Any) -> None:
    assert not values.truthy(value)


def test_integral_doubles_are_sent_as_integers_at_every_depth() -> None:
    document = {"a": 30000.0, "b": [1.0, {"c": -0.0}], "d": 0.5, "e": "1.0,", "f": 1e300}
    assert values.dump(document) == b'{"a":30000,"b":[1,{"c":0}],"d":0.5,"e":"1.0,","f":1e+300}'


def test_a_merge_drops_nulls_at_every_level_of_objects_but_not_in_arrays() -> None:
    old = {"a": 1, "b": {"c": 1, "d": 2}, "x": 1}
    new = {"a": None, "b": {"c": None, "e": {"f": None}}, "g": [None]}
    merged = values.merge(old, new, keep_null=False, merge_objects=True)
    assert merged == {"b": {"d": 2, "e": {}}, "g": [None], "x": 1}


def test_without_merging_objects_a_nested_object_is_replaced() -> None:
    assert values.merge({"a": {"b": 1}}, {"a": {"c": 2}}, keep_null=True, merge_objects=False) == {"a": {"c": 2}}


def test_revisions_are_unique_and_rise_with_time() -> None:
    clock = Clock()
    first = clock.take(3)
    ticks = [first, first + 1, first + 2, clock.take(1)]
    assert ticks == sorted(set(ticks))
    assert first >> 20 == pytest.approx(time.time() * 1000, abs=60_000)
    assert len({revision(tick) for tick in ticks}) == 4


def test_a_revision_is_written_as_arangodb_writes_it() -> None:
    # `_l6zhVTW---` is from an answer of a real server; its tick is the alphabet's digits in base 64.
    alphabet = "-_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    tick = 0
    for character in "_l6zhVTW---":
        tick = tick * 64 + alphabet.index(character)
    assert revision(tick) == "_l6zhVTW---"
    assert 1.7e12 < (tick >> 20) < 1.9e12  # milliseconds, a day between 2023 and 2030
