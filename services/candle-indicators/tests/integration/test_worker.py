"""The worker as a process on real Kafka, killed while candles pass."""

import asyncio
import os
import random
import subprocess
import sys
from typing import Any

import pytest

from candle_indicators.enrichment import EnrichCandles
from candle_indicators.params import IndicatorParams
from streamforge_utils import codec
from streamforge_utils.contracts import names
from streamforge_utils.contracts.commands import Command, Drain
from streamforge_utils.contracts.events import Event, from_json
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.stream import StreamReader
from streamforge_utils.kafka.transactor import Transactor
from streamforge_utils.kafka.transport import KafkaClientTransport
from streamforge_utils.pipeline import Batch
from streamforge_utils.pipeline.ports import Output
from streamforge_utils.settings import KafkaSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MINUTE = 60_000
ROUNDS, PER_ROUND = 5, 600


def candles(count: int) -> list[dict[str, Any]]:
    draw, close, made = random.Random(3), 50_000.0, []
    for minute in range(count):
        start, close = close, round(close * (1 + draw.gauss(0, 0.001)), 2)
        open_time = 1_722_470_400_000 + minute * MINUTE
        made.append(
            {
                "_key": str(open_time),
                "symbol": "BTCUSDT",
                "interval": "1m",
                "open_time": open_time,
                "close_time": open_time + MINUTE - 1,
                "open": start,
                "high": round(max(start, close) + draw.random(), 2),
                "low": round(min(start, close) - draw.random(), 2),
                "close": close,
                "volume": round(draw.random() * 10, 5),
                "quote_volume": 1.0,
                "trades": 7,
                "taker_buy_volume": 0.5,
                "taker_buy_quote_volume": 0.5,
            }
        )
    del made[700:703]  # a gap
    made.insert(900, made[899])  # a duplicate
    made.insert(1000, made[1000] | {"symbol": "ETHUSDT"})
    return made


class Worker:
    """The service's process, started again after a kill as its Job does."""

    def __init__(self, environment: dict[str, str], log: Any) -> None:
        self._environment = {**os.environ, **environment}
        self._log = log
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "candle_indicators"]
        self.process = subprocess.Popen(command, env=self._environment, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


async def values_of(settings: KafkaSettings, topic: str, end: int) -> list[bytes | None]:
    reader = StreamReader(settings)
    await reader.start({(topic, 0): -1})
    values: list[bytes | None] = []
    try:
        while await reader.position((topic, 0)) < end:
            fetched = asyncio.ensure_future(reader.fetch(max_records=5000, max_bytes=10**7, linger_s=0.01))
            await asyncio.wait({fetched}, timeout=0.5)  # the tail may be markers alone, and then nothing comes
            if not fetched.done():
                fetched.cancel()
                await asyncio.wait({fetched})
                continue
            values += [record.value for records in fetched.result().values() for record in records]
    finally:
        await reader.close()
    return values


async def last_event(client: KafkaClientTransport, queue: str) -> Event:
    async for value in client.events():
        event = from_json(value)
        if isinstance(event, Event) and event.queue_id == queue and event.finished:
            return event
    raise AssertionError("the events have ended")


async def test_after_any_kill_the_enriched_candles_are_those_of_an_uninterrupted_run(kafka, tmp_path):
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    queue = f"wf-indicators-{names.short_id()}"
    read, written, dead = (names.stream_topic(queue, stream) for stream in ("data", "enriched", "refused"))
    admin = KafkaAdmin(settings)
    client = KafkaClientTransport(settings, control_topic="queue-control", events_topic="queue-events")
    writer = Transactor(settings, transactional_id=f"fill-{queue}", former=(), group=queue, admin=admin)
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "QUEUE_ID": queue,
        "SYMBOL": "BTCUSDT",
        "TYPE": "api_candles_1m",
        "METRICS_PORT": "0",
        "STREAMS": codec.encode({"reads": {"data": read}, "writes": {"enriched": written}}).decode(),
        "DEAD_LETTER_TOPIC": dead,
        "QUEUE_CONTROL_OFFSETS": '{"0": 0}',
    }
    draw, given = random.Random(11), candles(ROUNDS * PER_ROUND)
    await admin.create_topics([TopicSpec(topic, 1) for topic in (read, written, dead)])
    await client.open()
    await writer.start()
    with (tmp_path / "log").open("ab") as log:
        worker = Worker(environment, log)
        try:
            kept = 0
            for start in range(0, len(given), PER_ROUND):
                part = given[start : start + PER_ROUND]
                await writer.commit([Output(read, c["_key"].encode(), codec.encode(c), (), 0) for c in part], {})
                before = (await admin.end_offsets([(written, 0)]))[written, 0]
                async with asyncio.timeout(20):  # it lives and commits; then it dies at a drawn point
                    while (now := (await admin.end_offsets([(written, 0)]))[written, 0]) == before:
                        await asyncio.sleep(0.01)
                kept = now
                await asyncio.sleep(draw.uniform(0, 0.05))
                worker.kill()
                worker.start()
            assert kept > 0
            end = (await admin.end_offsets([(read, 0)]))[read, 0]
            drain = Drain(drain_id=1, launch=1, ends={read: {0: end}})
            await client.send(Command(command="drain", queue_id=queue, payload=drain.model_dump()))
            async with asyncio.timeout(30):
                event = await last_event(client, queue)
            assert await asyncio.to_thread(worker.process.wait, 20) == 0
        finally:
            worker.kill()
            await writer.close()
            await client.close()
    got = await values_of(settings, written, (await admin.end_offsets([(written, 0)]))[written, 0])
    refused = await values_of(settings, dead, (await admin.end_offsets([(dead, 0)]))[dead, 0])
    await admin.close()

    whole = EnrichCandles(IndicatorParams(), symbol="BTCUSDT", interval="1m", report=lambda *_, **__: None)
    assert got == [codec.encode(value) for value in whole.process(Batch.of(given)).values]
    assert refused == [codec.encode(next(c for c in given if c["symbol"] == "ETHUSDT"))]
    counters = event.counters
    assert counters is not None
    assert counters.model_dump() == {
        "read": len(given),
        "stored": len(given) - 2,
        "dead_lettered": 1,
        "dropped": {"duplicate": 1},
        "written": len(given) - 2,
    }
