"""What queries answer."""

from collections.abc import Callable
from typing import Any

import pytest

from arango_local.cursors import QueryResult
from arango_local.engine import Engine
from arango_local.errors import ArangoError
from arango_local.writes import WriteOptions

Aql = Callable[..., list[Any]]
Query = Callable[..., QueryResult]


@pytest.fixture(autouse=True)
def collection(engine: Engine, database: str) -> None:
    made = engine.catalog.create_collection(database, "c", kind=2, properties={})
    documents = [{"_key": f"k{n}", "n": n, "s": "abc"[n % 3], "tags": list(range(n % 4))} for n in range(12)]
    engine.write(made, "insert", documents, WriteOptions())


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[1 + '2', 1 - null, 2 * true, 7 / 2, 6 / 2, -7 % 3, 7 % -3]", [3, 1, 2, 3.5, 3, -1, 1]),
        ("[null < false, true < 0, 9 < '', 'z' < [], [] < {}]", [True] * 5),
        ("[null == false, 1 == true, 1 == 1.0, [1] == [1, null], {} == {a: null}]", [False, False, True, True, True]),
        ("[{b: 1} < {a: 0}, [1, 2] < [1, 3], 1 IN [1.0], 1 IN ['1'], 1 NOT IN [2]]", [True, True, True, False, True]),
        ("[1 && 0, 0 || 'x', null || false, 'a' AND 'b', [] ? 1 : 2, 0 ?: 3]", [0, "x", False, "b", 1, 3]),
        ("(LET a = [1, 2, 3] RETURN [a ALL > 0, a ANY == 2, a NONE IN [4], 1 ALL == 1])[0]", [True, True, True, False]),
        (
            "[1..3, 3..1, [1, 2, 3][-1], [1][5], {a: {b: 2}}['a']['b'], 'abc'[0]]",
            [[1, 2, 3], [3, 2, 1], 3, None, 2, None],
        ),
        ("[{a: 1}, {a: 2}][*].a", [1, 2]),
        ("[1, 2, 3, 4][* FILTER CURRENT > 1 LIMIT 1, 2 RETURN CURRENT * 10]", [30, 40]),
        ("[[1, [2]], [3]][**]", [1, [2], 3]),
        ("null[*].a", []),
        ("'abc' LIKE 'a%' AND 'abc' NOT LIKE '_' AND 'abc' =~ '^a' AND 'abc' !~ 'z'", True),
        ("(FOR x IN [3, 1, 2] SORT x DESC LIMIT 2 RETURN x)", [3, 2]),
        ("[1, 2][* RETURN (FOR y IN 1..CURRENT SORT y DESC RETURN y)]", [[1], [2, 1]]),
    ],
)
def test_an_expression(aql: Aql, expression: str, expected: Any) -> None:
    assert aql(f"RETURN {expression}") == [expected]


def test_rows_of_which_only_system_attributes_are_read_are_as_whole_ones(aql: Aql) -> None:
    whole = [[d["_key"], d["_id"], d["_rev"]] for d in aql("FOR d IN c RETURN d")]
    assert aql("FOR d IN c RETURN [d._key, d._id, d._rev]") == whole
    assert aql("FOR d IN c FILTER d.n > 9 RETURN d._key") == ["k10", "k11"]
    assert aql("FOR d IN c FILTER d._key == 'k3' COLLECT k = d._key INTO g RETURN g[0].d.n") == [3]
    assert aql("FOR d IN c FILTER d._key == 'k3' COLLECT k = d._key INTO g KEEP d RETURN g[0].d.n") == [3]
    assert aql("FOR d IN c FILTER d._key == 'k3' LET whole = d RETURN [d._key, whole.n]") == [["k3", 3]]
    assert aql("FOR d IN c FILTER d._key == 'k3' RETURN [d._key, d['n'], KEEP(d, 'n')]") == [["k3", 3, {"n": 3}]]
    assert aql("FOR d IN c FILTER d._key == 'k3' RETURN d[CONCAT('', 'n')]") == [3]
    assert aql("FOR d IN c FILTER d._key == 'k3' UPDATE d WITH {m: d._key} IN c RETURN [OLD.n, NEW.m]") == [[3, "k3"]]


