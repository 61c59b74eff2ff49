# ruff: noqa: E501 - a table reads best in lines
"""What functions answer; expected values from ArangoDB's documentation."""

from collections.abc import Callable
from typing import Any

import pytest

from arango_local.aql.functions import FUNCTIONS
from arango_local.cursors import QueryResult
from arango_local.errors import ArangoError

Aql = Callable[..., list[Any]]


# fmt: off
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("TYPENAME([]) == 'array' && IS_NULL(null) && IS_BOOL(true) && IS_STRING('') && IS_OBJECT({})", True),
        (
            "[TO_BOOL([]), TO_NUMBER('7'), TO_STRING([1, null]), TO_ARRAY({a: 1}), TO_ARRAY(null)]",
            [True, 7, "[1,null]", [1], []],
        ),
        ("[NOT_NULL(null, 0, 1), FIRST_LIST(1, [2]), FIRST_DOCUMENT(1, {a: 1})]", [0, [2], {"a": 1}]),
        (
            "[CONCAT('a', null, 1, [2]), CONCAT(['x', 'y']), CONCAT_SEPARATOR('-', 1, null, 'b')]",
            ["a1[2]", "xy", "1-b"],
        ),
        (
            "[CONTAINS('foobar', 'bar'), CONTAINS('foobar', 'bar', true), FIND_FIRST('foobarbaz', 'ba', 4), FIND_LAST('foobarbaz', 'ba')]",
            [True, 3, 6, 6],
        ),
        (
            "[LOWER('Ab'), UPPER('Ab'), LEFT('foobar', 3), RIGHT('foobar', 2), SUBSTRING('foobar', -3, 2), REVERSE('ab')]",
            ["ab", "AB", "foo", "ar", "ba", "ba"],
        ),
        (
            "[LENGTH('äö'), LENGTH([1]), LENGTH({a: 1}), LENGTH(null), LENGTH(123), CHAR_LENGTH(true)]",
            [2, 1, 1, 0, 3, 4],
        ),
        ("[TRIM('  a '), TRIM('--a-', '-'), LTRIM('  a '), RTRIM('a  ')]", ["a", "a", "a ", "a"]),
        (
            "[SPLIT('a-b-c', '-'), SPLIT('a-b_c', ['-', '_'], 2), SPLIT('ab', '')]",
            [["a", "b", "c"], ["a", "b"], ["a", "b"]],
        ),
        (
            "[SUBSTITUTE('aXbX', 'X', '-'), SUBSTITUTE('ab', {a: 'b', b: 'a'}), SUBSTITUTE('aaa', 'a', 'b', 2)]",
            ["a-b-", "ba", "bba"],
        ),
        (
            "[STARTS_WITH('foobar', 'foo'), STARTS_WITH('foobar', ['x', 'fo']), LIKE('a%b', 'a\\\\%b'), LIKE('AB', 'a_', true)]",
            [True, True, True, True],
        ),
        (
            "[REGEX_TEST('abc', 'B', true), REGEX_REPLACE('abc', '[ab]', 'x'), REGEX_MATCHES('a1', '([a-z])(\\\\d)'), REGEX_SPLIT('a1b', '\\\\d')]",
            [True, "xxc", ["a1", "a", "1"], ["a", "b"]],
        ),
        ("[JSON_STRINGIFY({a: [1.0]}), JSON_PARSE('[1]'), JSON_PARSE('[')]", ['{"a":[1]}', [1], None]),
        (
            "[MD5('foobar'), SHA1('foobar')]",
            ["3858f62230ac3c915f300c664312c63f", "8843d7f92416211de9ebb963ff4ce28125932878"],
        ),
        (
            "[ABS(-5), CEIL(2.4), FLOOR(-2.4), ROUND(-2.5), ROUND(2.5), SQRT(9), SQRT(-1), POW(2, 4), LOG(0)]",
            [5, 3, -3, -2, 3, 3, None, 16, None],
        ),
        (
            "[MIN([5, null, 3]), MAX([1, 'a']), SUM([1, 2, null]), AVERAGE([5, 3]), MEDIAN([1, 2, 3, 4]), PRODUCT([2, 3])]",
            [3, "a", 3, 4, 2.5, 6],
        ),
        (
            "[PERCENTILE([1, 2, 3, 4], 50), PERCENTILE([1, 2, 3, 4], 50, 'interpolation'), VARIANCE([1, 3, 6, 5, 2]), STDDEV_SAMPLE([1, 3])]",
            [2, 2.5, 3.44, pytest.approx(2**0.5)],
        ),
        ("[RANGE(1, 4), RANGE(1, 4, 2), RANGE(3, 1, -1), RANGE(1, 2, 0)]", [[1, 2, 3, 4], [1, 3], [3, 2, 1], None]),
        (
            "[APPEND([1], [2, 1], true), PUSH([1], 1, true), UNSHIFT([1], 2), POP([1, 2]), SHIFT([1, 2])]",
            [[1, 2], [1], [2, 1], [1], [2]],
        ),
        (
            "[FIRST([]), LAST([1, 2]), NTH([1], 1), SLICE([1, 2, 3, 4], 1, 2), SLICE([1, 2, 3], -2), SLICE([1, 2, 3], 0, -1)]",
            [None, 2, None, [2, 3], [2, 3], [1, 2]],
        ),
        (
            "[FLATTEN([1, [2, [3]]]), FLATTEN([1, [2, [3]]], 2), UNIQUE([1, 1.0, '1']), SORTED_UNIQUE([3, 1, 3])]",
            [[1, 2, [3]], [1, 2, 3], [1, "1"], [1, 3]],
        ),
        (
            "[UNION([1], [1, 2]), UNION_DISTINCT([1], [1, 2]), INTERSECTION([1, 2], [2, 3]), MINUS([1, 2, 3], [2]), OUTERSECTION([1, 2], [2, 3])]",
            [[1, 1, 2], [1, 2], [2], [1, 3], [1, 3]],
        ),
        (
            "[POSITION([1, 2], 2), POSITION([1, 2], 2, true), REMOVE_VALUE([1, 2, 1], 1, 1), REMOVE_VALUES([1, 2], [1]), REMOVE_NTH([1, 2], -1), REPLACE_NTH([1], 2, 'x', 0)]",
            [True, 1, [2, 1], [2], [1], [1, 0, "x"]],
        ),
        (
            "[ATTRIBUTES({_a: 1, b: 2}, true), VALUES({a: 1}), HAS({a: null}, 'a'), KEEP({a: 1, b: 2}, 'a'), UNSET({a: 1, b: 2}, ['a'])]",
            [["b"], [1], True, {"a": 1}, {"b": 2}],
        ),
        (
            "[MERGE({a: 1}, {a: 2, b: 1}), MERGE_RECURSIVE({a: {b: 1}}, {a: {c: 2}}), ZIP(['a'], [1]), ENTRIES({a: 1})]",
            [{"a": 2, "b": 1}, {"a": {"b": 1, "c": 2}}, {"a": 1}, [["a", 1]]],
        ),
        (
            "[MATCHES({a: 1, b: 2}, {a: 1}), MATCHES({a: 1}, [{a: 2}, {a: 1}], true), TRANSLATE('x', {x: 'y'}), VALUE({a: [1]}, ['a', 0])]",
            [True, 1, "y", 1],
        ),
        (
            "[PARSE_IDENTIFIER('c/k'), PARSE_KEY('c/k'), IN_RANGE(4, 1, 4, true, false)]",
            [{"collection": "c", "key": "k"}, "k", False],
        ),
        (
            "[DATE_TIMESTAMP('2014-05-07T14:19:09.522Z'), DATE_ISO8601(1399472349522), DATE_ISO8601(2014, 5, 7)]",
            [1399472349522, "2014-05-07T14:19:09.522Z", "2014-05-07T00:00:00.000Z"],
        ),
        (
            "[DATE_ADD('2023-01-31', 1, 'month'), DATE_SUBTRACT('2023-01-01T00:00:00Z', 'P1DT2H'), DATE_ADD('2024-02-29', 1, 'y')]",
            ["2023-03-03T00:00:00.000Z", "2022-12-30T22:00:00.000Z", "2025-03-01T00:00:00.000Z"],
        ),
        (
            "[DATE_DIFF('2023-01-01', '2023-01-02', 'hours'), DATE_DIFF('2023-01-01', '2023-01-02T12:00:00Z', 'd', true)]",
            [24, 1.5],
        ),
        (
            "[DATE_TRUNC('2023-05-17T13:14:15.5Z', 'hour'), DATE_ROUND('2023-05-17T13:14:15Z', 5, 'i'), DATE_COMPARE('2023-05-17', '2024-05-17', 'm', 'd')]",
            ["2023-05-17T13:00:00.000Z", "2023-05-17T13:10:00.000Z", True],
        ),
        (
            "[DATE_YEAR('2024-12-31'), DATE_DAYOFWEEK('2024-12-29'), DATE_DAYOFYEAR('2024-12-31'), DATE_QUARTER('2024-04-01'), DATE_DAYS_IN_MONTH('2024-02-01'), DATE_LEAPYEAR(0)]",
            [2024, 0, 366, 2, 29, False],
        ),
        (
            "[DATE_TIMESTAMP('2020-01-01T00:00:00+02:00'), IS_DATESTRING('2020-01'), IS_DATESTRING('x'), DATE_NOW() > 1.7e12]",
            [1577829600000, True, False, True],
        ),
        (
            "[CURRENT_DATABASE(), CURRENT_USER(), LENGTH(UUID()), RAND() < 1, SLEEP(0)]",
            ["test", "tester", 36, True, None],
        ),
    ],
)
def test_a_function(aql: Aql, expression: str, expected: Any) -> None:
    assert aql(f"RETURN {expression}") == [expected]


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"FAIL", "ASSERT", "SLEEP", "DATE_DIFF"}))
def test_no_argument_makes_a_function_fail(query: Callable[..., QueryResult], name: str) -> None:
    function = FUNCTIONS[name]
    count = max(function.least, min(2, int(min(function.most, 2))))
    for value in (None, True, -1, 1e308, "x", "\\", [], [None, "a"], [1, 2], {"a": {"b": 1}}):
        arguments = ", ".join(["@value"] * count)
        result = query(f"RETURN {name}({arguments})", **({"value": value} if count else {}))
        assert len(result.rows) == 1


def test_a_time_zone_is_refused_and_not_left_out(aql: Aql) -> None:
    with pytest.raises(ArangoError, match="time zone"):
        aql("RETURN DATE_DIFF('2023-03-25', '2023-03-26', 'hours', 'Europe/Berlin')")


def test_there_are_as_many_functions_as_a_store_needs() -> None:
    assert len(FUNCTIONS) >= 120
