"""The sink against a real server."""

import base64
import json
import urllib.request

import pytest
from pydantic import SecretStr

from streamforge_utils.arango import ArangoSink, Index
from streamforge_utils.errors import BatchError, ConfigurationError, NotConnected, TransientError
from streamforge_utils.pipeline import Sink

pytestmark = pytest.mark.integration


@pytest.fixture
async def sink(settings, collection):
    made = ArangoSink(settings, collection, indexes=[Index(("open_time",))], max_request=3)
    assert isinstance(made.name, str)
    as_port: Sink = made
    await as_port.open()
    yield made
    await made.close()


def candles(count):
    return [{"_key": str(n), "open_time": n, "close": n + 0.5} for n in range(count)]


async def test_a_batch_is_written_twice_without_doubling(sink, client, collection):
    await sink.write(candles(10))
    await sink.write(candles(10))
    assert await client.count(collection) == 10


async def test_plain_candles_do_not_wipe_indicators(sink, client, collection):
    await sink.write([{"_key": "1", "open_time": 1, "close": 1.5, "ema_50": 1.25, "rsi_14": None}])
    await sink.write([{"_key": "1", "open_time": 1, "close": 1.75}])
    document = await client.get(collection, "1")
    assert (document["close"], document["ema_50"], document["rsi_14"]) == (1.75, 1.25, None)


async def test_refused_documents_are_named_by_their_index_in_the_whole_batch(sink, client, collection):
    batch = candles(10)
    batch[2]["_key"] = "not a key"
    batch[7]["_key"] = ""
    with pytest.raises(BatchError) as caught:
        await sink.write(batch)
    assert set(caught.value.failed) == {2, 7}
    assert await client.count(collection) == 8


async def test_open_again_changes_nothing(sink, client, collection):
    await sink.write(candles(3))
    await sink.open()
    assert await client.count(collection) == 3


async def test_a_wrong_password_can_never_work(settings, collection):
    sink = ArangoSink(settings.model_copy(update={"password": SecretStr("wrong")}), collection)
    with pytest.raises(ConfigurationError) as caught:
        await sink.open()
    assert caught.value.code == "unauthenticated"
    await sink.close()


async def test_a_killed_store_is_told_and_the_sink_goes_on_when_it_is_back(arango, sink, client, collection):
    await sink.write(candles(5))
    arango.kill()
    try:
        with pytest.raises(NotConnected):
            await sink.write(candles(10))
        with pytest.raises(NotConnected):
            await sink.open()
    finally:
        arango.start()
        arango.wait_ready()
    await sink.open()
    await sink.write(candles(10))
    assert await client.count(collection) == 10


def limit_pages(arango, pages):
    """The size of the local server's disk; 1: full now, 0: no limit."""
    request = urllib.request.Request(
        f"{arango.url}/_local/max_pages", method="PUT", data=json.dumps({"max_pages": pages}).encode()
    )
    login = base64.b64encode(f"{arango.user}:{arango.password}".encode()).decode()
    request.add_header("authorization", f"Basic {login}")
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


async def test_a_full_disk_is_told_and_the_sink_goes_on_when_there_is_room(arango, sink, client, collection):
    async def use_up() -> None:  # first goes what was free inside of the file
        for start in range(20):
            await sink.write([{**c, "_key": f"{start}-{c['_key']}", "text": "x" * 500} for c in candles(300)])

    await sink.write(candles(3))
    limit_pages(arango, 1)
    try:
        with pytest.raises(TransientError, match="disk full"):
            await use_up()
    finally:
        limit_pages(arango, 0)
    await sink.write([{"_key": "after", "open_time": 1}])
    assert await client.get(collection, "after") is not None


async def test_a_sink_that_was_never_opened_is_not_connected(settings, collection):
    sink = ArangoSink(settings, collection)
    with pytest.raises(NotConnected):
        await sink.write(candles(1))
    await sink.close()
