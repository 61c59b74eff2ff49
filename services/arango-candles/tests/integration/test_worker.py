"""The worker as two processes on real Kafka and a real store, killed while candles pass."""

import asyncio
import os
import random
import subprocess
import sys
from typing import Any

import pytest
from pydantic import SecretStr

from streamforge_utils import codec
from streamforge_utils.arango import ArangoClient
from streamforge_utils.contracts import names
from streamforge_utils.contracts.commands import Command, Drain
from streamforge_utils.contracts.events import Event, from_json
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.transactor import Transactor
from streamforge_utils.kafka.transport import KafkaClientTransport
from streamforge_utils.pipeline.ports import Output
from streamforge_utils.settings import ArangoSettings, KafkaSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

START = 1_722_470_400_000  # 2024-08-01T00:00Z
MINUTE = 60_000
COUNT = 1440
REPLICAS = 2
ALL_CANDLES = "FOR candle IN @@collection SORT candle.open_time RETURN UNSET(candle, '_id', '_rev')"


def candle(minute: int, **fields: Any) -> dict[str, Any]:
    open_time = START + minute * MINUTE
    return {
        "_key": str(open_time),
        "symbol": "BTCUSDT",
        "interval": "1m",
        "open_time": open_time,
        "close_time": open_time + MINUTE - 1,
        "open": 50_000.25 + minute,
        "high": 50_003.5 + minute,
        "low": 49_999.125 + minute,
        "close": 50_001.0625 + minute,
        "volume": 1.5,
        "quote_volume": 75_000.5,
        "trades": minute,
        "taker_buy_volume": 0.25,
        "taker_buy_quote_volume": 12_500.75,
        **fields,
    }


GOOD = [candle(minute, ema_50=None, rsi_14=minute / 7) for minute in range(COUNT)]
BAD = [
    candle(0, symbol="ETHUSDT"),
    candle(1, high=1.0),
    candle(COUNT),  # the first minute behind the range
    {"_key": "3"},
]


class Replicas:
    """The service's processes, each started again after a kill as its Job does."""

    def __init__(self, environment: dict[str, str], log: Any) -> None:
        self._environment = {**os.environ, **environment}
        self._log = log
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        for ordinal in range(REPLICAS):
            self.start(ordinal)

    def start(self, ordinal: int) -> None:
        command = [sys.executable, "-m", "arango_candles"]
        environment = {**self._environment, "ORDINAL": str(ordinal)}
        self.processes[ordinal] = subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log)

    def kill(self, ordinal: int) -> None:
        self.processes[ordinal].kill()
        self.processes[ordinal].wait()


async def last_events(client: KafkaClientTransport, queue: str) -> dict[int, Event]:
    last: dict[int, Event] = {}
    async for value in client.events():
        event = from_json(value)
        if isinstance(event, Event) and event.queue_id == queue and event.finished:
            last[event.ordinal] = event
            if len(last) == REPLICAS:
                break
    return last


@pytest.fixture
async def store(arango):
    settings = ArangoSettings(url=arango.url, db=arango.database, user=arango.user, password=SecretStr(arango.password))
    client = ArangoClient(settings)
    await client.open()
    yield client
    await client.close()


async def test_each_candle_is_stored_once_or_dead_lettered_whatever_is_killed(kafka, arango, store, tmp_path):
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    queue = f"wf-store-{names.short_id()}"
    collection = f"candles_{names.short_of(queue)}"
    read, dead = names.stream_topic(queue, "enriched"), names.dead_letter_topic(queue)
    admin = KafkaAdmin(settings)
    client = KafkaClientTransport(settings, control_topic="queue-control", events_topic="queue-events")
    writer = Transactor(settings, transactional_id=f"fill-{queue}", former=(), group=queue, admin=admin)
    environment = {
        **arango.environment,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "QUEUE_ID": queue,
        "SYMBOL": "BTCUSDT",
        "TYPE": "api_candles_1m",
        "TIME_RANGE": "2024-08-01:2024-08-02",
        "COLLECTION_NAME": collection,
        "METRICS_PORT": "0",
        "REPLICAS": str(REPLICAS),
        "STREAMS": codec.encode({"reads": {"enriched": read}, "writes": {}}).decode(),
        "DEAD_LETTER_TOPIC": dead,
        "QUEUE_CONTROL_OFFSETS": '{"0": 0}',
    }
    draw, given = random.Random(5), [*GOOD[:900], *BAD, *GOOD[900:]]
    await admin.create_topics([TopicSpec(read, REPLICAS), TopicSpec(dead, 1)])
    await client.open()
    await writer.start()
    with (tmp_path / "log").open("ab") as log:
        replicas = Replicas(environment, log)
        try:
            for start in range(0, len(given), 300):
                part = given[start : start + 300]
                outputs = [Output(read, c["_key"].encode(), codec.encode(c), (), n % 2) for n, c in enumerate(part)]
                await writer.commit(outputs, {})
                await asyncio.sleep(draw.uniform(0.2, 0.8))
                victim = draw.randrange(REPLICAS)
                replicas.kill(victim)
                if start == 600:
                    arango.kill()
                    await asyncio.sleep(0.5)
                    arango.start()
                    arango.wait_ready()
                replicas.start(victim)
            ends = await admin.end_offsets([(read, partition) for partition in range(REPLICAS)])
            drain = Drain(drain_id=1, launch=1, ends={read: {p: end for (_, p), end in ends.items()}})
            await client.send(Command(command="drain", queue_id=queue, payload=drain.model_dump()))
            async with asyncio.timeout(40):
                last = await last_events(client, queue)
            for process in replicas.processes.values():
                assert await asyncio.to_thread(process.wait, 20) == 0
        finally:
            for ordinal in replicas.processes:
                replicas.kill(ordinal)
            await writer.close()
            await client.close()
            await admin.close()

    documents = await store.query(ALL_CANDLES, {"@collection": collection}, batch_size=500)
    assert documents == [candle | {"queue_id": queue} for candle in GOOD]
    totals = [event.counters for event in last.values()]
    assert sum(counters.read for counters in totals if counters) == len(given)
    assert sum(counters.stored for counters in totals if counters) == COUNT
    assert sum(counters.dead_lettered for counters in totals if counters) == len(BAD)
    assert sum(event.records_written for event in last.values()) == COUNT
