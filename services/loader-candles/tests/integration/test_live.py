import asyncio
import gzip
import json
from dataclasses import replace

import pytest

from loader_candles.exchange import Exchange
from loader_candles.live_source import LiveSource
from loader_candles.series import FOREVER
from loader_candles.web_client import WebClient
from streamforge_utils.errors import ConfigurationError, NotConnected, TransientError

pytestmark = pytest.mark.integration

MINUTE = 60_000
DAY = 1440 * MINUTE
START = 1_754_006_400_000 + 2 * DAY  # the exchange's clock when a test begins


@pytest.fixture
def live(series):
    return replace(series, start_ms=0, end_ms=FOREVER, is_live=True)


@pytest.fixture
def reports():
    return []


@pytest.fixture
def source(exchange, live, reports):
    def make(wanted=live):
        client = WebClient(exchange.base_url, timeout_s=5.0)
        rest = Exchange(client, wanted, budget=3000.0, clock=exchange.market.monotonic)
        return LiveSource(
            rest,
            exchange.ws_url,
            wanted,
            timeout_s=5.0,
            report=lambda message, **payload: reports.append(payload),
            patience_s=0.2,
        )

    return make


@pytest.fixture
def coming(exchange, rows):
    """The rows of the next hours; nothing of them has happened yet."""
    exchange.market.rows["BTCUSDT", "1m"] = rows(10, start=START - 10 * MINUTE)
    return rows(200, start=START)


@pytest.fixture
def close(exchange):
    async def candles(rows, **options):
        for row in rows:
            await exchange.streams.close_candle("BTCUSDT", "1m", row, **options)

    return candles


async def take(source, count, found=None, size=7):
    """Reads until there are ``count`` records, opening again as the runner does."""
    found = [] if found is None else found
    position = {"next": START}
    async with asyncio.timeout(20):
        while len(found) < count:
            try:
                delivery = await source.read(size)
            except NotConnected:
                await source.close()
                await source.open(position)
                continue
            found += delivery.values
            position = delivery.position
    return found


async def connected(exchange, count=1):
    async with asyncio.timeout(5):
        while exchange.streams.listeners < count:
            await asyncio.sleep(0.005)


async def test_only_closed_candles_are_records(exchange, source, coming, close, record):
    reader = source()
    await reader.open(None)
    first = await reader.read(10)
    assert (first.values, first.position) == ([], {"next": START})
    reading = asyncio.create_task(take(reader, 5))
    await close(coming[:5])
    assert await reading == [record(row) for row in coming[:5]]
    await reader.close()


async def test_pings_are_answered(exchange, source, coming):
    reader = source()
    await reader.open(None)
    await connected(exchange)
    await exchange.streams.ping()
    await reader.close()


@pytest.mark.parametrize("every", [1, 2, 3, 5])
async def test_after_disconnects_no_candle_is_missing_or_doubled(every, exchange, source, coming, close, record):
    exchange.streams.events_per_connection = every
    reader = source()
    await reader.open(None)
    await reader.read(10)
    reading = asyncio.create_task(take(reader, 30))
    for row in coming[:30]:
        await close([row])
        await asyncio.sleep(0.01)
    exchange.market.advance(2000)
    assert await reading == [record(row) for row in coming[:30]]
    assert exchange.streams.connections > 1
    await reader.close()


async def test_what_the_stream_left_out_comes_from_the_rest_interface(exchange, source, coming, close, record):
    reader = source()
    await reader.open(None)
    reading = asyncio.create_task(take(reader, 20, size=3))
    await close(coming[:5])
    await asyncio.sleep(0.05)
    await close(coming[5:19], is_sent=False)
    await close(coming[19:20])
    assert await reading == [record(row) for row in coming[:20]]
    assert exchange.streams.connections == 1
    await reader.close()


async def test_a_restart_fills_the_gap_since_its_position(exchange, source, coming, close, record):
    reader = source()
    await reader.open(None)
    reading = asyncio.create_task(take(reader, 3))
    await close(coming[:3])
    found = await reading
    await reader.close()
    await close(coming[3:50])
    later = source()
    await later.open({"next": found[-1]["open_time"] + MINUTE})
    exchange.market.advance(2000)
    await take(later, 50, found)
    reading = asyncio.create_task(take(later, 52, found))
    await close(coming[50:52])
    await reading
    await later.close()
    assert found == [record(row) for row in coming[:52]]


async def test_a_restart_before_the_first_candle_begins_where_it_was(exchange, source, coming, close, record):
    reader = source()
    await reader.open(None)
    position = (await reader.read(10)).position
    await reader.close()
    await close(coming[:4])
    exchange.market.advance(2000)
    later = source()
    await later.open(position)
    assert await take(later, 4) == [record(row) for row in coming[:4]]
    await later.close()


async def test_candles_that_the_exchange_never_had_are_reported(exchange, source, coming, close, record, reports):
    reader = source()
    await reader.open(None)
    reading = asyncio.create_task(take(reader, 3))
    await close([coming[0], coming[4], coming[5]])
    assert await reading == [record(coming[index]) for index in (0, 4, 5)]
    assert sum(report["missing"] for report in reports) == 3
    await reader.close()


async def test_nothing_goes_on_while_the_rest_interface_is_away(exchange, source, coming, close, record):
    reader = source()
    await reader.open({"next": START - 5 * MINUTE})
    exchange.fail("/api/v3/klines", 503, times=2)
    for _ in range(2):
        with pytest.raises(TransientError):
            await reader.read(10)
    exchange.market.advance(1000)
    assert [one["open_time"] for one in await take(reader, 5)] == [START - k * MINUTE for k in range(5, 0, -1)]
    await reader.close()


