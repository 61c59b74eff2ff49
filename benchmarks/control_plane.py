"""The queue-manager's figures: submit to user code, bursts, accepted submits, pings, lists, memory."""

import asyncio
import functools
import multiprocessing
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import httpx
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.figures import Figure, percentile
from benchmarks.http_caller import Caller
from benchmarks.stack import TERMINAL, Bench, dummy, pss_bytes, submit
from streamforge_utils.arango import ArangoClient
from streamforge_utils.contracts import names
from streamforge_utils.contracts.events import Decision, DecisionName, Event, EventName, from_json
from streamforge_utils.control import ControlClient
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.transport import KafkaClientTransport

SINGLES = 100
BURST = 40
WARM_UP_SECONDS, SUBMIT_SECONDS = 3.0, 6.0
SUBMITTERS = 4
PING_ROUNDS, PINGS = 4, 50
PAUSE_S = 0.02
"""Between two pings: a round trip is measured, not how many of them there can be."""
PLACES = 1
"""MAX_RUNNING of the stack on which submits are measured."""
FINISHED = 1000


async def until_ended(
    client: httpx.AsyncClient, queue_ids: list[str], states: tuple[str, ...] = TERMINAL, *, every_s: float = 0.02
) -> None:
    """Wait until all of them are in one of the states; anything but finished or running is an error."""
    waiting = set(queue_ids)
    while waiting:
        for queue_id in sorted(waiting):
            state = (await client.get(f"/workflows/{queue_id}")).json()["state"]
            if state in ("failed", "interrupted"):
                raise RuntimeError(f"{queue_id} is {state}")
            if state in states:
                waiting.discard(queue_id)
        await asyncio.sleep(every_s)


async def starts(bench: Bench) -> tuple[list[float], float]:
    """Seconds from the POST to the worker's own clock in ``started``, one at a time; and of a burst to its end."""
    transport = KafkaClientTransport(bench.kafka, control_topic="queue-control", events_topic="queue-events")
    await transport.open()
    events = transport.events()
    taken = []
    async with bench.client() as client:
        for number in range(SINGLES + 3):
            began = time.time()
            queue_id = await submit(client, dummy())
            async with asyncio.timeout(60):
                async for value in events:
                    event = from_json(value)
                    if isinstance(event, Event) and event.queue_id == queue_id and event.event is EventName.STARTED:
                        break
            if number >= 3:  # the first few are cold
                taken.append(event.timestamp - began)
            await until_ended(client, [queue_id])
        began = time.perf_counter()
        queue_ids = await asyncio.gather(*(submit(client, dummy()) for _ in range(BURST)))
        await _all_told_ended(events, set(queue_ids))
        burst = time.perf_counter() - began
        await until_ended(client, list(queue_ids))
    await transport.close()
    return taken, burst


async def _all_told_ended(events: AsyncIterator[bytes | None], queue_ids: set[str]) -> None:
    """Told by the topic: asking the API again and again would be a load of its own."""
    async with asyncio.timeout(60):
        while queue_ids:
            event = from_json(await anext(events))
            if isinstance(event, Decision) and event.decision is DecisionName.ENDED:
                queue_ids.discard(event.queue_id)


def start_figures(bench: Bench) -> list[Figure]:
    """Both beside what forking, connecting and one event cost alone."""
    topic = f"bench-{names.short_id()}"

    async def make_topic() -> None:
        admin = KafkaAdmin(bench.kafka)
        await admin.create_topics([TopicSpec(topic)])
        await admin.close()

    uvloop.run(make_topic())
    command = [sys.executable, "-m", "benchmarks.bare_worker", bench.kafka.bootstrap_servers, topic, "30", str(BURST)]
    floor = orjson.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    taken, burst = uvloop.run(starts(bench))
    p50, p99 = percentile(taken, 0.5), percentile(taken, 0.99)
    singles = floor["singles"]
    return [
        Figure(
            "submit -> user code, one at a time",
            f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms",
            f"p50 {percentile(singles, 0.5) * 1000:.0f} ms, p99 {percentile(singles, 0.99) * 1000:.0f} ms",
            "p50 < 100 ms, p99 < 300 ms",
            p50 < 0.1 and p99 < 0.3,
        ),
        Figure(
            f"burst of {BURST} workflows to their end", f"{burst:.2f} s", f"{floor['burst']:.2f} s", "< 2 s", burst < 2
        ),
    ]


