"""The logs of real pods are put into the archive before the pods are gone."""

import asyncio
import re

import pytest

from queue_manager.launcher.kubernetes.archive import Archive
from queue_manager.launcher.kubernetes.podlog import MAX_LINE
from queue_manager.launcher.kubernetes.settings import KubernetesSettings

LAST_WORDS = """
import signal, sys, time

def end(*_):
    for number in range({words}):
        time.sleep(0.1)
        print("last words", number, flush=True)
    sys.exit(143)

signal.signal(signal.SIGTERM, end)
print("began", flush=True)
while True:
    time.sleep(1)
"""


@pytest.fixture
def stage(node_stage):
    """Its pods are real."""
    return node_stage


@pytest.fixture
async def unwatched(node_cluster, make_stage):
    async with make_stage(node_cluster) as stage:
        yield stage


def words(count):
    return ["began", *(f"last words {number}" for number in range(count))]


async def say(stage, count):
    """A worker has begun, and says so many last words when it is ended, ten a second."""
    await stage.create(stage.program(LAST_WORDS.format(words=count)))
    await stage.runs()
    await until_lines(stage, ["began"])


async def take_away(stage):
    await stage.launchers[0].delete("job-a")
    await stage.until_gone()


async def until_lines(stage, wanted):
    """The log, as soon as it is so long: what a pod says last is stored when it is gone."""

    async def found():
        lines = await stage.texts()
        return lines if len(lines) >= len(wanted) else None

    assert await stage.sooner_or_later(found) == wanted


async def test_what_a_pod_wrote_is_there_after_its_job_was_deleted(stage, log_archive):
    await stage.create(stage.program(f"print('ä', 'x' * {2 * MAX_LINE}, '', 'end', sep='\\n')"))
    await stage.ended()
    live = await stage.texts()
    await stage.launchers[0].delete("job-a")
    # not later: an ended pod's log is stored before the deletion is sent
    assert len(list(log_archive.glob("job-a/*.gz"))) == 1
    await stage.until_gone()
    assert await stage.texts() == live
    long = live.pop(1)
    assert live == ["ä", "", "end"]
    cut = re.fullmatch(r"(x+) \[(\d+) bytes more\]", long)
    assert len(cut[1]) + int(cut[2]) == 2 * MAX_LINE
    archive = Archive(KubernetesSettings())
    (kept,) = await archive.of("job-a")
    header = await anext(archive.read(kept))
    told = ("queue_id", "step", "launch", "container", "code", "is_whole", "beginning_missing")
    assert [header[name] for name in told] == [stage.spec().queue_id, "load", "2", "loader-candles", 0, True, False]


async def test_the_last_words_of_a_pod_that_is_ended_are_kept_and_told_once_to_who_follows(stage):
    await say(stage, 10)
    follower = asyncio.create_task(stage.texts(follow=True))
    await take_away(stage)
    await until_lines(stage, words(10))
    assert await follower == words(10)


async def test_the_log_goes_on_in_the_pod_that_takes_the_place_of_one_that_was_taken_away(stage):
    await say(stage, 1)
    follower = asyncio.create_task(stage.texts(follow=True))
    pod = await stage.running_pod()
    await stage.call("delete", f"{stage.core}/pods/{pod['metadata']['name']}")
    await stage.until(lambda status: status.ordinals[0].disruptions == 1 and status.live == 1)
    await until_lines(stage, [*words(1), "began"])
    await take_away(stage)
    await until_lines(stage, words(1) * 2)
    assert await follower == words(1) * 2


async def test_what_ended_while_nobody_watched_is_kept_and_what_is_kept_is_left_alone(unwatched, log_archive):
    await unwatched.create(unwatched.program("print('done')"))

    async def is_over():
        status = await unwatched.launchers[0].get("job-a")
        return status.condition is not None and status.live == 0

    await unwatched.sooner_or_later(is_over)
    assert not log_archive.exists()
    for _ in range(2):
        async with unwatched.watching():
            (kept,) = await unwatched.sooner_or_later(lambda: list(log_archive.glob("job-a/*.gz")))
            stored = kept.stat().st_mtime_ns
            await asyncio.sleep(1)
        assert kept.stat().st_mtime_ns == stored


async def test_a_queue_manager_that_follows_in_anothers_place_keeps_the_last_words(unwatched):
    async with unwatched.watching():
        await say(unwatched, 50)
        await unwatched.launchers[0].delete("job-a")
        await asyncio.sleep(1)
    async with unwatched.watching(unwatched.launcher()):
        await unwatched.until_gone()
        await until_lines(unwatched, words(50))


async def test_no_line_is_lost_or_doubled_by_an_api_server_that_is_away_meanwhile(stage):
    await say(stage, 100)
    await stage.launchers[0].delete("job-a")
    await asyncio.sleep(1)
    stage.cluster.apiserver.kill()
    await asyncio.to_thread(stage.cluster.apiserver.start)
    await asyncio.to_thread(stage.cluster.wait_ready)
    await stage.until_gone()
    await until_lines(stage, words(100))


async def test_an_archive_that_is_away_gets_the_log_when_it_is_back(unwatched, log_archive):
    log_archive.touch()  # where it wants a folder
    async with unwatched.watching():
        await say(unwatched, 2)
        await take_away(unwatched)
        assert await unwatched.texts() == []
        log_archive.unlink()
        await until_lines(unwatched, words(2))


async def test_of_a_long_log_the_end_is_kept(unwatched):
    launcher = unwatched.launcher(settings={"log_pod_max_bytes": 64 * 1024})
    async with unwatched.watching(launcher):
        await launcher.create(unwatched.program("for number in range(5000): print(number, 'x' * 100)"))
        await unwatched.ended()
        await launcher.delete("job-a")
        await unwatched.until_gone()
    numbers = [int(text.split()[0]) for text in await unwatched.texts()]
    assert numbers == list(range(numbers[0], 5000))
    assert 300 < len(numbers) < 500


async def test_a_log_is_followed_across_the_rotation_of_its_file(stage):
    many, more = 14_000, 160  # of 1 KiB: the kubelet rotates at 10 MiB, and looks every 10 s
    code = f"""
import time
print(-1, flush=True)
time.sleep(4)
for number in range({many}):
    print(number, "x" * 1000, flush=True)
for number in range({many}, {many + more}):
    print(number, flush=True)
    time.sleep(0.1)
"""
    await stage.create(stage.program(code))
    await stage.runs()
    async with asyncio.timeout(60):
        numbers = [int(line.line.split()[0]) async for line in stage.launchers[0].logs("job-a", follow=True)]
    assert numbers == list(range(-1, many + more))
    assert int((await stage.texts())[0].split()[0]) > 0, "the file was not rotated"
