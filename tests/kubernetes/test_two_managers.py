"""Two queue-managers of one installation on a real API server: the acting one is killed, frozen, told to end.

Whole processes with their own connections; kwok plays the pods.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from streamforge_local.scenario import until

TAKEN_OVER_WITHIN_S = 15.0
FROZEN_S = 60.0
WORKFLOWS = 20


class Second:
    """Another queue-manager with the first one's settings."""

    def __init__(self, process, log):
        self.process, self.log = process, log

    def said(self, what):
        return f'"{what}"' in self.log.read_text()


def environment_of(process):
    raw = Path(f"/proc/{process.pid}/environ").read_bytes().decode()
    return dict(entry.split("=", 1) for entry in raw.split("\0") if entry)


def start_second(environment, folder):
    log = folder / "second.log"
    with log.open("wb") as output:
        command = (sys.executable, "-m", "queue_manager")
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=folder)
    return Second(process, log)


@asynccontextmanager
async def second_manager(environment, folder):
    second = start_second(environment, folder)
    try:
        await until(lambda: asyncio.sleep(0, second.said("ready")), "the second one is ready", timeout_s=30)
        yield second
    finally:
        second.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(second.process.wait, 20)


async def lease_of(scene):
    path = f"/apis/coordination.k8s.io/v1/namespaces/{scene.namespace}/leases/streamforge-queue-manager"
    return (await scene.call("get", path))["spec"]


async def holder(scene):
    """Process id of the one that acts."""
    owner = (await lease_of(scene))["holderIdentity"]
    return int(owner.split("/")[1]) if owner else None


async def held_by(scene, process, *, within_s):
    began = time.monotonic()

    async def is_its_own():
        return await holder(scene) == process.pid

    await until(is_its_own, f"process {process.pid} acts", timeout_s=within_s)
    return time.monotonic() - began


async def counted(scene, path):
    """How many objects each workflow has there."""
    return Counter(found["metadata"]["labels"]["queue_id"] for found in (await scene.call("get", path))["items"])


async def assert_nothing_doubled(scene, workflows):
    assert await counted(scene, scene.jobs) == dict.fromkeys(workflows, 1)
    assert scene.voices.said["started"] == len(workflows)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_another_goes_on_when_the_acting_one_ends(platform, tmp_path, told, number):
    scene = await platform(exit=0, run="4s")
    async with second_manager(environment_of(scene.manager), tmp_path) as second:
        assert await holder(scene) == scene.manager.pid
        workflows = [await scene.submit() for _ in range(WORKFLOWS)]
        await asyncio.sleep(1)
        began = time.monotonic()
        scene.manager.send_signal(number)
        await held_by(scene, second.process, within_s=TAKEN_OVER_WITHIN_S)
        told(f"acting queue-manager {signal.Signals(number).name}", began, "the other acts")
        if number == signal.SIGTERM:  # the lease was given back
            assert time.monotonic() - began < 10
        async with httpx.AsyncClient(base_url=address(second), timeout=15.0) as scene.api:
            for queue_id in workflows:
                ended = await scene.ends(queue_id, within_s=60)
                assert [step["launch"] for step in ended["steps"]] == [1]
        await assert_nothing_doubled(scene, workflows)
        assert (await lease_of(scene))["leaseTransitions"] == 2


@pytest.mark.timeout(240)
async def test_one_that_was_frozen_for_a_minute_does_nothing_more(platform, tmp_path):
    scene = await platform(exit=0, run="20s")
    async with second_manager(environment_of(scene.manager), tmp_path) as second:
        workflows = [await scene.submit() for _ in range(WORKFLOWS // 2)]
        # in the middle of its work: some Jobs are there, some are about to be created
        await until(lambda: has_jobs(scene), "its first Job is there", timeout_s=20)
        scene.manager.send_signal(signal.SIGSTOP)
        frozen_at = time.monotonic()
        await held_by(scene, second.process, within_s=TAKEN_OVER_WITHIN_S)
        async with httpx.AsyncClient(base_url=address(second), timeout=15.0) as scene.api:
            workflows += [await scene.submit() for _ in range(WORKFLOWS // 2)]
            await asyncio.sleep(max(0.0, frozen_at + FROZEN_S - time.monotonic()))
            os.kill(scene.manager.pid, signal.SIGCONT)
            for queue_id in workflows:
                await scene.ends(queue_id, within_s=60)
        await assert_nothing_doubled(scene, workflows)
        assert await holder(scene) == second.process.pid
        assert '"lease_lost"' in scene.log.read_text()


@pytest.mark.parametrize("server", ["apiserver", "etcd"])
async def test_one_that_is_killed_together_with_a_server_of_the_cluster_leaves_nothing_undone_and_nothing_doubled(
    platform, own_control_plane, tmp_path, told, server
):
    scene = await platform(exit=0, run="6s")
    environment, process = environment_of(scene.manager), getattr(own_control_plane, server)
    workflows = [await scene.submit() for _ in range(WORKFLOWS)]
    # in the middle of its work: some Jobs are there, some are about to be created
    await until(lambda: has_jobs(scene), "its first Job is there", timeout_s=20)
    scene.manager.kill()
    process.kill()
    began = time.monotonic()
    starting = asyncio.create_task(asyncio.to_thread(start_again, own_control_plane))
    async with second_manager(environment, tmp_path) as second:
        await starting
        async with httpx.AsyncClient(base_url=address(second), timeout=15.0) as scene.api:
            for queue_id in workflows:
                ended = await scene.ends(queue_id, within_s=60)
                assert [(step["launch"], step["restarts"]) for step in ended["steps"]] == [(1, 0)]
        told(f"queue-manager and {server} SIGKILL at once", began, f"{WORKFLOWS} workflows finished")
        # A Job's own controller that lost the answer to its create of a pod makes another one and takes it back.
        for path in (scene.jobs, f"{scene.core}/pods"):
            assert await counted(scene, path) == dict.fromkeys(workflows, 1)


def start_again(cluster):
    cluster.start()
    cluster.wait_ready()


async def has_jobs(scene):
    return bool((await scene.call("get", scene.jobs))["items"])


def address(second):
    told = next(json.loads(line) for line in second.log.read_text().splitlines() if '"listening"' in line)
    return f"http://{told['host']}:{told['port']}"
