"""A log on its way into the archive."""

import gzip

import orjson
import pytest

from queue_manager.launcher.kubernetes.spool import BUFFER, Spool

LIMIT = 16 * BUFFER


async def unpacked(spool, header=None):
    with await spool.packed(header or {}) as packed, gzip.open(packed) as lines:
        first, *others = map(orjson.loads, lines)
        return first, others


async def test_lines_come_out_behind_the_header():
    with Spool(LIMIT) as spool:
        assert spool.is_empty
        await spool.add(1.25, "a")
        await spool.add(2.0, "ä\u2028\x00")
        assert not spool.is_empty
        header, lines = await unpacked(spool, {"step": "s"})
    assert header == {"step": "s", "beginning_missing": False}
    assert lines == [{"ts": 1.25, "line": "a"}, {"ts": 2.0, "line": "ä\u2028\x00"}]


async def test_it_can_be_packed_again_when_it_could_not_be_stored():
    with Spool(LIMIT) as spool:
        await spool.add(1.0, "a")
        assert await unpacked(spool) == await unpacked(spool)


@pytest.mark.parametrize("length", [10, 1000, 60_000])
async def test_of_a_long_log_the_end_is_kept_in_whole_lines(length):
    count = 5 * LIMIT // length
    with Spool(LIMIT) as spool:
        for number in range(count):
            await spool.add(float(number), "x" * length)
        header, lines = await unpacked(spool)
    assert header["beginning_missing"]
    numbers = [int(line["ts"]) for line in lines]
    assert numbers == list(range(count - len(lines), count))
    size = sum(len(orjson.dumps(line)) + 1 for line in lines)
    assert LIMIT - 2 * length - 100 < size <= LIMIT


async def test_the_file_does_not_grow_with_the_log():
    with Spool(LIMIT) as spool:
        for number in range(20 * LIMIT // 1000):
            await spool.add(float(number), "x" * 1000)
            assert spool._file.seek(0, 2) <= LIMIT + LIMIT // 4 + BUFFER


async def test_a_log_of_the_limit_is_kept_whole():
    with Spool(LIMIT) as spool:
        for number in range(LIMIT // 100):
            await spool.add(float(number), "")
        header, lines = await unpacked(spool)
    assert (header["beginning_missing"], len(lines)) == (False, LIMIT // 100)
