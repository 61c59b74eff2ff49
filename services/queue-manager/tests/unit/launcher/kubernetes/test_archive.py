"""The archive of logs, on a real folder."""

import gzip
import io
import os
import time

import orjson
import pytest
import structlog

from queue_manager.launcher.kubernetes.archive import LIST, Archive, ArchiveError, Kept, kept_at
from queue_manager.launcher.kubernetes.settings import KubernetesSettings

DAY = 86_400


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / "logs"


@pytest.fixture
def archive(folder):
    return Archive(KubernetesSettings(log_archive=str(folder), log_max_bytes=1024**2))


def kept(uid="u1", *, job="job-a", created_at=1_700_000_000.0, ordinal=0):
    return Kept(job=job, created_at=created_at, ordinal=ordinal, uid=uid)


def packed(*objects):
    return io.BytesIO(gzip.compress(b"".join(orjson.dumps(one) + b"\n" for one in objects)))


async def put_old(archive, folder, uid, age_s, *, size=10):
    """An object of some size on the disk that was stored so long ago."""
    one = kept(uid)
    await archive.put(one, io.BytesIO(os.urandom(size)))
    when = time.time() - age_s
    os.utime(folder / one.key, (when, when))
    return one


def uids(found):
    return {one.uid for one in found}


async def test_what_was_put_is_found_and_read(archive):
    one = kept(ordinal=3)
    assert not await archive.has(one)
    await archive.put(one, packed({"step": "a"}, {"ts": 1.5, "line": "ä"}))
    assert await archive.has(one)
    assert await archive.of("job-a") == [one]
    assert [line async for line in archive.read(one)] == [{"step": "a"}, {"ts": 1.5, "line": "ä"}]


async def test_a_long_log_is_read_in_pieces(archive):
    lines = [{"ts": float(number), "line": os.urandom(50).hex()} for number in range(20_000)]
    await archive.put(kept(), packed(*lines))
    assert [line async for line in archive.read(kept())] == lines


async def test_a_job_has_its_own_logs_alone_the_oldest_first(archive):
    for uid, created_at in (("new", 1_700_000_009.0), ("old", 1_700_000_001.0)):
        await archive.put(kept(uid, created_at=created_at), packed({}))
    await archive.put(kept("other", job="job-a2"), packed({}))
    assert [one.uid for one in await archive.of("job-a")] == ["old", "new"]
    assert await archive.of("job") == []


async def test_putting_again_replaces(archive):
    await archive.put(kept(), packed({"step": "a"}))
    await archive.put(kept(), packed({"step": "b"}))
    assert [line async for line in archive.read(kept())] == [{"step": "b"}]


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"no json\n"), gzip.compress(b"{}\n" * 500)[:-9], b""])
async def test_a_broken_object_is_named(archive, content):
    await archive.put(kept(), io.BytesIO(content))
    with pytest.raises(ArchiveError, match="job-a/1700000000000-0-u1"):
        _ = [line async for line in archive.read(kept())]


async def test_an_object_that_went_meanwhile_is_an_error_of_the_archive(archive):
    with pytest.raises(ArchiveError, match="not found"):
        _ = [line async for line in archive.read(kept())]


def test_keys_are_read_back_and_other_objects_are_not_ours():
    assert kept_at(kept(ordinal=7).key) == kept(ordinal=7)
    assert [kept_at(key) for key in ("README", "job/1-2.ndjson.gz", "job/1-0-u.ndjson", "a/b/1-0-u.ndjson.gz")] == [
        None
    ] * 4


async def test_what_is_too_old_goes_and_so_does_its_folder(archive, folder):
    await put_old(archive, folder, "old", 7 * DAY + 60)
    assert await archive.prune(time.time()) == (1, 0)
    assert list(folder.iterdir()) == []
    await put_old(archive, folder, "young", 7 * DAY - 60)
    assert await archive.prune(time.time()) == (0, 0)
    assert uids(await archive.of("job-a")) == {"young"}


async def test_above_the_cap_the_oldest_go_first(archive, folder):
    for number in range(8):
        await put_old(archive, folder, f"u{number}", 1000 - 100 * number, size=200_000)
    assert await archive.prune(time.time()) == (0, 3)
    assert uids(await archive.of("job-a")) == {"u3", "u4", "u5", "u6", "u7"}
    assert await archive.prune(time.time()) == (0, 0)


async def test_no_more_goes_than_must_within_one_minute(archive, folder):
    for number in range(6):
        await put_old(archive, folder, f"u{number}", 600 - number, size=200_000)
    assert await archive.prune(time.time()) == (0, 1)
    assert uids(await archive.of("job-a")) == {"u1", "u2", "u3", "u4", "u5"}


async def test_small_files_count_as_the_blocks_that_they_take(archive, folder):
    for number in range(300):
        await put_old(archive, folder, f"u{number:03}", 3000 - 10 * number)
    assert await archive.prune(time.time()) == (0, 300 - 256)


async def test_many_go_at_once(archive, folder):
    await put_old(archive, folder, "first", 8 * DAY)
    for number in range(LIST + 50):
        path = folder / kept(f"u{number}", job=f"job-{number}").key
        path.parent.mkdir()
        path.touch()
        os.utime(path, (1, 1))
    assert await archive.prune(time.time()) == (LIST + 51, 0)
    assert list(folder.iterdir()) == []


async def test_files_of_others_are_left_alone(archive, folder):
    await put_old(archive, folder, "old", 8 * DAY)
    (folder / "README").touch()
    os.utime(folder / "README", (1, 1))
    await archive.prune(time.time())
    assert [path.name for path in folder.iterdir()] == ["README"]


async def test_an_archive_that_is_away_is_told_once_and_again_when_it_is_back(archive, folder):
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.touch()
    with structlog.testing.capture_logs() as told:
        for _ in range(2):
            with pytest.raises(ArchiveError, match="KUBERNETES_LOG_ARCHIVE"):
                await archive.of("job-a")
            assert archive.is_away
        folder.parent.unlink()
        assert await archive.of("job-a") == []
    assert [event["event"] for event in told] == ["log_archive_away", "log_archive_back"]
    assert not archive.is_away


def test_without_a_place_it_is_off():
    assert not Archive(KubernetesSettings(log_archive="")).is_on
    assert Archive(KubernetesSettings()).is_on
