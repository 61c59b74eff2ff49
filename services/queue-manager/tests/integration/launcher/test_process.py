"""The process launcher and the local node, each of which may die alone."""

import asyncio
import os
import signal
from contextlib import aclosing

import pytest

from queue_manager.launcher import JobRefused, LauncherUnavailable
from queue_manager.launcher.process import ProcessLauncher

pytestmark = pytest.mark.integration


@pytest.fixture
def own(own_node, platform_class):
    return platform_class(ProcessLauncher(own_node.socket, timeout_s=1.0))


async def test_a_node_that_is_not_there_is_unavailable_and_the_message_says_what_to_do(tmp_path):
    launcher = ProcessLauncher(tmp_path / "no.sock")
    with pytest.raises(LauncherUnavailable, match=r"no\.sock does not answer .*`make up` starts it"):
        await launcher.list()
    with pytest.raises(LauncherUnavailable, match=r"no\.sock does not answer"):
        await launcher.check()


async def test_a_frozen_node_is_unavailable_not_waited_for(own, own_node):
    os.kill(own_node.pid, signal.SIGSTOP)
    try:
        with pytest.raises(LauncherUnavailable, match="no word for 1 s"):
            await own.launcher.get("job")
    finally:
        os.kill(own_node.pid, signal.SIGCONT)
    assert await own.launcher.get("job") is None


async def test_a_job_that_the_node_will_never_take_is_refused_with_a_code(own):
    with pytest.raises(JobRefused, match="name: String should match") as refused:
        await own.create("../job", "runs")
    assert refused.value.code == "invalid"
    with pytest.raises(JobRefused, match="9 replicas, this node runs 8 processes") as refused:
        await own.create("job", "runs", replicas=9)
    assert refused.value.code == "too-many-replicas"
    await own.create("job-a", "runs", replicas=5)
    with pytest.raises(LauncherUnavailable, match="5 of 8 processes are taken"):
        await own.create("job-b", "runs", replicas=5)


async def test_another_client_finds_the_jobs_as_they_are(own, own_node, platform_class):
    created = await own.create("job", "runs")
    await own.launcher.close()
    successor = platform_class(ProcessLauncher(own_node.socket))
    status = await successor.until("job", lambda status: status.live == 1)
    assert (status.labels, status.created_at) == (created.labels, created.created_at)


async def test_a_watch_outlives_the_node_and_takes_back_what_went_meanwhile(own, own_node):
    await own.create("stays", "runs")
    async with asyncio.timeout(30), aclosing(own.launcher.watch()) as watch:
        async for event in watch:
            if event.synced:
                break
        await own.create("goes", "runs")
        async for event in watch:
            if event.name == "goes":
                break
        os.kill(own_node.pid, signal.SIGSTOP)  # it can tell nobody, and is dead before it could
        deletion = asyncio.create_task(own.launcher.delete("goes", grace_s=0))
        own_node.kill()
        with pytest.raises(LauncherUnavailable):
            await deletion
        own_node.start()
        told = {}
        async for event in watch:
            if event.synced:
                break
            told[event.name] = event.status
        assert told["stays"].ordinals[0].disruptions == 1
        assert told["goes"] is not None  # the delete was never taken


async def test_a_watch_tells_of_a_job_that_went_while_nobody_could_say_it(own, own_node, tmp_path):
    await own.create("goes", "runs")
    async with asyncio.timeout(30), aclosing(own.launcher.watch()) as watch:
        async for event in watch:
            if event.synced:
                break
        own_node.kill()
        for path in tmp_path.glob("data/journal*"):
            path.unlink()
        own_node.start()
        told = []
        async for event in watch:
            told.append((event.name, event.status, event.synced))
            if event.synced:
                break
    assert told[-2:] == [("goes", None, False), ("", None, True)]


async def test_a_watch_notices_a_frozen_node_and_goes_on_when_it_thaws(own, own_node):
    async with asyncio.timeout(30), aclosing(own.launcher.watch()) as watch:
        assert (await anext(watch)).synced
        os.kill(own_node.pid, signal.SIGSTOP)
        again = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(1.5)
        os.kill(own_node.pid, signal.SIGCONT)
        assert (await again).synced


async def test_a_lost_answer_to_create_is_found_by_asking_again(own, own_node):
    os.kill(own_node.pid, signal.SIGSTOP)
    with pytest.raises(LauncherUnavailable):
        await own.create("job", "runs")
    os.kill(own_node.pid, signal.SIGCONT)
    status = await own.until("job", lambda status: status is not None)
    assert status.labels["decision_id"] == "d-1"


async def test_of_much_that_a_failed_worker_said_the_end_is_told_and_by_the_next_node_too(own, own_node):
    talk = "for n in $(seq 30); do echo line $n; done; echo; echo 'broken \u00e9'; printf half; exit 3"
    await own.create("job", "runs", command=("sh", "-c", talk), backoff_limit=1)
    status = await own.until("job", lambda status: status.condition is not None)
    wanted = (*(f"line {number}" for number in range(23, 31)), "broken \u00e9", "half")
    assert status.ordinals[0].last_lines == wanted
    own_node.kill()
    own_node.start()
    assert (await own.launcher.get("job")).ordinals[0].last_lines == wanted


async def test_a_long_line_is_told_from_its_end(own):
    await own.create("job", "runs", command=("sh", "-c", "printf '%09000dend' 0; exit 3"))
    status = await own.until("job", lambda status: status.condition is not None)
    assert status.ordinals[0].last_lines == ("0" * 2045 + "end",)


async def test_secrets_reach_the_worker_and_nobody_else(own):
    spec = own.spec("job", "runs", command=("sh", "-c", "test $KAFKA_PASSWORD = hunter2"))
    assert "hunter2" not in repr(await own.launcher.create(spec))
    assert (await own.until("job", lambda status: status.condition is not None)).condition == "complete"
