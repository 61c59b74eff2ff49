"""Kafka or the store is away for a while, or its disk is full: everybody waits and says so, and nothing is lost.

STREAMFORGE_ABSENCE_S says for how long (seconds, 5 unless set).
"""

import asyncio
import contextlib
import json
import os
import sys
import time

import httpx
import pytest

from streamforge_local.paths import repository_root
from streamforge_local.scenario import until
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.log import TopicTail
from streamforge_utils.settings import KafkaSettings, read_settings

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(300)]

AWAY_S = float(os.environ.get("STREAMFORGE_ABSENCE_S") or 5)
CANDLES, RATE = 14_400, 3_600
STEPS = ("loader-candles", "candle-indicators", "arango-candles")
SAID_WITHIN_S = 10.0


@contextlib.asynccontextmanager
async def for_a_while():
    """What is away stays away for the whole time, however soon the block's own checks are done."""
    began = time.monotonic()
    yield
    await asyncio.sleep(max(0.0, AWAY_S - (time.monotonic() - began)))


async def _half_way(live, made_file, request_of, collection):
    body = request_of(made_file, template="candles-with-indicators", collection=collection, rate=RATE)
    queue_id = (await live.submit(body))["queue_id"]
    workers = [await live.worker(queue_id, step) for step in STEPS]

    async def look():
        return await live.committed(workers[-1]) > CANDLES // 10

    await until(look, "a tenth is stored")
    assert (await live.get(queue_id))["state"] == "running"
    return queue_id, workers


async def _is_whole(live, queue_id, collection):
    """Finished, in the first launch and without a death, with the documents of a run that nothing disturbed."""
    workflow = await live.ended(queue_id)
    assert workflow["state"] == "finished", workflow
    for step in workflow["steps"]:
        assert step["records_read"] == step["stored"] == CANDLES, step
        assert (step["launch"], step["restarts"]) == (1, 0), step
    documents = await live.documents(collection)
    assert len(documents) == CANDLES
    return documents


async def _says_unready(live, address, word, *, within_s=SAID_WITHIN_S):
    """Readiness is refused, for a reason that has the word in it; the reasons."""

    async def look():
        status, body = await live.readiness(address)
        reasons = "; ".join(c["reason"] for c in body["conditions"].values() if not c["ok"])
        return reasons if status == 503 and word in reasons.lower() else None

    return await until(look, f"{address} says that it is not ready ({word})", timeout_s=within_s)


async def _is_ready(live, address):
    async def look():
        return (await live.readiness(address))[0] == 200

    await until(look, f"{address} is ready again", timeout_s=30)


async def _told(live, queue_id, since):
    """The messages that workers of a workflow sent since a moment."""
    settings = read_settings(KafkaSettings, bootstrap_servers=live.variables["KAFKA_BOOTSTRAP_SERVERS"])
    tail = TopicTail(settings, "queue-events", {})
    found = []
    try:
        await tail.open()
        while any(tail.positions[partition] < end for partition, end in tail.ends.items()):
            found += [value for _, _, value in await tail.read(0.2) if value and queue_id.encode() in value]
    finally:
        await tail.close()
    events = [json.loads(value) for value in found]
    return [event for event in events if event["queue_id"] == queue_id and event["timestamp"] >= since]


def manager(live):
    return live.variables["QUEUE_MANAGER_URL"].removeprefix("http://")


async def test_kafka_away_is_waited_out(live, made_file, request_of):
    queue_id, workers = await _half_way(live, made_file, request_of, "kafka_away")
    async with live.away("kafka"), for_a_while():
        accepted = await live.submit(request_of(made_file, collection="accepted_without_kafka"))

        async def reason():
            why = (await live.get(accepted["queue_id"]))["reason"]
            return why if why and why["code"] == "broker-unreachable" else None

        unready = (*(worker.address for worker in workers), manager(live))
        await asyncio.gather(*(_says_unready(live, address, "kafka") for address in unready))
        assert (await until(reason, "the workflow says what it waits for", timeout_s=20))["message"]
        assert (await live.get(accepted["queue_id"]))["state"] == "pending"
    for worker in workers[1:]:
        with contextlib.suppress(httpx.HTTPError):  # it may have ended already
            await live.readiness(worker.address)
    await _is_whole(live, queue_id, "kafka_away")
    await _is_ready(live, manager(live))
    assert (await live.ended(accepted["queue_id"]))["state"] == "finished"
    assert await live.count("accepted_without_kafka") == CANDLES
    for step in STEPS:
        lines = [json.loads(item["line"]) for item in (await live.get(f"{queue_id}/logs?step={step}"))["items"]]
        waits = [line for line in lines if line["event"] in ("waiting", "commands_wait")]
        assert waits, step
        assert all("kafka" in str(line).lower() and line["level"] == "warning" for line in waits), waits


