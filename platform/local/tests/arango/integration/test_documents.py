"""Documents, imports and collections as python-arango sees them."""

import threading
from typing import Any

import pytest
from arango import exceptions as errors
from arango.collection import StandardCollection
from arango.database import StandardDatabase

pytestmark = pytest.mark.integration


@pytest.fixture
def things(db: StandardDatabase) -> StandardCollection:
    made = db.create_collection("things")
    assert isinstance(made, StandardCollection)
    return made


def test_the_server_says_who_it_is(server: Any) -> None:
    db = server.connect()
    assert db.version().startswith("3.12.")
    assert db.name == "test"
    assert db.has_collection("_graphs")
    system = server.connect(database="_system")
    assert {"_system", "test"} <= set(system.databases())
    assert system.has_database("test")
    assert system.user("streamforge")["active"]
    assert db.permission("streamforge", "test") == "rw"


def test_a_wrong_password_is_refused_with_401(server: Any) -> None:
    with pytest.raises(errors.ArangoServerError) as raised:
        server.connect(password="wrong").collections()
    assert (raised.value.http_code, raised.value.error_code) == (401, 11)


def test_a_database_that_is_not_there(server: Any) -> None:
    with pytest.raises(errors.ArangoServerError) as raised:
        server.connect(database="absent").collections()
    assert (raised.value.http_code, raised.value.error_code) == (404, 1228)


def test_collections_are_made_listed_emptied_and_dropped(db: StandardDatabase) -> None:
    made = db.create_collection("made", sync=True)
    with pytest.raises(errors.CollectionCreateError) as raised:
        db.create_collection("made")
    assert raised.value.error_code == 1207
    made.insert_many([{} for _ in range(3)])
    assert made.count() == 3
    assert made.properties()["sync"] is True
    assert made.configure(sync=False)["sync"] is False
    made.truncate()
    assert made.count() == 0
    assert "made" in [each["name"] for each in db.collections()]
    assert made.rename("renamed")
    assert db.delete_collection("renamed")
    assert not db.has_collection("renamed")
    assert db.delete_collection("renamed", ignore_missing=True) is False
    with pytest.raises(errors.CollectionCreateError) as refused:
        db.create_collection("ruled", schema={"rule": {"type": "object"}})
    assert (refused.value.http_code, refused.value.error_code) == (501, 9)


def test_one_document_through_its_life(things: StandardCollection) -> None:
    meta = things.insert({"_key": "a", "n": 1.0, "o": {"x": 1}}, return_new=True)
    assert meta["new"] == {"_key": "a", "_id": "things/a", "_rev": meta["_rev"], "n": 1, "o": {"x": 1}}
    assert things.get("a") == meta["new"]
    assert things.has("a")
    assert "b" not in things
    updated = things.update(
        {"_key": "a", "o": {"y": 2}, "gone": None}, keep_none=False, return_old=True, return_new=True
    )
    assert updated["_old_rev"] == meta["_rev"]
    assert updated["old"]["o"] == {"x": 1}
    assert updated["new"]["o"] == {"x": 1, "y": 2}
    assert "gone" not in updated["new"]
    assert things.update({"_key": "a", "o": {"z": 3}}, merge=False, return_new=True)["new"]["o"] == {"z": 3}
    replaced = things.replace({"_key": "a", "r": True}, return_new=True)
    assert set(replaced["new"]) == {"_key", "_id", "_rev", "r"}
    assert things.delete("a", return_old=True)["old"]["r"] is True
    assert things.get("a") is None
    assert things.delete("a", ignore_missing=True) is False
    with pytest.raises(errors.DocumentUpdateError) as raised:
        things.update({"_key": "a"})
    assert (raised.value.http_code, raised.value.error_code) == (404, 1202)


