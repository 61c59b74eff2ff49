import asyncio
import contextlib
import gzip
import io
import os
import random
import zipfile
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from loader_candles.files_source import FilesSource, Volume
from loader_candles.local_files import LocalFiles
from streamforge_utils import codec
from streamforge_utils.contracts import candle
from streamforge_utils.errors import ConfigurationError, TransientError
from streamforge_utils.pipeline import EndOfSource

MINUTE = 60_000
DAY = 1440 * MINUTE
START = 1_754_006_400_000

HEADERS = {
    "archive": "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore",
    "documentation": "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of trades,"
    "Taker buy base asset volume,Taker buy quote asset volume,Ignore",
    "export": "open_time,open,high,low,close,volume,close_time,quote_volume,trade_count,taker_buy_base,"
    "taker_buy_quote,ignore",
}


@pytest.fixture
def source(series, tmp_path):
    def make(pattern, roots=None, wanted=None):
        wanted = wanted or series
        return FilesSource("file", LocalFiles(f"file://{pattern}", roots or [tmp_path], wanted), wanted)

    return make


def dropped(deliveries):
    total = {}
    for delivery in deliveries:
        for reason, count in delivery.dropped.items():
            total[reason] = total.get(reason, 0) + count
    return total


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.zip"])
async def test_every_kind_of_file_gives_the_same_records(name, source, write, rows, record, drain, values):
    content = rows(1440)
    deliveries = await drain(source(write(name, content)), size=100)
    assert values(deliveries) == [record(row) for row in content]
    assert all(candle.fault(value) is None for value in values(deliveries))
    assert all(len(delivery.values) <= 100 for delivery in deliveries)


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
async def test_a_header_names_the_columns(header, bom, source, write, rows, record, drain, values):
    content = rows(5)
    text = bom + header.encode() + b"\r\n" + "".join(",".join(row) + "\r\n" for row in content).encode()
    assert values(await drain(source(write("a.csv", text)))) == [record(row) for row in content]


async def test_under_a_header_the_order_and_further_columns_are_free(source, write, rows, record, drain, values):
    names = ["rsi", *HEADERS["archive"].split(",")[::-1]]
    content = rows(5)
    turned = [["33.3", *row[::-1]] for row in content]
    found = values(await drain(source(write("a.csv", turned, ",".join(names)))))
    assert found == [record(row) for row in content]


async def test_microseconds_are_floored_to_milliseconds(source, write, rows, record, drain, values):
    content = rows(5)
    micro = [[row[0] + "000", *row[1:6], row[6] + "999", *row[7:]] for row in content]
    found = values(await drain(source(write("a.csv", micro))))
    assert found == [record(row) for row in content]
    assert found[0]["close_time"] == START + MINUTE - 1


async def test_iso_times_with_an_offset_are_read(source, write, rows, record, drain, values):
    def iso(ms, hours=0):
        moment = datetime.fromtimestamp(int(ms) // 1000, UTC).isoformat(sep=" ")
        return moment.replace("+00:00", f".{int(ms) % 1000:03}000+00:00")

    content = rows(5)
    text = [[iso(row[0]), *row[1:6], iso(row[6]), *row[7:]] for row in content]
    found = values(await drain(source(write("a.csv", text, HEADERS["export"]))))
    assert found == [record(row) for row in content]


async def test_rows_out_of_range_and_duplicates_are_dropped_and_counted(source, write, rows, drain, values):
    content = rows(1460, start=START - 10 * MINUTE)
    content[700:700] = [content[699]] * 3
    deliveries = await drain(source(write("a.csv", content)), size=17)
    assert len(values(deliveries)) == 1440
    assert dropped(deliveries) == {"out-of-range": 20, "duplicate": 3}


async def test_a_file_without_rows_in_the_range_is_fine(source, write, rows, drain):
    deliveries = await drain(source(write("a.csv", rows(7, start=START + DAY))))
    assert dropped(deliveries) == {"out-of-range": 7}


async def test_a_glob_is_read_in_the_order_of_names(source, write, rows, record, drain, values, tmp_path):
    content = rows(30)
    for day, part in ((3, content[20:]), (1, content[:10]), (2, content[9:20])):  # the second repeats a row
        write(f"BTCUSDT-1m-2025-08-0{day}.csv.gz", part)
    deliveries = await drain(source(tmp_path / "BTCUSDT-1m-*.csv.gz"))
    assert values(deliveries) == [record(row) for row in content]
    assert dropped(deliveries) == {"duplicate": 1}


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".zip"])
@pytest.mark.parametrize("header", ["", HEADERS["archive"]], ids=["bare", "header"])
async def test_cut_at_any_row_the_rest_follows_exactly(suffix, header, source, write, rows, drain, values, tmp_path):
    content = rows(24, start=START - 2 * MINUTE)
    content.insert(5, content[4])
    for day in range(3):
        write(f"day{day}{suffix}", content[day * 9 : day * 9 + 9], header)
    pattern = tmp_path / f"day*{suffix}"
    whole = await drain(source(pattern))
    for count in range(1, 26):
        before = await drain(source(pattern), size=1, most=count)
        position = codec.decode(codec.encode(before[-1].position))
        after = await drain(source(pattern), position)
        assert values(before) + values(after) == values(whole)
        assert dropped(before + after) == dropped(whole)


