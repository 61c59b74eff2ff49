"""An index changes how rows are found, never what a query answers."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from arango_local.collection import Collection
from arango_local.cursors import QueryResult
from arango_local.engine import Engine
from arango_local.indexes import IndexDefinition
from arango_local.writes import WriteOptions

Aql = Callable[..., list[Any]]

VALUES = [None, False, True, -1, 0, 0.5, 1, 2, 3, "", "a", "b", [], [1], [1, None], {}, {"x": 1}]
INDEXES: list[dict[str, Any]] = [
    {"fields": ["a"]},
    {"fields": ["a"], "sparse": True},
    {"fields": ["a", "b"]},
    {"fields": ["a", "b"], "sparse": True},
    {"fields": ["b", "n.m"]},
    {"fields": ["c"], "unique": True},
    {"fields": ["a", "_key"]},
]


def document(rng: random.Random, number: int) -> dict[str, Any]:
    made: dict[str, Any] = {"_key": f"{number:03d}", "c": number}
    for name in ("a", "b"):
        if rng.random() < 0.85:
            made[name] = rng.choice(VALUES)
    if rng.random() < 0.7:
        made["n"] = {"m": rng.choice(VALUES)}
    return made


def condition(rng: random.Random) -> str:
    path = rng.choice(["d.a", "d.b", "d.c", "d.n.m", "d._key", "d.@name"])
    operator = rng.choice(["==", "==", "<", "<=", ">", ">=", "IN", "!="])
    if operator == "IN":
        return f"{path} IN {rng.choice(['[1, 2, 1.0]', '[null, true]', '5', '@many', '[@value]'])}"
    value = rng.choice(["null", "true", "1", "2", "0.5", "'a'", "'005'", "[1]", "{x: 1}", "@value", "other.v"])
    return f"{path} {operator} {value}" if rng.random() < 0.8 else f"{value} {operator} {path}"


def random_query(rng: random.Random) -> str:
    filters = " AND ".join(condition(rng) for _ in range(rng.randint(0, 3)))
    order = rng.choice(
        ["", "d.a, d._key", "d.a DESC, d._key DESC", "d.a, d.b, d._key", "d._key DESC", "d.c", "d.b, d.a DESC, d._key"]
    )
    limit = rng.choice(["", "LIMIT 3", "LIMIT 1, 4"]) if order else ""
    text = "LET other = {v: 1} FOR d IN @@c " + (f"FILTER {filters} " if filters else "")
    return text + (f"SORT {order} " if order else "") + limit + rng.choice([" RETURN d", " RETURN [d._key, d.a]"])


def used(text: str, binds: dict[str, Any]) -> dict[str, Any]:
    wanted = {"at_c": "@@c", "value": "@value", "many": "@many", "name": "@name"}
    return {name: value for name, value in binds.items() if wanted[name] in text}


@pytest.mark.parametrize("seed", range(8))
def test_random_queries_answer_the_same_with_and_without_indexes(
    engine: Engine, database: str, aql: Aql, seed: int
) -> None:
    rng = random.Random(seed)
    documents = [document(rng, number) for number in range(60)]
    collections = {}
    for name in ("plain", "indexed"):
        collections[name] = engine.catalog.create_collection(database, name, kind=2, properties={})
    for fields in rng.sample(INDEXES, 3):
        engine.catalog.create_index(collections["indexed"], IndexDefinition.parse({"type": "persistent", **fields}))
    for collection in collections.values():
        engine.write(collection, "insert", [dict(each) for each in documents], WriteOptions())
    for _ in range(60):
        text = random_query(rng)
        binds = {"value": rng.choice(VALUES), "many": rng.sample(VALUES, 3), "name": rng.choice(["a", "b", "c"])}
        answers = []
        for name in ("plain", "indexed"):
            rows = aql(text, **used(text, {**binds, "at_c": name}))
            cleaned = [
                {k: v for k, v in row.items() if k not in ("_id", "_rev")} if isinstance(row, dict) else row
                for row in rows
            ]
            answers.append(cleaned if "SORT" in text else sorted(cleaned, key=repr))
        assert answers[0] == answers[1], (text, binds)


@pytest.fixture
def events(engine: Engine, database: str) -> Collection:
    collection = engine.catalog.create_collection(database, "events", kind=2, properties={})
    engine.catalog.create_index(collection, IndexDefinition.parse({"type": "persistent", "fields": ["state", "at"]}))
    documents = [{"_key": f"{n:04d}", "state": "xyz"[n % 3], "at": n // 2} for n in range(600)]
    engine.write(collection, "insert", documents, WriteOptions())
    return collection


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("text", "looked_at"),
    [
        ("FOR d IN events FILTER d.state == 'x' AND d.at > 290 RETURN d", 6),
        ("FOR d IN events FILTER d.state == 'x' SORT d.at DESC LIMIT 2 RETURN d", 2),
        ("FOR d IN events FILTER d.state == 'x' SORT d.at DESC, d._key DESC LIMIT 2 RETURN d", 2),
        ("FOR d IN events FILTER d._key == '0007' RETURN d", 1),
        ("FOR d IN events FILTER d._key IN ['0007', '0008', 'no'] RETURN d", 2),
        ("FOR d IN events FILTER d._id == 'events/0007' RETURN d", 1),
        ("FOR d IN events FILTER d._key > '0590' SORT d._key LIMIT 3 RETURN d", 4),
        ("FOR d IN events FILTER d.state IN ['x', 'nothing', 'x'] RETURN d", 200),
        ("FOR s IN ['x', 'y'] FOR d IN events FILTER d.state == s AND d.at == 6 RETURN d", 2),
    ],
)
def test_an_index_is_used(query: Callable[..., QueryResult], text: str, looked_at: int) -> None:
    statistics = query(text).statistics
    assert statistics["scannedFull"] == 0
    assert statistics["scannedIndex"] == looked_at


@pytest.mark.usefixtures("events")
def test_a_limit_ends_the_reading(query: Callable[..., QueryResult]) -> None:
    statistics = query("FOR d IN events FILTER d.at == 5 LIMIT 1 RETURN d").statistics
    assert statistics["scannedFull"] == 11
