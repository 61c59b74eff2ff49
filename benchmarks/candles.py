"""Candles a second from the loader into the store, through the whole platform, beside a bare pair of processes."""

from datetime import datetime

import uvloop

from benchmarks import bare_candles
from benchmarks.control_plane import until_ended
from benchmarks.figures import Figure
from benchmarks.stack import Bench, submit
from streamforge_utils.contracts import names
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.settings import WorkerSettings, read_settings

RANGE = "2023-01-01:2024-02-05"
CANDLES = 400 * 1440
TARGET_SHARE = 0.8
ROUNDS = 2


async def _ours(bench: Bench, store: str) -> float:
    """Candles per second between the workflow's start and its end, by its own times: the launch is another figure."""
    body = {
        "symbol": "BTCUSDT",
        "type": "api_candles_1m",
        "time_range": RANGE,
        "collection": f"bench_{names.short_id()}",
        "steps": [{"target": "loader-candles", "params": {"source": "simulated"}}, {"target": store}],
    }
    async with bench.client() as client:
        queue_id = await submit(client, body)
        await until_ended(client, [queue_id], every_s=0.5)  # its own times are taken: asking is load alone
        workflow = (await client.get(f"/workflows/{queue_id}")).json()
    began, ended = (datetime.fromisoformat(workflow[name]) for name in ("started_at", "ended_at"))
    steps = workflow["steps"]
    if [step["records_read"] for step in steps] != [CANDLES, CANDLES]:
        raise RuntimeError(f"{queue_id}: {[step['records_read'] for step in steps]} of {CANDLES} records")
    return CANDLES / (ended - began).total_seconds()


async def _topic(bench: Bench) -> str:
    topic = f"bench-{names.short_id()}"
    admin = KafkaAdmin(bench.kafka)
    await admin.create_topics([TopicSpec(topic)])
    await admin.close()
    return topic


def measure(bench: Bench) -> list[Figure]:
    """With the store, and with a sink that keeps nothing; the best of some rounds, in turn with the bare pair."""
    settings = read_settings(WorkerSettings, symbol="BTCUSDT", type="api_candles_1m", time_range=RANGE)
    figures = []
    for name, store in (("loader -> store", "arango-candles"), ("loader -> null store", "null-candles")):
        bare = ours = 0.0
        for _ in range(ROUNDS):
            topic = uvloop.run(_topic(bench))
            collection = None if store == "null-candles" else f"bench_{names.short_id()}"
            where = (bench.arango, collection, CANDLES)
            bare = max(bare, bare_candles.rate(bench.kafka.bootstrap_servers, topic, settings, where))
            ours = max(ours, uvloop.run(_ours(bench, store)))
        figures.append(
            Figure(
                f"{name}, {CANDLES:,} candles",
                f"{ours:,.0f} candles/s ({ours / bare:.2f}x)",
                f"{bare:,.0f} candles/s",
                f">= {TARGET_SHARE}x",
                ours >= TARGET_SHARE * bare,
            )
        )
    return figures