async def test_order_is_verified_across_files_and_restarts(source, write, rows, drain, tmp_path):
    write("a.csv", rows(3, start=START + 10 * MINUTE))
    write("b.csv", rows(3))
    before = await drain(source(tmp_path / "*.csv"), size=3, most=1)
    with pytest.raises(ConfigurationError, match=r"b\.csv, line 1: not sorted"):
        await drain(source(tmp_path / "*.csv"), before[-1].position)


async def test_the_last_line_needs_no_newline_and_blank_lines_are_no_rows(source, write, rows, drain, values):
    text = b"\n\n".join(",".join(row).encode() for row in rows(3))
    deliveries = await drain(source(write("a.csv", text)), size=2)
    assert len(values(deliveries)) == 3
    assert deliveries[-1].position["line"] == 5


async def test_a_cancelled_read_loses_nothing(source, write, rows, record, values):
    content = rows(1000)
    reader = source(write("a.csv.gz", content))
    await reader.open(None)
    found = []
    while len(found) < 1000:
        reading = asyncio.create_task(reader.read(100))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        found += (await reader.read(100)).values
    await reader.close()
    assert found == [record(row) for row in content]


async def test_close_ends_a_cancelled_read(source, write, rows):
    reader = source(write("a.csv.gz", rows(1000)))
    await reader.open(None)
    reading = asyncio.create_task(reader.read(100))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    await reader.close()
    await reader.close()


def _csv(rows):
    return "".join(",".join(row) + "\n" for row in rows).encode()


def _edited(rows, line, column, cell):
    rows[line - 1][column] = cell
    return _csv(rows)


