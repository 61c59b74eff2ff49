"""The sink against a real server."""

import pytest
from pydantic import SecretStr

from streamforge_utils.arango import ArangoSink, Index
from streamforge_utils.errors import BatchError, ConfigurationError, NotConnected
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


async def test_a_sink_that_was_never_opened_is_not_connected(settings, collection):
    sink = ArangoSink(settings, collection)
    with pytest.raises(NotConnected):
        await sink.write(candles(1))
    await sink.close()