async def _loaded(calls: Sequence[Callable[[], Awaitable[object]]]) -> tuple[float, list[float]]:
    """Calls per second and each one's seconds, when all call at once; the first seconds warm up."""
    latencies: list[float] = []
    begin = time.perf_counter() + WARM_UP_SECONDS
    until = begin + SUBMIT_SECONDS

    async def repeat(call: Callable[[], Awaitable[object]]) -> None:
        while (began := time.perf_counter()) < until:
            await call()
            if began >= begin:
                latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(repeat(call) for call in calls))
    return len(latencies) / SUBMIT_SECONDS, latencies


async def _accepted(caller: Caller) -> None:
    status = await caller.post("/api/v1/workflows", orjson.dumps(dummy()))
    if status != httpx.codes.ACCEPTED:
        raise RuntimeError(f"POST /workflows: {status}")


async def _submits(bench: Bench) -> Figure:
    store = ArangoClient(bench.arango, threads=SUBMITTERS)
    await store.open()
    await store.ensure_collection("bench_floor")
    async with bench.client() as client:
        # Places are taken by workflows that go on, so that accepted ones wait.
        holders = [await submit(client, dummy(records=None, rate=1.0)) for _ in range(PLACES)]
        await until_ended(client, holders, ("running",))
        stored = orjson.dumps(dummy()).decode() * 20

        async def insert() -> None:
            await store.insert("bench_floor", {"_key": names.short_id() + names.short_id(), "body": stored})

        floor_rate, floor = await _loaded([insert] * SUBMITTERS)
        callers = [await Caller.open(bench.url) for _ in range(SUBMITTERS)]
        rate, latencies = await _loaded([functools.partial(_accepted, caller) for caller in callers])
        await asyncio.gather(*(caller.close() for caller in callers))
        waiting = []
        cursor = None
        while True:
            page = (
                await client.get(
                    "/workflows", params={"state": "pending", "limit": 500, **({"cursor": cursor} if cursor else {})}
                )
            ).json()
            waiting += [item["queue_id"] for item in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        for queue_id in (*waiting, *holders):
            await client.post(f"/workflows/{queue_id}/stop")
    await store.close()
    p99 = percentile(latencies, 0.99)
    return Figure(
        "submits accepted, launches held back",
        f"{rate:.0f}/s, p99 {p99 * 1000:.0f} ms",
        f"{floor_rate:.0f} inserts/s, p99 {percentile(floor, 0.99) * 1000:.0f} ms",
        "> 200/s, p99 < 50 ms",
        rate > 200 and p99 < 0.05,
    )


def submit_figures(bench: Bench) -> list[Figure]:
    """Of a stack with MAX_RUNNING=1."""
    return [uvloop.run(_submits(bench))]


def _echo(servers: str, commands: str, replies: str, ready: Any) -> None:
    async def run() -> None:
        tp = TopicPartition(commands, 0)
        consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False)
        producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
        await consumer.start()
        await producer.start()
        consumer.assign([tp])
        await consumer.seek_to_end(tp)
        ready.set()
        async for record in consumer:
            await producer.send_and_wait(replies, record.value, key=record.key)

    uvloop.run(run())


async def _bare_pings(servers: str, commands: str, replies: str) -> list[float]:
    tp = TopicPartition(replies, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False)
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await consumer.start()
    await producer.start()
    consumer.assign([tp])
    await consumer.seek_to_end(tp)
    trips = []
    for number in range(PINGS):
        await asyncio.sleep(PAUSE_S)
        began = time.perf_counter()
        await producer.send_and_wait(commands, b"%d" % number, key=b"bench")
        await consumer.getone()
        trips.append(time.perf_counter() - began)
    await consumer.stop()
    await producer.stop()
    return trips