BAD = {
    "empty": ("a.csv", lambda rows: b"", "line 1: the file is empty"),
    "empty gz": ("a.csv.gz", lambda rows: gzip.compress(b""), "line 1: the file is empty"),
    "no bytes in gz": ("a.csv.gz", lambda rows: b"", "line 1: the file is empty"),
    "only a header": ("a.csv", lambda rows: HEADERS["archive"].encode(), "line 1: a header, but no rows"),
    "binary": ("a.csv", lambda rows: bytes(range(256)) * 40, "line 1: this is no text"),
    "binary without lines": ("a.csv", lambda rows: b"\xff" * 300_000, "line 1: longer than 65536 bytes"),
    "gz under another name": ("a.csv", lambda rows: gzip.compress(_csv(rows)), "line 1: this is no text"),
    "no gz": ("a.csv.gz", _csv, "line 1: cannot be read (truncated or damaged?): Not a gzipped file"),
    "no zip": ("a.zip", _csv, "line 1: cannot be read (truncated or damaged?): File is not a zip file"),
    "truncated row": ("a.csv", lambda rows: _csv(rows)[:-30], "line 20: 8 columns instead of 12"),
    "missing column": ("a.csv", lambda rows: _csv([row[:-1] for row in rows]), "line 1: 11 columns instead of 12"),
    "one row too wide": ("a.csv", lambda rows: _edited(rows, 7, 3, "1,2"), "line 7: 13 columns instead of 12"),
    "header lacks": ("a.csv", lambda rows: b"open_time,open,high,low,close\n" + _csv(rows), "line 1: the header lacks"),
    "short under a header": (
        "a.csv",
        lambda rows: HEADERS["archive"].encode() + b"\n" + _csv(rows[:3]) + b"1754006580000,1,2\n",
        "line 5: only 3 columns",
    ),
    "not a number": ("a.csv", lambda rows: _edited(rows, 9, 4, "n/a"), "line 9: close is no number: 'n/a'"),
    "nan": ("a.csv", lambda rows: _edited(rows, 9, 5, "nan"), "line 9: volume is no number: 'nan'"),
    "infinite": ("a.csv", lambda rows: _edited(rows, 9, 7, "inf"), "line 9: quote_volume is no number: 'inf'"),
    "underscore": ("a.csv", lambda rows: _edited(rows, 9, 8, "1_0"), "line 9: an underscore"),
    "no trades": ("a.csv", lambda rows: _edited(rows, 3, 8, ""), "line 3: trades is no number: ''"),
    "seconds": ("a.csv", lambda rows: _edited(rows, 1, 0, "1754006400"), "line 1: open_time is no time: '1754006400'"),
    "no time zone": ("a.csv", lambda rows: _edited(rows, 4, 0, "2025-08-01 00:03:00"), "line 4: open_time is no time"),
    "unsorted": ("a.csv", lambda rows: _csv([*rows[:5], *rows[2:]]), "line 6: not sorted: open_time"),
    "spacing": ("a.csv", lambda rows: _edited(rows, 5, 0, str(START + 4 * MINUTE + 500)), "line 5: open_time"),
    "other interval": ("a.csv", lambda rows: _edited(rows, 1, 6, str(START + 5 * MINUTE - 1)), "line 1: open_time"),
    "other symbol": ("ETHUSDT-1m-2025-08-01.csv", _csv, "by its name of symbol ETHUSDT, the workflow's is BTCUSDT"),
    "other interval by name": ("BTCUSDT-5m-2025-08.csv", _csv, "by its name of interval 5m, the workflow's is 1m"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
async def test_a_bad_file_is_told_with_file_and_line(case, source, rows, drain, tmp_path):
    name, content, message = case
    (tmp_path / name).write_bytes(content(rows(20)))
    with pytest.raises(ConfigurationError) as failure:
        await drain(source(tmp_path / name))
    assert failure.value.code == "bad-input"
    assert str(tmp_path / name) in failure.value.message
    assert message in failure.value.message


async def _until_error(reader, size):
    found = 0
    try:
        while True:
            found += len((await reader.read(size)).values)
    except ConfigurationError as error:
        return found, error
    finally:
        await reader.close()


@pytest.mark.parametrize("size", [1, 7, 5000])
async def test_all_rows_before_a_bad_one_are_given(size, source, write, rows):
    reader = source(write("a.csv", _edited(rows(20), 12, 2, "x")))
    await reader.open(None)
    found, error = await _until_error(reader, size)
    assert found == 11
    assert "line 12" in error.message


async def test_a_truncated_gz_gives_its_rows_and_then_says_where_it_ends(source, write, rows, tmp_path):
    path = write("a.csv.gz", rows(1440))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = source(path)
    await reader.open(None)
    found, error = await _until_error(reader, 100)
    assert 0 < found < 1440
    assert f"a.csv.gz, line {found + 1}: cannot be read (truncated or damaged?)" in error.message


async def test_a_zip_of_several_files_is_refused(source, drain, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", "x")
        archive.writestr("b.csv", "x")
    with pytest.raises(ConfigurationError, match="a zip of 2 files"):
        await drain(source(tmp_path / "a.zip"))


async def test_no_path_leads_out_of_the_roots(source, write, rows, drain, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = write("a.csv", rows(3))
    os.symlink(path, inside / "link.csv")
    os.symlink(tmp_path, inside / "folder")
    for pattern in (path, inside / "link.csv", inside / "*.csv", inside / "folder" / "a.csv", "/etc/passwd"):
        with pytest.raises(ConfigurationError, match="outside of the folders"):
            await drain(source(pattern, [inside]))
    with pytest.raises(ConfigurationError, match=r"'\.\.'"):
        await drain(source(f"{inside}/../a.csv", [tmp_path]))


async def test_a_link_inside_of_the_roots_is_read(source, write, rows, drain, values, tmp_path):
    os.symlink(write("a.csv", rows(3)), tmp_path / "link.csv")
    assert len(values(await drain(source(tmp_path / "link.csv")))) == 3


@pytest.mark.parametrize(("pattern", "message"), [("/none-*.csv", "no such file"), ("", "not a file")])
async def test_what_is_no_file_is_told(pattern, message, source, drain, tmp_path):
    with pytest.raises(ConfigurationError, match=message):
        await drain(source(f"{tmp_path}{pattern}"))


async def test_a_file_that_vanished_between_two_lives_is_told(source, write, rows, drain):
    path = write("a.csv", rows(9))
    before = await drain(source(path), size=3, most=1)
    path.rename(path.with_name("b.csv"))
    with pytest.raises(ConfigurationError, match=r"a\.csv: was being read and is not there any more"):
        await drain(source(path.with_name("*.csv")), before[-1].position)


async def test_the_real_export_gives_every_candle(shared_data, source, series, drain, values):
    wanted = replace(series, end_ms=series.start_ms + 10 * DAY)
    path = shared_data / "candles" / "BTCUSDT-1m-2025-08-01_10.csv.gz"
    deliveries = await drain(source(path, [shared_data], wanted))
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    found = values(deliveries)
    assert len(found) == len(lines) == 14_400
    for value, line in zip(found, lines, strict=True):
        cells = line.split(",")
        assert value["trades"] == int(cells[8])
        assert [value[name] for name in ("open_time", "open", "high", "low", "close", "volume", "close_time")] == [
            float(cell) for cell in cells[:7]
        ]
        assert [value["quote_volume"], value["taker_buy_volume"], value["taker_buy_quote_volume"]] == [
            float(cells[index]) for index in (7, 9, 10)
        ]


class FailingShelf:
    """A shelf over one file whose medium fails at every third read of an opened file."""

    def __init__(self, path):
        self._path = path
        self.failures = 0

    async def open(self):
        pass

    async def close(self):
        pass

    async def following(self, name):
        return None if name else await self.named("a.csv")

    async def named(self, name):
        return Volume(name, self._opened)

    def _opened(self):
        shelf, file = self, self._path.open("rb")

        class Failing(io.BufferedReader):
            reads = 0

            def read1(self, size=-1):
                self.reads += 1
                if self.reads == 3:
                    shelf.failures += 1
                    raise OSError(5, "Input/output error")
                return super().read1(50_000)

        return Failing(file.detach())


async def test_a_medium_that_fails_is_read_again_behind_the_last_row(series, write, rows, record):
    content = rows(1440)
    shelf = FailingShelf(write("a.csv", content))
    reader = FilesSource("file", shelf, series)
    await reader.open(None)
    found = []
    with contextlib.suppress(EndOfSource):
        while True:
            with contextlib.suppress(TransientError):
                found += (await reader.read(100)).values
    await reader.close()
    assert found == [record(row) for row in content]
    assert shelf.failures > 1


async def test_links_in_a_circle_are_told(source, drain, tmp_path):
    os.symlink(tmp_path / "b.csv", tmp_path / "a.csv")
    os.symlink(tmp_path / "a.csv", tmp_path / "b.csv")
    with pytest.raises(ConfigurationError, match=r"a\.csv: "):
        await drain(source(tmp_path / "a.csv"))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.zip"])
async def test_whatever_is_damaged_is_told_or_read_but_never_a_fault(name, source, write, rows, drain):
    path = write(name, rows(200))
    whole, draw = path.read_bytes(), random.Random(name)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data[: draw.choice([len(data), draw.randrange(len(data))])])
        with contextlib.suppress(ConfigurationError):
            await drain(source(path))
