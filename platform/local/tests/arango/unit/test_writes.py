"""Batches of writes against a model, and indexes against the documents."""

import random
from typing import Any

import orjson
import pytest

from arango_local.collection import Collection
from arango_local.engine import Engine
from arango_local.errors import ArangoError
from arango_local.indexes import IndexDefinition
from arango_local.values import merge
from arango_local.writes import Mode, Operation, WriteOptions

OPERATIONS: list[Operation] = ["insert", "insert", "insert", "update", "replace", "remove"]
MODES: list[Mode] = ["conflict", "ignore", "update", "replace"]


@pytest.fixture
def collection(engine: Engine, database: str) -> Collection:
    made = engine.catalog.create_collection(database, "c", kind=2, properties={})
    for fields, unique, sparse in ((["u"], True, True), (["a", "n.m"], False, False), (["a"], False, True)):
        definition = {"type": "persistent", "fields": fields, "unique": unique, "sparse": sparse}
        engine.catalog.create_index(made, IndexDefinition.parse(definition))
    return made


def documents(engine: Engine, collection: Collection) -> dict[str, dict[str, Any]]:
    with engine.storage.snapshot() as connection:
        return {key: orjson.loads(doc) for key, _, doc in collection.scan(connection)}


def assert_indexes_hold_exactly_the_documents(engine: Engine, collection: Collection) -> None:
    stored = documents(engine, collection)
    for index in collection.indexes.values():
        wanted = {(entry, key) for key, doc in stored.items() if (entry := index.key(key, doc)) is not None}
        with engine.storage.snapshot() as connection:
            assert set(connection.execute(f"SELECT k, key FROM {index.table}")) == wanted


def is_taken(model: dict[str, dict[str, Any]], key: str, document: dict[str, Any]) -> bool:
    value = document.get("u")
    return value is not None and any(other.get("u") == value for name, other in model.items() if name != key)


def expect(model: dict[str, dict[str, Any]], operation: Operation, mode: Mode, given: dict[str, Any]) -> int | None:
    """Changes the model as the write should change the collection; returns the number of the error."""
    key, fields = given["_key"], {name: value for name, value in given.items() if name != "_key"}
    if operation == "insert" and key in model:
        if mode == "conflict":
            return 1210
        if mode == "ignore":
            return None
        operation = mode
    elif operation != "insert" and key not in model:
        return 1202
    if operation == "remove":
        del model[key]
        return None
    patched = merge(model[key], fields, keep_null=True, merge_objects=True) if operation == "update" else fields
    if is_taken(model, key, patched):
        return 1210
    model[key] = patched
    return None


@pytest.mark.parametrize("seed", range(6))
def test_random_batches_do_what_a_model_does(engine: Engine, collection: Collection, seed: int) -> None:
    rng = random.Random(seed)
    model: dict[str, dict[str, Any]] = {}
    for _ in range(60):
        operation, mode = rng.choice(OPERATIONS), rng.choice(MODES)
        batch = []
        for _ in range(rng.randint(1, 6)):
            given: dict[str, Any] = {"_key": f"k{rng.randrange(8)}", "a": rng.choice([None, 1, "x"])}
            if rng.random() < 0.5:
                given["u"] = rng.choice([None, 1, 2, 3])
            if rng.random() < 0.5:
                given["n"] = {rng.choice("mo"): rng.randrange(3)}
            batch.append(given)
        wanted = [expect(model, operation, mode, given) for given in batch]
        outcomes = engine.write(collection, operation, [dict(given) for given in batch], WriteOptions(mode=mode))
        assert [each.number if isinstance(each, ArangoError) else None for each in outcomes] == wanted
        assert documents(engine, collection) == model
        assert_indexes_hold_exactly_the_documents(engine, collection)


def test_a_batch_that_fails_in_the_end_leaves_nothing(engine: Engine, collection: Collection) -> None:
    class Unwritable:
        """What no JSON can hold."""

    with pytest.raises(TypeError):
        engine.write(collection, "insert", [{"_key": "a", "a": 1}, {"_key": "b", "a": Unwritable()}], WriteOptions())
    assert documents(engine, collection) == {}
    assert_indexes_hold_exactly_the_documents(engine, collection)


def test_an_index_over_stored_documents_holds_them_all(engine: Engine, collection: Collection) -> None:
    engine.write(collection, "insert", [{"b": n % 3} for n in range(50)], WriteOptions())
    engine.catalog.create_index(collection, IndexDefinition.parse({"type": "persistent", "fields": ["b"]}))
    assert_indexes_hold_exactly_the_documents(engine, collection)


@pytest.mark.parametrize(
    ("definition", "number"),
    [
        (None, 10),
        ({"type": "nonsense", "fields": ["a"]}, 10),
        ({"type": "persistent", "fields": []}, 10),
        ({"type": "persistent", "fields": [5]}, 10),
        ({"type": "persistent", "fields": ["a", "a"]}, 10),
        ({"type": "persistent", "fields": ["_id"]}, 10),
        ({"type": "ttl", "fields": ["a"]}, 10),
        ({"type": "ttl", "fields": ["a", "b"], "expireAfter": 1}, 10),
        ({"type": "persistent", "fields": ["a[*]"]}, 9),
        ({"type": "geo", "fields": ["a"]}, 9),
        ({"type": "persistent", "fields": ["a"], "storedValues": ["b"]}, 9),
    ],
)
def test_a_wrong_index_definition_is_refused(definition: Any, number: int) -> None:
    with pytest.raises(ArangoError) as raised:
        IndexDefinition.parse(definition)
    assert raised.value.number == number
