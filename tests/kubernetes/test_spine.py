"""Real workers in real pods, and what a cluster does to them. The tests of tests/e2e run on such pods, too."""

import asyncio
import os
import signal
import time

import pytest

from streamforge_local.scenario import until

STEPS = ("loader-candles", "candle-indicators", "arango-candles")
CANDLES = 14_400
ODD = {"symbol": "BTCUSDT", "type": "api_candles_1m", "time_range": "2024-08-01:2024-08-02"}


async def _half_way(live, queue_id, collection):
    async def look():
        return await live.count(collection) > CANDLES // 10

    await until(look, "a tenth of the candles is stored")


async def _pod(live, queue_id, step):
    for job in await live.jobs(queue_id):
        for pod in job["pods"] if job["labels"]["step"] == step else ():
            if pod["status"].get("phase") == "Running":
                return pod["metadata"]
    raise AssertionError(f"no pod of {step} runs")


async def _clean_run(live, made_file, request_of):
    if not await live.count("clean"):
        body = request_of(made_file, template="candles-with-indicators", collection="clean")
        assert (await live.ended((await live.submit(body))["queue_id"]))["state"] == "finished"
    return await live.documents("clean")


@pytest.mark.parametrize("victim", STEPS)
async def test_an_evicted_worker_goes_on_elsewhere_and_each_candle_is_stored_once(
    live, told, made_file, request_of, victim
):
    clean = await _clean_run(live, made_file, request_of)
    collection = f"evicted_{victim.replace('-', '_')}"
    body = request_of(made_file, template="candles-with-indicators", collection=collection, rate=4000)
    queue_id = (await live.submit(body))["queue_id"]
    await _half_way(live, queue_id, collection)
    pod = await _pod(live, queue_id, victim)
    path = f"/api/v1/namespaces/{live.namespace}/pods/{pod['name']}/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod["name"]}}
    began = time.monotonic()
    await asyncio.to_thread(live.cluster.api.post, path, body)
    workflow = await live.ended(queue_id)
    told(f"eviction of a real {victim}", began, workflow["state"])
    assert workflow["state"] == "finished", workflow
    assert [(step["launch"], step["restarts"]) for step in workflow["steps"]] == [(1, 0)] * 3
    assert [(step["records_read"], step["stored"]) for step in workflow["steps"]] == [(CANDLES, CANDLES)] * 3
    assert await live.documents(collection) == clean


async def test_a_queue_manager_killed_while_pods_run_launches_nothing_again(live, made_file, request_of):
    clean = await _clean_run(live, made_file, request_of)
    body = request_of(made_file, template="candles-with-indicators", collection="manager_killed", rate=4000)
    queue_id = (await live.submit(body))["queue_id"]
    await _half_way(live, queue_id, "manager_killed")
    jobs = {job["name"] for job in await live.jobs(queue_id)}
    os.kill(await live.pid("queue-manager"), signal.SIGKILL)
    workflow = await live.ended(queue_id)
    assert workflow["state"] == "finished", workflow
    assert [(step["launch"], step["restarts"]) for step in workflow["steps"]] == [(1, 0)] * 3
    assert {job["name"] for job in await live.jobs(queue_id)} == jobs
    assert await live.documents("manager_killed") == clean


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