def test_collect_sorts_groups_and_counts_nothing_as_one_row(aql: Aql) -> None:
    assert aql("FOR d IN c COLLECT s = d.s WITH COUNT INTO n SORT null RETURN [s, n]") == [["a", 4], ["b", 4], ["c", 4]]
    assert aql("FOR d IN [] COLLECT WITH COUNT INTO n RETURN n") == [0]
    assert aql("FOR d IN [] COLLECT x = d RETURN x") == []
    got = aql(
        "FOR d IN c COLLECT even = d.n % 2 == 0 AGGREGATE m = MAX(d.n), u = UNIQUE(d.s) INTO g = d.n "
        "RETURN [even, m, LENGTH(u), g]"
    )
    assert got == [[False, 11, 3, [1, 3, 5, 7, 9, 11]], [True, 10, 3, [0, 2, 4, 6, 8, 10]]]


def test_collect_into_takes_all_variables_or_those_kept(aql: Aql) -> None:
    assert aql("FOR d IN [{a: 1}] LET x = 2 COLLECT a = d.a INTO g RETURN g") == [[{"d": {"a": 1}, "x": 2}]]
    assert aql("FOR d IN [{a: 1}] LET x = 2 COLLECT a = d.a INTO g KEEP x RETURN g") == [[{"x": 2}]]


def test_collect_closes_the_scope(aql: Aql) -> None:
    with pytest.raises(ArangoError, match="not found: d"):
        aql("FOR d IN c COLLECT s = d.s RETURN d")


def test_limits_and_the_full_count(query: Query, aql: Aql) -> None:
    result = query("FOR d IN c FILTER d.n > 1 SORT d.n LIMIT 2, 3 RETURN d.n", full_count=True)
    assert result.rows == [4, 5, 6]
    assert result.statistics["fullCount"] == 10
    assert result.statistics["filtered"] == 2
    assert aql("FOR d IN c LIMIT 0 RETURN d") == []
    assert aql("FOR x IN 1..3 LIMIT 2 FOR y IN 1..2 RETURN [x, y]") == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert aql("FOR x IN 1..3 FOR y IN 1..2 LIMIT 1, 2 RETURN [x, y]") == [[1, 2], [2, 1]]


def test_distinct_uses_the_equality_of_aql(aql: Aql) -> None:
    assert aql("FOR x IN [1, 1.0, '1', null, [1], [1, null]] RETURN DISTINCT x") == [1, "1", None, [1]]


def test_upsert_inserts_then_updates_and_sees_its_own_writes(aql: Aql) -> None:
    text = "FOR k IN ['new', 'new', 'k1'] UPSERT {_key: k} INSERT {_key: k, hits: 1} "
    text += "UPDATE {hits: (OLD.hits || 0) + 1} IN c RETURN [OLD.hits, NEW.hits]"
    assert aql(text) == [[None, 1], [1, 2], [None, 1]]
    assert aql("RETURN DOCUMENT('c/k1').n") == [1]


def test_a_loop_variable_with_the_name_of_the_collection_does_not_hide_it_from_upsert(aql: Aql) -> None:
    text = "FOR c IN [{_key: 'k1', n: 5}] UPSERT {_key: c._key} INSERT c UPDATE c IN c RETURN [OLD.n, NEW.n]"
    assert aql(text) == [[1, 5]]


def test_updates_replaces_and_removes_with_old_and_new(aql: Aql, query: Query) -> None:
    assert aql("FOR d IN c FILTER d.n < 2 UPDATE d WITH {n: d.n + 100} IN c RETURN [OLD.n, NEW.n]") == [
        [0, 100],
        [1, 101],
    ]
    assert aql("REPLACE 'k2' WITH {only: 1} IN c RETURN UNSET(NEW, '_rev')") == [
        {"_key": "k2", "_id": "c/k2", "only": 1}
    ]
    assert aql("UPDATE {_key: 'k3', s: null} IN c OPTIONS {keepNull: false} RETURN HAS(NEW, 's')") == [False]
    assert query("FOR d IN c FILTER d.n >= 8 REMOVE d IN c").statistics["writesExecuted"] == 6
    assert aql("RETURN LENGTH(c)") == [6]


def test_a_failed_query_writes_nothing(aql: Aql) -> None:
    with pytest.raises(ArangoError) as raised:
        aql("FOR k IN ['fresh', 'k1'] INSERT {_key: k} INTO c")
    assert raised.value.number == 1210
    assert aql("RETURN DOCUMENT('c/fresh')") == [None]


