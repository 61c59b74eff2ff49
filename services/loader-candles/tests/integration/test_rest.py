import time
from dataclasses import replace

import pytest

from loader_candles.exchange import Exchange
from loader_candles.rest_source import RestSource
from loader_candles.web_client import WebClient
from streamforge_utils.errors import ConfigurationError, TransientError
from streamforge_utils.pipeline import EndOfSource

pytestmark = pytest.mark.integration

MINUTE = 60_000
DAY = 1440 * MINUTE
START = 1_754_006_400_000


@pytest.fixture
def source(exchange, series):
    def make(wanted=series, budget=3000.0, timeout_s=5.0):
        client = WebClient(exchange.base_url, timeout_s=timeout_s)
        return RestSource(Exchange(client, wanted, budget=budget, clock=exchange.market.monotonic), wanted)

    return make


@pytest.fixture
def market(exchange, rows):
    exchange.market.rows["BTCUSDT", "1m"] = rows(3000, start=START - 60 * MINUTE)
    return exchange.market


async def test_the_range_is_read_page_by_page(exchange, market, source, rows, record, drain, values):
    found = values(await drain(source(), size=300))
    assert found == [record(row) for row in rows(1440)]
    assert sum("klines" in request for request in exchange.requests) == 2


async def test_cut_at_any_delivery_the_rest_follows_exactly(market, source, series, drain, values):
    whole = values(await drain(source()))
    for cut in (1, 2, 5, 14, 15):
        before = await drain(source(), size=100, most=cut)
        assert values(before) + values(await drain(source(), before[-1].position)) == whole


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {"retry_after": "7"}, 7),
        (418, {"retry_after": "120"}, 120),
        (429, {}, 60),
        (429, {"retry_after": "0"}, 1),
        (418, {"retry_after": "0"}, 1),
        (429, {"retry_after": "\u00b2"}, 60),
        (418, {"retry_after": "9" * 400}, 3 * 86_400),
        (400, {"code": -1003, "x_mbx_used_weight_1m": "\u00b2"}, None),
        (500, {}, None),
        (503, {}, None),
        (403, {}, 60),
        (408, {}, None),
        (425, {}, None),
    ],
)
async def test_a_limit_or_fault_is_transient_and_the_next_read_goes_on(
    status, headers, wait, exchange, market, source, rows, record
):
    reader = source()
    await reader.open(None)
    exchange.fail("/api/v3/klines", status, **headers)
    with pytest.raises(TransientError) as failure:
        await reader.read(5000)
    assert failure.value.retry_after == wait
    assert (await reader.read(5000)).values == [record(row) for row in rows(1000)]
    await reader.close()


async def test_the_used_weight_is_kept_below_the_share(exchange, market, source, drain, values, rows):
    exchange.weight_limit = 60
    market.advance(60_000 - market.now_ms() % 60_000 - 700)  # the minute ends in 0.7 s
    exchange.used[market.now_ms() // 60_000] = 27
    began = time.monotonic()
    assert len(values(await drain(source(budget=30.0)))) == 1440
    assert 0.4 < time.monotonic() - began < 5
    assert max(exchange.used.values()) <= 30


async def test_without_a_budget_the_exchange_would_have_limited(exchange, market, source):
    exchange.weight_limit = 3
    reader = source()
    await reader.open(None)
    await reader.read(1000)
    with pytest.raises(TransientError, match="limits requests") as failure:
        await reader.read(1000)
    assert failure.value.retry_after is not None
    await reader.close()


async def test_an_unknown_symbol_is_told(market, source, series, drain):
    with pytest.raises(ConfigurationError, match=r"refuses NOSUCH 1m: Invalid symbol\. \(-1121\)"):
        await drain(source(replace(series, symbol="NOSUCH")))


async def test_a_range_without_candles_is_told(market, source, series, drain):
    with pytest.raises(ConfigurationError, match="no candles in the time range"):
        await drain(source(replace(series, start_ms=START - 9 * DAY, end_ms=START - 8 * DAY)))


async def test_a_listing_in_the_range_gives_what_there_is(market, source, series, drain, values):
    found = values(await drain(source(replace(series, start_ms=START - DAY, end_ms=START))))
    assert len(found) == 60


async def test_the_open_candle_is_no_record_and_is_waited_for(exchange, market, source, series):
    market.rows["BTCUSDT", "1m"] = market.rows["BTCUSDT", "1m"][:65]
    market.advance(START + 5 * MINUTE - 1500 - market.now_ms())  # the fifth is open for another 1.5 s
    reader = source(replace(series, end_ms=START + 5 * MINUTE))
    await reader.open(None)
    assert [one["open_time"] for one in (await reader.read(100)).values] == [START + k * MINUTE for k in range(4)]
    last = (await reader.read(100)).values
    assert [one["open_time"] for one in last] == [START + 4 * MINUTE]
    assert market.now_ms() >= last[0]["close_time"] + 1000
    with pytest.raises(EndOfSource):
        await reader.read(100)
    await reader.close()


async def test_a_server_that_is_away_is_transient(source, exchange):
    exchange.base_url = "http://127.0.0.1:9"
    with pytest.raises(TransientError, match="/api/v3/time does not answer"):
        await source().open(None)


async def test_what_is_not_the_exchange_is_told(source, exchange):
    exchange.fail("/api/v3/time", 404)
    reader = source()
    with pytest.raises(ConfigurationError, match="status 404"):
        await reader.open(None)
    await reader.close()


async def test_a_wrong_row_is_told(market, source, drain):
    market.rows["BTCUSDT", "1m"][63] = [*market.rows["BTCUSDT", "1m"][63][:4], "x", *["1"] * 7]
    with pytest.raises(ConfigurationError, match=r"startTime \d+, row 4: close is no number"):
        await drain(source())