def test_overwrite_modes(things: StandardCollection) -> None:
    things.insert({"_key": "a", "n": 1})
    with pytest.raises(errors.DocumentInsertError) as raised:
        things.insert({"_key": "a"})
    assert (raised.value.http_code, raised.value.error_code) == (409, 1210)
    assert things.insert({"_key": "a", "m": 2}, overwrite_mode="update", return_new=True)["new"]["n"] == 1
    assert things.insert({"_key": "a", "m": 3}, overwrite_mode="ignore")["_key"] == "a"
    assert things.get("a")["m"] == 2
    assert "n" not in things.insert({"_key": "a", "m": 4}, overwrite_mode="replace", return_new=True)["new"]
    assert things.insert({"_key": "a"}, overwrite=True, silent=True) is True
    stored = things.insert({"_key": "v", "version": 5}, return_new=True)
    stale = things.insert({"_key": "v", "version": 4}, overwrite_mode="update", version_attribute="version")
    assert stale["_rev"] == stored["_rev"]


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 255, "a/b", 5, None])
def test_an_illegal_key_is_refused(things: StandardCollection, key: Any) -> None:
    with pytest.raises(errors.DocumentInsertError) as raised:
        things.insert({"_key": key})
    assert raised.value.error_code == 1221


@pytest.mark.parametrize("key", ["a", "A-_:.@()+,=;$!*'9", "x" * 254])
def test_a_legal_key_is_taken(things: StandardCollection, key: str) -> None:
    things.insert({"_key": key})
    assert things.get(key)["_id"] == f"things/{key}"


def test_a_revision_is_a_precondition(things: StandardCollection) -> None:
    old = things.insert({"_key": "a"})["_rev"]
    new = things.update({"_key": "a", "_rev": old, "n": 1})["_rev"]
    for change in (things.update, things.replace, things.delete):
        with pytest.raises(errors.DocumentRevisionError) as raised:
            change({"_key": "a", "_rev": old})
        assert (raised.value.http_code, raised.value.error_code) == (412, 1200)
    with pytest.raises(errors.DocumentRevisionError):
        things.get({"_key": "a", "_rev": old})
    assert things.update({"_key": "a", "_rev": old}, check_rev=False)["_old_rev"] == new
    assert things.delete("a", rev=things.get("a")["_rev"])


def test_many_documents_with_an_outcome_for_each(things: StandardCollection) -> None:
    outcomes = things.insert_many([{"_key": "a"}, {"_key": "a"}, {"_key": "b c"}, {}])
    assert [getattr(each, "error_code", None) for each in outcomes] == [None, 1210, 1221, None]
    assert things.count() == 2
    outcomes = things.update_many([{"_key": "a", "n": 1}, {"_key": "none"}, {"_key": "a", "n": 2}], return_new=True)
    assert [getattr(each, "error_code", None) for each in outcomes] == [None, 1202, None]
    assert things.get("a")["n"] == 2
    outcomes = things.replace_many([{"_key": "a", "_rev": "stale"}], check_rev=True)
    assert outcomes[0].error_code == 1200
    assert [each["_key"] for each in things.get_many(["a", "none"])] == ["a"]
    outcomes = things.delete_many(["a", {"_key": "none"}])
    assert [getattr(each, "error_code", None) for each in outcomes] == [None, 1202]


def test_imports(things: StandardCollection) -> None:
    rows = [{"_key": str(n), "n": n} for n in range(100)]
    assert things.import_bulk(rows)["created"] == 100
    again = things.import_bulk([*rows, {"_key": "new"}], on_duplicate="ignore")
    assert (again["created"], again["ignored"]) == (1, 100)
    assert things.import_bulk([{"_key": "1", "m": 1}], on_duplicate="update")["updated"] == 1
    assert things.get("1")["n"] == 1
    assert things.import_bulk([{"_key": "1", "m": 1}], on_duplicate="replace")["updated"] == 1
    assert "n" not in things.get("1")
    with pytest.raises(errors.DocumentInsertError) as raised:
        things.import_bulk([{"_key": "fresh"}, {"_key": "1"}])
    assert (raised.value.http_code, raised.value.error_code) == (409, 1210)
    assert not things.has("fresh")
    partly = things.import_bulk([{"_key": "fresh"}, {"_key": "1", "x": 2}], halt_on_error=False)
    assert (partly["created"], partly["errors"]) == (1, 1)
    assert partly["details"][0] == (
        "at position 1: creating document failed with error 'unique constraint violated', "
        'offending document: {"_key":"1","x":2}'
    )
    assert things.import_bulk([{"_key": "only"}], overwrite=True)["created"] == 1
    assert things.count() == 1


