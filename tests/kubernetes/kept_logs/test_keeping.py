"""The logs of real pods are put into the archive before the pods are gone."""

import asyncio
import re

from queue_manager.launcher.kubernetes.archive import Archive
from queue_manager.launcher.kubernetes.podlog import MAX_LINE
from queue_manager.launcher.kubernetes.settings import KubernetesSettings

SEEN_WITHIN_S = 15.0
NODE_IMAGE = "streamforge/dummy-service:0.1.0"
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


def words(count):
    return ["began", *(f"last words {number}" for number in range(count))]


def program(scene, code):
    return scene.spec(command=("python", "-c", code), image=NODE_IMAGE)


async def begun(scene):
    await scene.until(lambda status: status.live == 1 and status.ordinals[0].phase == "running")
    await scene.until_lines(["began"])


def is_over(status):
    return status.condition is not None and status.live == 0


async def test_what_a_pod_wrote_is_there_after_its_job_was_deleted(node_scene):
    scene = node_scene
    async with scene.watching(scene.launchers[0]):
        await scene.launchers[0].create(program(scene, f"print('ä', 'x' * {2 * MAX_LINE}, '', 'end', sep='\\n')"))
        await scene.until(is_over)
        live = await scene.texts()
        await scene.launchers[0].delete("job-a")
        # not later: an ended pod's log is stored before the deletion is sent
        assert len(list(scene.folder.glob("job-a/*.gz"))) == 1
        await scene.until_gone()
        assert await scene.texts() == live
    long = live.pop(1)
    assert live == ["ä", "", "end"]
    cut = re.fullmatch(r"(x+) \[(\d+) bytes more\]", long)
    assert len(cut[1]) + int(cut[2]) == 2 * MAX_LINE
    (kept,) = await Archive(KubernetesSettings(log_archive=str(scene.folder))).of("job-a")
    header = await anext(Archive(KubernetesSettings(log_archive=str(scene.folder))).read(kept))
    told = ("queue_id", "step", "launch", "container", "code", "is_whole", "beginning_missing")
    assert [header[name] for name in told] == [scene.spec().queue_id, "load", "2", "loader-candles", 0, True, False]


async def test_the_last_words_of_a_pod_that_is_ended_are_kept_and_told_once_to_who_follows(node_scene):
    scene = node_scene
    async with scene.watching(scene.launchers[0]):
        await scene.launchers[0].create(program(scene, LAST_WORDS.format(words=10)))
        await begun(scene)
        follower = asyncio.create_task(scene.texts(follow=True))
        await scene.launchers[0].delete("job-a")
        await scene.until_gone()
        await scene.until_lines(words(10))
        assert await follower == words(10)


async def test_the_log_goes_on_in_the_pod_that_takes_the_place_of_one_that_was_taken_away(node_scene):
    scene = node_scene
    async with scene.watching(scene.launchers[0]):
        await scene.launchers[0].create(program(scene, LAST_WORDS.format(words=1)))
        await begun(scene)
        follower = asyncio.create_task(scene.texts(follow=True))
        pods = f"/api/v1/namespaces/{scene.namespace}/pods"
        (pod,) = (await scene.call("get", pods))["items"]
        await scene.call("delete", f"{pods}/{pod['metadata']['name']}")
        await scene.until(lambda status: status.ordinals[0].disruptions == 1 and status.live == 1)
        await scene.until_lines([*words(1), "began"])
        await scene.launchers[0].delete("job-a")
        await scene.until_gone()
        await scene.until_lines(words(1) * 2)
        assert await follower == words(1) * 2


async def test_what_ended_while_nobody_watched_is_kept_and_what_is_kept_is_left_alone(node_scene):
    scene = node_scene
    await scene.launchers[0].create(program(scene, "print('done')"))
    async with asyncio.timeout(SEEN_WITHIN_S):
        while not is_over(await scene.launchers[0].get("job-a")):
            await asyncio.sleep(0.1)
    assert not scene.folder.exists()
    for _ in range(2):
        async with scene.watching(scene.launchers[0]), asyncio.timeout(SEEN_WITHIN_S):
            while not (kept := list(scene.folder.glob("job-a/*.gz"))):
                await asyncio.sleep(0.05)
            stored = kept[0].stat().st_mtime_ns
            await scene.until(is_over)
            await asyncio.sleep(1)
        assert kept[0].stat().st_mtime_ns == stored


async def test_a_queue_manager_that_follows_in_anothers_place_keeps_the_last_words(node_scene):
    scene = node_scene
    async with scene.watching(scene.launchers[0]):
        await scene.launchers[0].create(program(scene, LAST_WORDS.format(words=50)))
        await begun(scene)
        await scene.launchers[0].delete("job-a")
        await asyncio.sleep(1)
    async with scene.watching(scene.launcher()):
        await scene.until_gone()
        await scene.until_lines(words(50))


async def test_no_line_is_lost_or_doubled_by_an_api_server_that_is_away_meanwhile(node_scene):
    scene = node_scene
    async with scene.watching(scene.launchers[0]):
        await scene.launchers[0].create(program(scene, LAST_WORDS.format(words=100)))
        await begun(scene)
        await scene.launchers[0].delete("job-a")
        await asyncio.sleep(1)
        scene.cluster.apiserver.kill()
        await asyncio.to_thread(scene.cluster.apiserver.start)
        await asyncio.to_thread(scene.cluster.wait_ready)
        await scene.until_gone()
        await scene.until_lines(words(100))


async def test_an_archive_that_is_away_gets_the_log_when_it_is_back(node_scene):
    scene = node_scene
    scene.folder.touch()
    async with scene.watching(scene.launchers[0]):
        await scene.launchers[0].create(program(scene, LAST_WORDS.format(words=2)))
        await begun(scene)
        await scene.launchers[0].delete("job-a")
        await scene.until_gone()
        assert await scene.texts() == []
        scene.folder.unlink()
        await scene.until_lines(words(2))


async def test_of_a_long_log_the_end_is_kept(node_scene):
    scene = node_scene
    launcher = scene.launcher(settings={"log_pod_max_bytes": 64 * 1024})
    async with scene.watching(launcher):
        await launcher.create(program(scene, "for number in range(5000): print(number, 'x' * 100)"))
        await scene.until(is_over)
        await launcher.delete("job-a")
        await scene.until_gone()
    numbers = [int(text.split()[0]) for text in await scene.texts()]
    assert numbers == list(range(numbers[0], 5000))
    assert 300 < len(numbers) < 500


async def test_a_log_is_followed_across_the_rotation_of_its_file(node_scene):
    scene = node_scene
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
    async with asyncio.timeout(60), scene.watching(scene.launchers[0]):
        await scene.launchers[0].create(program(scene, code))
        await scene.until(lambda status: status.live == 1 and status.ordinals[0].phase == "running")
        numbers = [int(line.line.split()[0]) async for line in scene.launchers[0].logs("job-a", follow=True)]
        assert numbers == list(range(-1, many + more))
        assert int((await scene.texts())[0].split()[0]) > 0, "the file was not rotated"