async def test_the_store_away_is_waited_out(live, made_file, request_of):
    queue_id, workers = await _half_way(live, made_file, request_of, "store_away")
    began = time.time()
    async with live.away("arango"), for_a_while():
        await _says_unready(live, workers[-1].address, "sink")
        await _says_unready(live, manager(live), "arango")
        refused = await live.api.get(f"/api/v1/workflows/{queue_id}")
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        for worker in workers[:2]:
            with contextlib.suppress(httpx.ConnectError):  # it needs no store, and may have finished without it
                assert (await live.readiness(worker.address))[0] == 200
    await _is_whole(live, queue_id, "store_away")
    await _is_ready(live, manager(live))
    waits = [event["payload"].get("waiting") for event in await _told(live, queue_id, began) if "event" in event]
    assert any(waiting and waiting["part"] == "sink" for waiting in waits)


async def test_a_full_disk_is_waited_out(live, made_file, request_of):
    queue_id, workers = await _half_way(live, made_file, request_of, "disk_full")
    login = (live.variables["ARANGO_USER"], live.variables["ARANGO_PASSWORD"])
    began = time.time()
    async with httpx.AsyncClient(base_url=live.variables["ARANGO_URL"], auth=login) as store:
        (await store.put("/_local/max_pages", json={"max_pages": 1})).raise_for_status()
        try:
            async with for_a_while():
                reasons = await _says_unready(live, workers[-1].address, "sink")
                assert "full" in reasons, reasons
                assert 0 < await live.count("disk_full") < CANDLES
        finally:
            (await store.put("/_local/max_pages", json={"max_pages": 0})).raise_for_status()
    await _is_whole(live, queue_id, "disk_full")
    waits = [event["payload"].get("waiting") for event in await _told(live, queue_id, began) if "event" in event]
    assert any(waiting and waiting["part"] == "sink" for waiting in waits)


@contextlib.asynccontextmanager
async def _started(live, module, **variables):
    """A process started by hand, and its log lines as they come; it is killed when it is still there at the end."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        env={**environment, **live.variables, **variables},
        cwd=repository_root(),
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    lines = []

    async def read():
        while line := await process.stderr.readline():
            lines.append(line.decode())

    reading = asyncio.create_task(read())
    try:
        yield process, lines
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


async def _says(lines, *words):
    async def look():
        return next((line for line in lines if all(word in line for word in words)), None)

    return json.loads(await until(look, f"a log line with {words}", timeout_s=SAID_WITHIN_S))


async def test_a_worker_started_without_kafka_says_so_and_goes_on_when_it_comes(live):
    topic, address = "wf-by-hand-data", live.variables["KAFKA_BOOTSTRAP_SERVERS"]
    admin = KafkaAdmin(read_settings(KafkaSettings, bootstrap_servers=address))
    await admin.create_topics([TopicSpec(topic, 1)])
    await admin.close()
    variables = {
        "QUEUE_ID": "wf-by-hand",
        "SYMBOL": "BTCUSDT",
        "TYPE": "api_candles_1m",
        "TIME_RANGE": "2025-08-01:2025-08-02",
        "STREAMS": json.dumps({"writes": {"data": topic}}),
        "PARAMS": json.dumps({"source": "simulated"}),
        "METRICS_PORT": "0",
    }
    async with contextlib.AsyncExitStack() as stack:
        async with live.away("kafka"):
            process, lines = await stack.enter_async_context(_started(live, "loader_candles", **variables))
            assert (await _says(lines, "waiting", address))["level"] in ("warning", "error")

            async def listens():
                return next(iter(live.addresses_of(process.pid)), None)

            await _says_unready(live, await until(listens, "the worker listens"), "kafka")
            assert process.returncode is None
        assert await asyncio.wait_for(process.wait(), 30) == 0
        await _says(lines, "goes_on", "kafka")
    events = [event for event in await _told(live, "wf-by-hand", 0) if event["event"] in ("started", "finished")]
    assert [event["event"] for event in events] == ["started", "finished"]
    assert events[-1]["payload"]["counters"]["stored"] == 1440


async def test_a_queue_manager_started_without_kafka_says_so_and_goes_on_when_it_comes(live):
    variables = {"PORT": "0", "NODE_SOCKET": str(live.home.node_socket), "DATA_ROOTS": "/"}
    async with contextlib.AsyncExitStack() as stack:
        async with live.away("kafka"):
            process, lines = await stack.enter_async_context(_started(live, "queue_manager", **variables))
            listening = await _says(lines, "listening", "port")
            address = f"127.0.0.1:{listening['port']}"
            await _says_unready(live, address, "kafka")
            told = await _says(lines, "not_ready", "kafka")
            assert live.variables["KAFKA_BOOTSTRAP_SERVERS"] in told["waits_for"]["kafka"]
            assert process.returncode is None
        await _is_ready(live, address)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
