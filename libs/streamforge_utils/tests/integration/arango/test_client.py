"""The client against a real server."""

import asyncio

import pytest
from pydantic import SecretStr

from streamforge_utils.arango import ArangoClient, Conflict, Index
from streamforge_utils.errors import ConfigurationError, NotConnected, PermanentError

pytestmark = pytest.mark.integration


async def test_a_collection_is_made_once_by_many_at_once(client, settings, collection):
    others = [ArangoClient(settings) for _ in range(4)]
    indexes = [Index(("open_time",)), Index(("name",), unique=True, sparse=True)]
    for other in others:
        await other.open()
    await asyncio.gather(*(other.ensure_collection(collection, indexes=indexes) for other in others))
    await client.ensure_collection(collection, indexes=indexes)
    assert await client.has_collection(collection)
    for other in others:
        await other.close()


async def test_a_collection_is_dropped_once(client, collection):
    assert not await client.has_collection(collection)
    await client.ensure_collection(collection)
    assert await client.drop_collection(collection)
    assert not await client.drop_collection(collection)
    assert not await client.has_collection(collection)


async def test_a_document_is_stored_got_and_deleted(client, collection):
    await client.ensure_collection(collection)
    rev = await client.insert(collection, {"_key": "a", "price": 1.5, "note": None})
    assert await client.get(collection, "a") == {
        "_key": "a",
        "_id": f"{collection}/a",
        "_rev": rev,
        "price": 1.5,
        "note": None,
    }
    assert await client.get(collection, "b") is None
    assert await client.delete(collection, "a")
    assert not await client.delete(collection, "a")
    assert await client.count(collection) == 0


async def test_a_taken_key_and_a_taken_unique_field_are_told_apart(client, collection):
    await client.ensure_collection(collection, indexes=[Index(("idempotency_key",), unique=True, sparse=True)])
    await client.insert(collection, {"_key": "a", "idempotency_key": "x"})
    with pytest.raises(Conflict) as by_key:
        await client.insert(collection, {"_key": "a"})
    with pytest.raises(Conflict) as by_field:
        await client.insert(collection, {"_key": "b", "idempotency_key": "x"})
    await client.insert(collection, {"_key": "c"})
    await client.insert(collection, {"_key": "d"})
    assert (by_key.value.over, by_field.value.over) == ("_key", "idempotency_key")


async def test_replace_is_compare_and_set(client, collection):
    await client.ensure_collection(collection)
    first = await client.insert(collection, {"_key": "a", "n": 1, "old": True})
    second = await client.replace(collection, {"_key": "a", "n": 2}, rev=first)
    with pytest.raises(Conflict) as stale:
        await client.replace(collection, {"_key": "a", "n": 3}, rev=first)
    with pytest.raises(Conflict, match="is gone"):
        await client.replace(collection, {"_key": "b", "n": 3}, rev=first)
    with pytest.raises(Conflict):
        await client.delete(collection, "a", rev=first)
    assert stale.value.over == "_rev"
    assert await client.get(collection, "a") == {"_key": "a", "_id": f"{collection}/a", "_rev": second, "n": 2}
    assert await client.delete(collection, "a", rev=second)


async def test_of_many_writers_at_once_no_increment_is_lost(client, collection):
    await client.ensure_collection(collection)
    await client.insert(collection, {"_key": "a", "n": 0})

    async def increment() -> None:
        while True:
            document = await client.get(collection, "a")
            try:
                await client.replace(collection, {"_key": "a", "n": document["n"] + 1}, rev=document["_rev"])
            except Conflict:
                continue
            return

    await asyncio.gather(*(increment() for _ in range(20)))
    assert (await client.get(collection, "a"))["n"] == 20


async def test_an_upsert_updates_the_fields_it_carries_and_no_others(client, collection):
    await client.ensure_collection(collection)
    assert await client.upsert_many(collection, [{"_key": "a", "close": 1.5, "ema_50": 1.25}]) == {}
    assert await client.upsert_many(collection, [{"_key": "a", "close": 2.5}, {"_key": "b", "ema_50": None}]) == {}
    a, b = await client.query(f"FOR d IN {collection} SORT d._key RETURN UNSET(d, '_id', '_rev')")
    assert a == {"_key": "a", "close": 2.5, "ema_50": 1.25}
    assert b == {"_key": "b", "ema_50": None}
    await client.upsert_many(collection, [{"_key": "a", "ema_50": None}])
    assert (await client.get(collection, "a"))["ema_50"] is None


async def test_refused_documents_are_named_by_index_and_the_others_stored(client, collection):
    await client.ensure_collection(collection, indexes=[Index(("u",), unique=True, sparse=True)])
    await client.insert(collection, {"_key": "taken", "u": 1})
    documents = [{"_key": "a"}, {"_key": "no key"}, {"_key": "b", "x": {1, 2}}, {"_key": "c", "u": 1}, {"_key": "d"}]
    refused = await client.upsert_many(collection, documents)
    assert set(refused) == {1, 2, 3}
    assert all(type(fault) is PermanentError for fault in refused.values())
    assert "key" in str(refused[1])
    assert refused[2].code == "not-encodable"
    assert "'u'" in str(refused[3])
    assert await client.query(f"FOR d IN {collection} SORT d._key RETURN d._key") == ["a", "d", "taken"]


async def test_nothing_is_nothing_to_upsert(client, collection):
    await client.ensure_collection(collection)
    assert await client.upsert_many(collection, []) == {}


async def test_rows_come_over_several_batches(client):
    expected = list(range(1, 26))
    assert await client.query("FOR i IN 1..@n RETURN i", {"n": 25}, batch_size=10) == expected
    assert [row async for row in client.rows("FOR i IN 1..25 RETURN i", batch_size=7)] == expected
    assert await client.query("FOR i IN [] RETURN i") == []


async def test_documents_are_deleted_by_a_field_in_bounded_requests(client, collection, monkeypatch):
    monkeypatch.setattr("streamforge_utils.arango.client.REMOVED_PER_REQUEST", 10)
    await client.ensure_collection(collection)
    await client.upsert_many(collection, [{"_key": str(n), "queue_id": "ab"[n % 2]} for n in range(50)])
    assert await client.delete_where(collection, "queue_id", "a") == 25
    assert await client.count(collection) == 25
    assert await client.delete_where(collection, "queue_id", "a") == 0


async def test_a_wrong_query_and_a_missing_collection_are_told(client, collection):
    with pytest.raises(PermanentError, match="1501"):
        await client.query("FOR x IN")
    with pytest.raises(ConfigurationError, match=collection):
        await client.insert(collection, {"_key": "a"})


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"password": SecretStr("wrong-pass")}, "unauthenticated", "wrong user or password"),
        ({"user": "nobody"}, "unauthenticated", "nobody"),
        ({"db": "nowhere"}, None, "nowhere"),
    ],
)
async def test_a_log_in_that_can_never_work_is_told_as_such(settings, change, code, says):
    client = ArangoClient(settings.model_copy(update=change))
    with pytest.raises(ConfigurationError, match=says) as caught:
        await client.open()
    assert code in (None, caught.value.code)
    assert "wrong-pass" not in str(caught.value)
    await client.close()


async def test_a_server_that_is_away_is_waited_for_by_the_caller(settings):
    client = ArangoClient(settings.model_copy(update={"url": "http://127.0.0.1:1"}))
    with pytest.raises(NotConnected, match="refused"):
        await client.open()
    await client.close()
