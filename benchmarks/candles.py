"""Candles a second from the loader into the store, through the whole platform, beside a bare pair of processes."""

import time

import uvloop

from benchmarks import bare_candles
from benchmarks.control_plane import until_ended
from benchmarks.figures import Figure
from benchmarks.stack import Bench, submit
from streamforge_utils.contracts import names
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.settings import WorkerSettings, read_settings

RANGE = "2023-01-01:2023-07-20"
CANDLES = 200 * 1440
TARGET_SHARE = 0.8


async def _ours(bench: Bench, store: str) -> float:
    """Seconds between the first `started` and the end, by the workflow's own times: the launch is another figure."""
    body = {
        "symbol": "BTCUSDT",
        "type": "api_candles_1m",
        "time_range": RANGE,
        "collection": f"bench_{names.short_id()}",
        "steps": [{"target": "loader-candles", "params": {"source": "simulated"}}, {"target": store}],
    }
    began = time.perf_counter()
    async with bench.client() as client:
        queue_id = await submit(client, body)
        await until_ended(client, [queue_id])
        seconds = time.perf_counter() - began
        steps = (await client.get(f"/workflows/{queue_id}")).json()["steps"]
    if [step["records_read"] for step in steps] != [CANDLES, CANDLES]:
        raise RuntimeError(f"{queue_id}: {[step['records_read'] for step in steps]} of {CANDLES} records")
    return CANDLES / seconds


async def _topic(bench: Bench) -> str:
    topic = f"bench-{names.short_id()}"
    admin = KafkaAdmin(bench.kafka)
    await admin.create_topics([TopicSpec(topic)])
    await admin.close()
    return topic


def measure(bench: Bench) -> list[Figure]:
    """With the store, and with a sink that keeps nothing. Both sides count from the submit or the spawn on."""
    settings = read_settings(WorkerSettings, symbol="BTCUSDT", type="api_candles_1m", time_range=RANGE)
    figures = []
    for name, store, collection in (
        ("loader -> store", "arango-candles", f"bench_{names.short_id()}"),
        ("loader -> null store", "null-candles", None),
    ):
        topic = uvloop.run(_topic(bench))
        servers = bench.kafka.bootstrap_servers
        bare = bare_candles.rate(servers, topic, settings, (bench.arango, collection), CANDLES)
        ours = uvloop.run(_ours(bench, store))
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