async def _our_pings(bench: Bench) -> list[float]:
    async with bench.client() as client:
        queue_id = await submit(client, dummy(records=None, rate=0.01))
        await until_ended(client, [queue_id], ("running",))
        transport = KafkaClientTransport(bench.kafka, control_topic="queue-control", events_topic="queue-events")
        trips = []
        async with ControlClient(transport) as control:
            for _ in range(PINGS):
                await asyncio.sleep(PAUSE_S)
                trips += [pong.round_trip_s for pong in await control.ping(queue_id)]
        await client.post(f"/workflows/{queue_id}/stop")
    if len(trips) != PINGS:
        raise RuntimeError(f"{len(trips)} pongs to {PINGS} pings")
    return trips


def ping_figures(bench: Bench) -> list[Figure]:
    """Beside a bare command and reply over two topics like ours."""
    commands, replies = f"bench-commands-{names.short_id()}", f"bench-replies-{names.short_id()}"
    servers = bench.kafka.bootstrap_servers

    async def make_topics() -> None:
        admin = KafkaAdmin(bench.kafka)
        await admin.create_topics([TopicSpec(commands), TopicSpec(replies)])
        await admin.close()

    uvloop.run(make_topics())
    ready = multiprocessing.Event()
    echo = multiprocessing.Process(target=_echo, args=(servers, commands, replies, ready), daemon=True)
    echo.start()
    ready.wait(30)
    bare_trips: list[float] = []
    our_trips: list[float] = []
    for _ in range(PING_ROUNDS):  # in turn: a machine is not as fast at every moment
        bare_trips += uvloop.run(_bare_pings(servers, commands, replies))
        our_trips += uvloop.run(_our_pings(bench))
    echo.kill()
    bare, ours = percentile(bare_trips, 0.5), percentile(our_trips, 0.5)
    value = f"p50 {ours * 1000:.1f} ms ({ours / bare:.2f}x)"
    return [Figure("ping -> pong", value, f"p50 {bare * 1000:.1f} ms", "<= 1.5x", ours <= 1.5 * bare)]


async def _reads(bench: Bench) -> tuple[list[float], list[float], float]:
    async with bench.client() as client:
        missing = FINISHED
        while missing > 0:
            batch = [await submit(client, dummy()) for _ in range(min(100, missing))]
            await until_ended(client, batch)
            missing -= len(batch)
        floor_began = time.perf_counter()
        for _ in range(50):
            await client.get(f"{bench.url}/health/live")
        floor = (time.perf_counter() - floor_began) / 50
        lists, details = [], []
        for _ in range(50):
            began = time.perf_counter()
            items = (await client.get("/workflows", params={"state": "finished"})).json()["items"]
            lists.append(time.perf_counter() - began)
            assert len(items) == 50
            began = time.perf_counter()
            await client.get(f"/workflows/{items[25]['queue_id']}")
            details.append(time.perf_counter() - began)
    return lists, details, floor


def read_figures(bench: Bench) -> list[Figure]:
    """Lists and details when 1,000 workflows have finished, then the memory of those who did it."""
    lists, details, floor = uvloop.run(_reads(bench))
    pids = bench.pids()
    memory = pss_bytes([*pids["queue-manager"], *pids["node"]])
    worst = max(percentile(lists, 0.99), percentile(details, 0.99))
    return [
        Figure(
            f"{FINISHED:,} finished workflows: list of 50, detail",
            f"p50 {percentile(lists, 0.5) * 1000:.1f} and {percentile(details, 0.5) * 1000:.1f} ms, "
            f"worst p99 {worst * 1000:.0f} ms",
            f"{floor * 1000:.1f} ms (an empty answer)",
            "< 50 ms",
            worst < 0.05,
        ),
        Figure("memory of queue-manager and node (PSS)", f"{memory / 1e6:.0f} MB", "", "< 150 MB", memory < 150e6),
    ]
