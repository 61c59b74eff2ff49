"""Real workers in real pods, and what a cluster does to them. The tests of tests/e2e run on such pods, too."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from streamforge_local.scenario import until

STEPS = ("loader-candles", "candle-indicators", "arango-candles")
CANDLES = 14_400
ODD = {"symbol": "BTCUSDT", "type": "api_candles_1m", "time_range": "2024-08-01:2024-08-02"}


async def _pod(live, queue_id, step):
    for job in await live.jobs(queue_id):
        for pod in job["pods"] if job["labels"]["step"] == step else ():
            if pod["status"].get("phase") == "Running":
                return pod
    raise AssertionError(f"no pod of {step} runs")


async def _clean_run(live, made_file, request_of):
    if not await live.count("clean"):
        body = request_of(made_file, template="candles-with-indicators", collection="clean")
        assert (await live.ended((await live.submit(body))["queue_id"]))["state"] == "finished"
    return await live.documents("clean")


async def _under_way(live, made_file, request_of, collection):
    """A workflow of which a tenth of the candles is stored, and what it will have stored in the end."""
    clean = await _clean_run(live, made_file, request_of)
    body = request_of(made_file, template="candles-with-indicators", collection=collection, rate=4000)
    queue_id = (await live.submit(body))["queue_id"]

    async def look():
        return await live.count(collection) > CANDLES // 10

    await until(look, "a tenth of the candles is stored")
    return queue_id, clean


@pytest.mark.parametrize("victim", STEPS)
async def test_an_evicted_worker_goes_on_elsewhere_and_each_candle_is_stored_once(
    live, told, made_file, request_of, victim
):
    collection = f"evicted_{victim.replace('-', '_')}"
    queue_id, clean = await _under_way(live, made_file, request_of, collection)
    name = (await _pod(live, queue_id, victim))["metadata"]["name"]
    path = f"/api/v1/namespaces/{live.namespace}/pods/{name}/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    began = time.monotonic()
    await asyncio.to_thread(live.cluster.api.post, path, body)
    workflow = await live.ended(queue_id)
    told(f"eviction of a real {victim}", began, workflow["state"])
    assert workflow["state"] == "finished", workflow
    assert [(step["launch"], step["restarts"]) for step in workflow["steps"]] == [(1, 0)] * 3
    assert [(step["records_read"], step["stored"]) for step in workflow["steps"]] == [(CANDLES, CANDLES)] * 3
    assert await live.documents(collection) == clean


async def test_a_queue_manager_killed_while_pods_run_launches_nothing_again(live, made_file, request_of):
    queue_id, clean = await _under_way(live, made_file, request_of, "manager_killed")
    jobs = {job["name"] for job in await live.jobs(queue_id)}
    os.kill(await live.pid("queue-manager"), signal.SIGKILL)
    workflow = await live.ended(queue_id)
    assert workflow["state"] == "finished", workflow
    assert [(step["launch"], step["restarts"]) for step in workflow["steps"]] == [(1, 0)] * 3
    assert {job["name"] for job in await live.jobs(queue_id)} == jobs
    assert await live.documents("manager_killed") == clean


def _processes(pod):
    """Of the worker's container: the kernel names each one's cgroup, which bears the container's id."""
    container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if container in (folder / "cgroup").read_text():
                found.append(int(folder.name))
    return found


@pytest.mark.parametrize("victim", STEPS)
async def test_a_worker_killed_together_with_the_queue_manager_stores_each_candle_once(
    live, told, made_file, request_of, victim
):
    collection = f"both_killed_{victim.replace('-', '_')}"
    queue_id, clean = await _under_way(live, made_file, request_of, collection)
    jobs = {job["name"] for job in await live.jobs(queue_id)}
    worker = _processes(await _pod(live, queue_id, victim))
    assert worker
    for process in (await live.pid("queue-manager"), *worker):
        with contextlib.suppress(ProcessLookupError):  # the first one of a container takes the others along
            os.kill(process, signal.SIGKILL)
    began = time.monotonic()
    workflow = await live.ended(queue_id)
    told(f"queue-manager and a real {victim} SIGKILL at once", began, workflow["state"])
    assert workflow["state"] == "finished", workflow
    assert {step["name"]: (step["launch"], step["restarts"]) for step in workflow["steps"]} == {
        step: (1, 1 if step == victim else 0) for step in STEPS
    }
    assert [(step["records_read"], step["stored"]) for step in workflow["steps"]] == [(CANDLES, CANDLES)] * 3
    assert {job["name"] for job in await live.jobs(queue_id)} == jobs
    assert await live.documents(collection) == clean


async def test_a_worker_that_needs_more_memory_than_it_may_have_is_told_as_such(live, told):
    began = time.monotonic()
    queue_id = (await live.submit(ODD | {"steps": [{"target": "hungry"}]}))["queue_id"]
    workflow = await live.ended(queue_id)
    reason = workflow["steps"][0]["reason"]
    told("real OOM", began, reason["message"], code=reason["code"])
    assert (workflow["state"], reason["code"]) == ("failed", "oom-killed"), workflow
    assert workflow["steps"][0]["last_exit"] == 137


async def test_a_worker_that_does_not_stop_is_ended_by_force(live, told):
    step = {"target": "stubborn", "params": {"simulate_loading": True, "slow_stop_s": 600}}
    queue_id = (await live.submit(ODD | {"steps": [step]}))["queue_id"]

    async def runs():
        return (await live.get(queue_id))["state"] == "running"

    await until(runs, "it runs", timeout_s=60)
    began = time.monotonic()
    await live.post(f"{queue_id}/stop")
    workflow = await live.ended(queue_id)
    reason = workflow["steps"][0]["reason"]
    told("SIGTERM ignored", began, reason["message"], code=reason["code"])
    assert (workflow["state"], reason["code"]) == ("interrupted", "forced"), workflow
    assert all(job["live"] == 0 for job in await live.jobs(queue_id))