def test_imports_of_lines(db: StandardDatabase, things: StandardCollection) -> None:
    from arango.request import Request

    def load(body: str, **parameters: Any) -> dict[str, Any]:
        request = Request(
            "post", "/_api/import", params={"collection": "things", "details": True, **parameters}, data=body
        )
        answer: dict[str, Any] = db.conn.send_request(request).body
        return answer

    assert (
        load('{"_key": "a"}\n\n{"_key": "b"}\n{broken\n', type="documents").items()
        >= {"created": 2, "empty": 1, "errors": 1}.items()
    )
    assert load('["_key", "n"]\n["c", 1]\n["d", null]\n["e"]\n').items() >= {"created": 2, "errors": 1}.items()
    assert "n" not in things.get("d")
    assert load("5", type="array")["errorNum"] == 400
    assert load("[]", type="nonsense")["errorNum"] == 10
    assert load("[", type="array")["errorNum"] == 600


def test_unique_and_sparse_indexes(things: StandardCollection) -> None:
    definition = {"type": "persistent", "fields": ["mail"], "unique": True, "sparse": True}
    assert things.add_index({**definition, "name": "mails"})["isNewlyCreated"]
    assert not things.add_index(definition)["isNewlyCreated"]
    things.insert_many([{"_key": "a", "mail": "x"}, {"_key": "b"}, {"_key": "c"}])
    with pytest.raises(errors.DocumentInsertError) as raised:
        things.insert({"mail": "x"})
    assert (raised.value.http_code, raised.value.error_code) == (409, 1210)
    assert "in index mails of type persistent over 'mail'; conflicting key: a" in str(raised.value)
    outcomes = things.insert_many([{"mail": "y"}, {"mail": "y"}])
    assert [getattr(each, "error_code", None) for each in outcomes] == [None, 1210]
    things.delete("a")
    things.insert({"mail": "x"})
    assert [each["type"] for each in things.indexes()] == ["primary", "persistent"]
    things.insert_many([{"n": 1}, {"n": 1}])
    with pytest.raises(errors.IndexCreateError) as refused:
        things.add_index({"type": "persistent", "fields": ["n"], "unique": True})
    assert refused.value.error_code == 1210
    assert things.delete_index("mails")
    with pytest.raises(errors.IndexDeleteError) as missing:
        things.delete_index("mails")
    assert missing.value.error_code == 1212
    with pytest.raises(errors.IndexCreateError) as geo:
        things.add_index({"type": "geo", "fields": ["where"]})
    assert (geo.value.http_code, geo.value.error_code) == (501, 9)


def test_of_many_writers_with_one_revision_exactly_one_wins(server: Any, things: StandardCollection) -> None:
    rounds, writers = 10, 6
    things.insert({"_key": "cas", "n": 0})
    won: list[int] = []
    barrier = threading.Barrier(writers)

    def race(writer: int) -> None:
        own = server.connect(database="scratch").collection("things")
        for _ in range(rounds):
            current = own.get("cas")
            barrier.wait()
            try:
                own.update({"_key": "cas", "_rev": current["_rev"], "n": current["n"] + 1})
                won.append(writer)
            except errors.DocumentRevisionError:
                pass
            barrier.wait()

    threads = [threading.Thread(target=race, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == rounds
    assert things.get("cas")["n"] == rounds


def test_concurrent_inserts_of_one_unique_value_store_it_once(server: Any, things: StandardCollection) -> None:
    things.add_index({"type": "persistent", "fields": ["idempotency_key"], "unique": True, "sparse": True})
    outcomes: list[str] = []

    def insert() -> None:
        own = server.connect(database="scratch").collection("things")
        try:
            own.insert({"idempotency_key": "same"})
            outcomes.append("stored")
        except errors.DocumentInsertError as error:
            outcomes.append(str(error.error_code))

    threads = [threading.Thread(target=insert) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["1210"] * 5 + ["stored"]


def test_what_is_not_supported_is_refused_by_its_name(db: StandardDatabase) -> None:
    for attempt in (
        lambda: db.begin_transaction(write=[]),
        lambda: db.create_graph("g"),
        lambda: db.aql.explain("RETURN 1"),
        db.views,
        lambda: db.begin_async_execution().version(),
    ):
        with pytest.raises(errors.ArangoServerError, match="not supported by arango-local") as raised:
            attempt()
        assert (raised.value.http_code, raised.value.error_code) == (501, 9)
