import contextlib
import gzip
import resource
import tempfile
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from loader_candles.archive import Archive
from loader_candles.files_source import FilesSource
from loader_candles.web_client import WebClient
from streamforge_utils.errors import ConfigurationError, TransientError
from streamforge_utils.pipeline import EndOfSource

pytestmark = pytest.mark.integration

MINUTE = 60_000
DAY = 1440 * MINUTE
START = 1_754_006_400_000  # 2025-08-01


def day_of(ms):
    return datetime.fromtimestamp(ms // 1000, UTC).date().isoformat()


@pytest.fixture
def source(exchange):
    def make(wanted):
        return FilesSource("binance-archive", Archive(WebClient(exchange.base_url, timeout_s=5.0), wanted), wanted)

    return make


@pytest.fixture
def publish(exchange, rows):
    def days(first, count):
        for start in range(first, first + count * DAY, DAY):
            exchange.archive.publish("BTCUSDT", "1m", day_of(start), rows(1440, start=start))

    return days


def zips(exchange):
    return [request.rpartition("/")[2] for request in exchange.requests if request.endswith(".zip")]


async def test_whole_months_come_monthly_and_the_rest_daily(
    exchange, publish, source, series, rows, record, drain, values
):
    exchange.archive.publish("BTCUSDT", "1m", "2025-08", rows(31 * 1440))
    publish(START - DAY, 1)
    publish(START + 31 * DAY, 2)
    wanted = replace(series, start_ms=START - DAY // 2, end_ms=START + 32 * DAY + 7 * MINUTE)
    deliveries = await drain(source(wanted))
    assert values(deliveries) == [record(row) for row in rows(32 * 1440 + 727, start=START - DAY // 2)]
    assert sum(delivery.dropped.get("out-of-range", 0) for delivery in deliveries) == 720 + 1433
    days = ["2025-07-31", "2025-08", "2025-09-01", "2025-09-02"]
    assert zips(exchange) == [f"BTCUSDT-1m-{day}.zip" for day in days]


async def test_a_month_that_is_not_published_yet_comes_by_days(exchange, publish, source, series, drain, values):
    publish(START, 31)
    found = values(await drain(source(replace(series, end_ms=START + 31 * DAY))))
    assert len(found) == 31 * 1440
    assert len(zips(exchange)) == 31


async def test_cut_at_any_delivery_the_rest_follows_exactly(publish, source, series, drain, values):
    publish(START, 3)
    wanted = replace(series, start_ms=START + 5 * MINUTE, end_ms=START + 3 * DAY - 5 * MINUTE)
    whole = values(await drain(source(wanted)))
    for cut in range(1, 10):
        before = await drain(source(wanted), size=500, most=cut)
        assert values(before) + values(await drain(source(wanted), before[-1].position)) == whole


async def test_a_missing_day_is_told_by_name(exchange, publish, source, series, drain):
    publish(START, 1)
    with pytest.raises(ConfigurationError, match=r"BTCUSDT-1m-2025-08-02\.zip: is missing in the archive") as failure:
        await drain(source(replace(series, end_ms=START + 2 * DAY)))
    assert failure.value.code == "bad-input"


async def test_a_wrong_checksum_is_told_by_name(exchange, publish, source, series, drain):
    publish(START, 1)
    path = next(path for path in exchange.archive.files if path.endswith(".zip"))
    exchange.archive.files[path] += b"\0"
    with pytest.raises(ConfigurationError, match=r"BTCUSDT-1m-2025-08-01\.zip: wrong checksum"):
        await drain(source(series))


async def test_a_broken_download_is_resumed_where_it_broke(exchange, publish, source, series, rows, record):
    publish(START, 1)
    path = next(path for path in exchange.archive.files if path.endswith(".zip"))
    exchange.archive.cuts[path] = [8192, 4096]
    reader = source(series)
    await reader.open(None)
    for _ in range(2):
        with pytest.raises(TransientError, match="does not answer"):
            await reader.read(5000)
    found = (await reader.read(5000)).values
    assert found == [record(row) for row in rows(1440)]
    asked = [request.partition(" ")[2] for request in exchange.requests if ".zip" in request and "SUM" not in request]
    assert asked == ["", "bytes=8192-", "bytes=12288-"]
    with pytest.raises(EndOfSource):
        await reader.read(5000)
    await reader.close()


def asked_ranges(exchange):
    return [request.partition(" ")[2] for request in exchange.requests if not request.endswith("SUM")]


async def test_a_connection_that_breaks_behind_the_last_byte_costs_no_byte(
    exchange, publish, source, series, rows, record
):
    publish(START, 1)
    path = next(path for path in exchange.archive.files if path.endswith(".zip"))
    exchange.archive.unended[path] = 1
    reader = source(series)
    await reader.open(None)
    with pytest.raises(TransientError, match="does not answer"):
        await reader.read(5000)
    assert (await reader.read(5000)).values == [record(row) for row in rows(1440)]
    assert asked_ranges(exchange) == ["", f"bytes={len(exchange.archive.files[path])}-"]
    await reader.close()


async def test_a_part_that_cannot_be_resumed_is_discarded(exchange, publish, source, series, rows, record):
    publish(START, 1)
    path = next(path for path in exchange.archive.files if path.endswith(".zip"))
    exchange.archive.cuts[path] = [8192]
    reader = source(series)
    await reader.open(None)
    with pytest.raises(TransientError, match="does not answer"):
        await reader.read(5000)
    exchange.fail(f"{path}$", 416)
    with pytest.raises(TransientError, match=r"wrong checksum: .* loaded anew"):
        await reader.read(5000)
    assert (await reader.read(5000)).values == [record(row) for row in rows(1440)]
    assert asked_ranges(exchange) == ["", "bytes=8192-", ""]
    await reader.close()


@contextlib.contextmanager
def room_for(size):
    """No file of this process grows beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 10])
async def test_a_full_disk_is_told_and_waited_out(room, exchange, publish, source, series, rows, record):
    publish(START, 1)
    path = next(path for path in exchange.archive.files if path.endswith(".zip"))
    done = (len(exchange.archive.files[path]) - 1) // 4096 * 4096
    exchange.archive.cuts[path] = [done]  # what is left is less than any buffer
    reader = source(series)
    await reader.open(None)
    with pytest.raises(TransientError, match="does not answer"):
        await reader.read(5000)
    with room_for(done + room):
        for _ in range(3):
            with pytest.raises(TransientError, match=r"2025-08-01\.zip cannot be kept in .*: \[Errno \d+\]"):
                await reader.read(5000)
    assert (await reader.read(5000)).values == [record(row) for row in rows(1440)]
    assert asked_ranges(exchange) == ["", f"bytes={done}-", *[f"bytes={done + room}-"] * 3]
    await reader.close()


async def test_a_folder_for_downloads_that_is_away_is_waited_for(
    publish, source, series, rows, record, monkeypatch, tmp_path
):
    publish(START, 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "later"))
    reader = source(series)
    await reader.open(None)
    for _ in range(2):
        with pytest.raises(TransientError, match=r"cannot be kept in .*later: "):
            await reader.read(5000)
    (tmp_path / "later").mkdir()
    assert (await reader.read(5000)).values == [record(row) for row in rows(1440)]
    await reader.close()


async def test_a_file_that_changed_under_a_download_is_taken_from_its_start(
    exchange, publish, source, series, rows, values
):
    publish(START, 1)
    path = next(path for path in exchange.archive.files if path.endswith(".zip"))
    exchange.archive.cuts[path] = [8192]
    reader = source(series)
    await reader.open(None)
    with pytest.raises(TransientError):
        await reader.read(5000)
    exchange.archive.publish("BTCUSDT", "1m", "2025-08-01", rows(1439))
    assert len((await reader.read(5000)).values) == 1439
    await reader.close()


@pytest.mark.parametrize("path", [r"/data/.*\.CHECKSUM$", r"/data/.*\.zip$"], ids=["checksum", "zip"])
@pytest.mark.parametrize(("status", "wait"), [(503, None), (429, 60), (403, 60), (408, None), (425, None)])
async def test_a_server_in_trouble_is_transient(status, wait, path, exchange, publish, source, series):
    publish(START, 1)
    exchange.fail(path, status, times=2)
    reader = source(series)
    await reader.open(None)
    for _ in range(2):
        with pytest.raises(TransientError) as failure:
            await reader.read(5000)
        assert failure.value.retry_after == wait
    assert len((await reader.read(5000)).values) == 1440
    await reader.close()


async def test_the_real_candles_come_out_of_an_archive_as_they_went_in(
    shared_data, exchange, source, series, record, drain, values
):
    text = gzip.decompress((shared_data / "candles" / "BTCUSDT-1m-2025-08-01_10.csv.gz").read_bytes()).decode()
    content = [line.split(",") for line in text.splitlines()]
    for day in range(10):
        # as the exchange publishes since 2025: microseconds
        part = [[row[0] + "000", *row[1:6], row[6] + "999", *row[7:]] for row in content[day * 1440 : (day + 1) * 1440]]
        exchange.archive.publish("BTCUSDT", "1m", day_of(START + day * DAY), part)
    found = values(await drain(source(replace(series, end_ms=START + 10 * DAY))))
    assert found == [record(row) for row in content]