def test_ignored_errors_are_counted(query: Query) -> None:
    result = query("FOR k IN ['fresh', 'k1'] INSERT {_key: k} INTO c OPTIONS {ignoreErrors: true}")
    assert (result.statistics["writesExecuted"], result.statistics["writesIgnored"]) == (1, 1)


def test_insert_modes(aql: Aql) -> None:
    assert aql("INSERT {_key: 'k1', x: 1} INTO c OPTIONS {overwriteMode: 'update'} RETURN [OLD.n, NEW.n, NEW.x]") == [
        [1, 1, 1]
    ]
    assert aql("INSERT {_key: 'k1'} INTO c OPTIONS {overwriteMode: 'replace'} RETURN HAS(NEW, 'n')") == [False]
    assert aql("INSERT {_key: 'k1', y: 1} INTO c OPTIONS {overwriteMode: 'ignore'} RETURN NEW") == [None]


def test_revisions_are_checked_when_asked(aql: Aql) -> None:
    with pytest.raises(ArangoError) as raised:
        aql("UPDATE {_key: 'k1', _rev: 'old'} WITH {x: 1} IN c OPTIONS {ignoreRevs: false}")
    assert raised.value.number == 1200


def test_reading_a_collection_behind_its_modification_is_refused(aql: Aql) -> None:
    with pytest.raises(ArangoError) as raised:
        aql("FOR x IN 1..2 INSERT {} INTO c FOR d IN c RETURN d")
    assert raised.value.number == 1579


def test_warnings_are_given_for_what_becomes_null(query: Query) -> None:
    result = query("RETURN [1 / 0, FIRST(1), (FOR x IN 5 RETURN x)]")
    assert result.rows == [[None, None, []]]
    assert [warning["code"] for warning in result.warnings] == [1562, 1542, 1563]


@pytest.mark.parametrize(
    ("text", "binds", "number"),
    [
        ("RETURN @a", {}, 1551),
        ("RETURN 1", {"a": 1}, 1552),
        ("FOR d IN @@c RETURN d", {"at_c": 1}, 1553),
        ("FOR d IN nothing RETURN d", {}, 1203),
        ("RETURN NO_SUCH_FUNCTION()", {}, 1540),
        ("RETURN LENGTH()", {}, 1541),
        ("LET a = 1 LET a = 2 RETURN a", {}, 1511),
        ("FOR x IN 1..2 COLLECT AGGREGATE y = CONCAT(x) RETURN y", {}, 1574),
        ("RETURN ASSERT(false, 'no')", {}, 1593),
        ("RETURN FAIL('no')", {}, 1569),
        ("FOR x IN 1..3 LIMIT -1 RETURN x", {}, 1501),
        ("INSERT 5 INTO c", {}, 1227),
        ("REMOVE 'absent' IN c", {}, 1202),
        ("INSERT {} INTO c OPTIONS {unheard: true}", {}, 9),
        ("RETURN " + "(" * 3000 + "1" + ")" * 3000, {}, 9),
    ],
)
def test_a_wrong_query_is_refused_with_its_number(aql: Aql, text: str, binds: dict[str, Any], number: int) -> None:
    with pytest.raises(ArangoError) as raised:
        aql(text, **binds)
    assert raised.value.number == number


def test_bind_parameters_for_values_attributes_and_collections(aql: Aql) -> None:
    assert aql("FOR d IN @@c FILTER d.@a == @v RETURN d._key", at_c="c", a="n", v=3) == ["k3"]
    assert aql("RETURN {[@name]: 1, @name2: 2}".replace("@name2: 2", "b: @v"), name="a", v=[1]) == [{"a": 1, "b": [1]}]
    assert aql("RETURN {x: {y: 1}}.@path", path=["x", "y"]) == [1]


def test_a_query_that_takes_too_long_is_ended(engine: Engine) -> None:
    from arango_local.cursors import QueryRequest

    request = QueryRequest("test", "tester", "FOR x IN 1..50 RETURN SLEEP(0.1)", {}, max_runtime=0.15)
    with pytest.raises(ArangoError) as raised:
        engine.queries.run(request)
    assert raised.value.number == 1500