async def test_a_cancelled_read_loses_nothing(exchange, source, coming, close, record):
    reader = source()
    await reader.open(None)
    found = list((await reader.read(10)).values)
    for row in coming[:20]:
        reading = asyncio.create_task(reader.read(10))
        await asyncio.sleep(0.003)
        reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            found += reading.result().values
        await close([row])
    await take(reader, 20, found)
    assert found == [record(row) for row in coming[:20]]
    await reader.close()


async def test_a_stream_that_is_away_is_not_connected(exchange, source, coming):
    exchange.ws_url = "ws://127.0.0.1:9"
    reader = source()
    with pytest.raises(NotConnected, match="does not answer"):
        await reader.open(None)
    await reader.close()


async def test_an_unknown_symbol_is_told(source, live, coming):
    reader = source(replace(live, symbol="NOSUCH"))
    await reader.open(None)
    await reader.read(10)
    with pytest.raises(ConfigurationError, match="Invalid symbol"):
        await reader.read(10)
    await reader.close()


@pytest.mark.parametrize("status", [403, 408, 425, 429])
async def test_a_stream_that_is_refused_for_now_is_not_connected(status, exchange, source, coming):
    exchange.ws_url = exchange.base_url.replace("http://", "ws://") + "/data"
    exchange.fail("/data", status)
    reader = source()
    with pytest.raises(NotConnected, match=f"refused with status {status}") as failure:
        await reader.open(None)
    assert failure.value.retry_after == 60
    with pytest.raises(ConfigurationError, match="no stream is there"):
        await reader.open(None)
    await reader.close()


def kline(**fields):
    return json.dumps({"e": "kline", "k": {"x": True, "s": "BTCUSDT", "i": "1m"} | fields})


GARBLED = {
    "cut": "{",
    "no object": "[]",
    "binary": b"\xff\x00",
    "no kline": '{"e":"kline"}',
    "other symbol": kline(s="ETHUSDT" * 1000),
    "no numbers": kline(t=START, T=START + MINUTE - 1, n=1, **dict.fromkeys("ohlcvqVQ", "garbage")),
    "absurd number": kline(t=START, T=START + MINUTE - 1, n=2**63, **dict.fromkeys("ohlcvqVQ", "1")),
}


@pytest.mark.parametrize("message", GARBLED.values(), ids=GARBLED)
async def test_a_garbled_message_is_reported_and_its_candle_comes_from_the_rest_interface(
    message, exchange, source, coming, close, record, reports
):
    reader = source()
    await reader.open(None)
    await reader.read(10)
    for count in (1, 2):
        reading = asyncio.create_task(reader.read(10))
        await connected(exchange)
        await exchange.streams.push(message)
        await exchange.streams.push(message)
        with pytest.raises(NotConnected, match="not a kline event") as failure:
            await reading
        assert failure.value.retry_after >= 1
        assert len(failure.value.message) < 1000
        assert reports == [{"garbled": each} for each in range(1, count + 1)]
        await reader.close()
        await reader.open({"next": START})
    await close(coming[:2], is_sent=False)
    exchange.market.advance(2000)
    assert await take(reader, 2) == [record(row) for row in coming[:2]]
    reading = asyncio.create_task(take(reader, 1))
    await close(coming[2:3])
    assert await reading == [record(coming[2])]
    await reader.close()


async def test_a_candle_that_is_garbled_in_the_rest_interface_too_is_told(exchange, source, coming, close):
    reader = source()
    await reader.open(None)
    await reader.read(10)
    reading = asyncio.create_task(reader.read(10))
    await connected(exchange)
    while not any("klines" in request for request in exchange.requests):
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)  # nothing was missing; now the stream is listened to
    await close([[*coming[0][:4], "garbage", *coming[0][5:]]])
    with pytest.raises(NotConnected, match="not a kline event"):
        await reading
    await reader.close()
    exchange.market.advance(2000)
    await reader.open({"next": START})
    with pytest.raises(ConfigurationError, match="row 1: close is no number: 'garbage'") as failure:
        await reader.read(10)
    assert failure.value.code == "bad-input"
    await reader.close()


async def test_the_real_stream_gives_its_closed_candle(shared_data, exchange, source, live):
    lines = gzip.decompress((shared_data / "candles" / "ws_kline_BTC_ETH_DOT_20210404.jsonl.gz").read_bytes())
    events = [event for event in map(json.loads, lines.splitlines()) if event["stream"].startswith("btcusdt")]
    (closed,) = [event["data"]["k"] for event in events if event["data"]["k"]["x"]]
    exchange.market.advance(closed["t"] + 30_000 - exchange.market.now_ms())
    exchange.market.rows["BTCUSDT", "1m"] = []
    reader = source()
    await reader.open(None)
    reading = asyncio.create_task(take(reader, 1))
    await connected(exchange)
    for event in events:
        await exchange.streams.push(event)
    (found,) = await reading
    await reader.close()
    assert (found["open_time"], found["close_time"], found["trades"]) == (closed["t"], closed["T"], closed["n"])
    names = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "quote_volume": "q"}
    assert {name: found[name] for name in names} == {name: float(closed[key]) for name, key in names.items()}
    assert (found["taker_buy_volume"], found["taker_buy_quote_volume"]) == (float(closed["V"]), float(closed["Q"]))
