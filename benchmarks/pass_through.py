"""Consume, decode, one processor, null sink, commit: our pipeline and a bare aiokafka + orjson loop, on one core."""

import os
import time
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from benchmarks.figures import Figure
from streamforge_utils.contracts import names
from streamforge_utils.contracts.commands import Drain
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.stream import StreamReader
from streamforge_utils.kafka.transactor import Transactor
from streamforge_utils.pipeline import Batch, Batching, Pipeline
from streamforge_utils.pipeline.ports import Output
from streamforge_utils.pipeline.runner import Job, Runner
from streamforge_utils.settings import KafkaSettings
from streamforge_utils.testing import NullSink, RecordingObserver

RECORDS = 500_000
BATCH = 5000
TARGET_RATE = 150_000
TARGET_SHARE = 0.7


class Through:
    """A processor that touches every value."""

    name = "through"

    def process(self, batch: Batch) -> Batch:
        """Count what has a symbol."""
        _touched(batch.values)
        return batch


def _touched(values: list[Any]) -> int:
    return sum("symbol" in value for value in values)


def record(number: int) -> bytes:
    """A candle-like record of about 150 bytes."""
    return orjson.dumps(
        {"_key": str(number), "symbol": "BTCUSDT", "open_time": number * 60_000, "open": 63000.25, "high": 63010.5,
         "low": 62990.75, "close": 63001.0, "volume": 12.345678, "trades": 321}
    )  # fmt: skip


async def _fill(settings: KafkaSettings, admin: KafkaAdmin, topic: str) -> int:
    writer = Transactor(settings, transactional_id=f"fill-{topic}", former=(), group="fill", admin=admin)
    await writer.start()
    for first in range(0, RECORDS, 20_000):
        outputs = [Output(topic, str(n).encode(), record(n), (), 0) for n in range(first, first + 20_000)]
        await writer.commit(outputs, {})
    await writer.close()
    return (await admin.end_offsets([(topic, 0)]))[topic, 0]


async def _bare(settings: KafkaSettings, topic: str, end: int) -> float:
    """Records per second of the loop that does the same with nothing around it."""
    tp = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, transactional_id=f"bare-{topic}")
    await consumer.start()
    await producer.start()
    try:
        consumer.assign([tp])
        consumer.seek(tp, 0)
        began, count = time.perf_counter(), 0
        while await consumer.position(tp) < end:
            fetched = (await consumer.getmany(timeout_ms=50, max_records=BATCH)).get(tp, [])
            if not fetched:
                continue
            values = [orjson.loads(r.value) for r in fetched]
            _touched(values)
            count += len(values)
            await producer.begin_transaction()
            offset = OffsetAndMetadata(await consumer.position(tp), "{}")
            await producer.send_offsets_to_transaction({tp: offset}, f"bare-{topic}")
            await producer.commit_transaction()
        assert count == RECORDS
        return count / (time.perf_counter() - began)
    finally:
        await consumer.stop()
        await producer.stop()


async def _ours(settings: KafkaSettings, admin: KafkaAdmin, topic: str, end: int) -> float:
    runner = Runner(
        Pipeline(processors=lambda: [Through()], sink=NullSink(), batching=Batching(max_records=BATCH)),
        Job(step="through", reads=[(topic, 0)]),
        committer=Transactor(settings, transactional_id=f"ours-{topic}", former=(), group=f"ours-{topic}", admin=admin),
        reader=StreamReader(settings),
        observer=RecordingObserver(),
    )
    runner.drain(Drain(drain_id=1, launch=1, ends={topic: {0: end}}))
    began = time.perf_counter()
    await runner.run()
    assert runner.counters.stored == RECORDS
    return RECORDS / (time.perf_counter() - began)


async def _measure(settings: KafkaSettings) -> tuple[float, float]:
    admin = KafkaAdmin(settings)
    topic = f"pass-{names.short_id()}"
    try:
        await admin.create_topics([TopicSpec(topic)])
        end = await _fill(settings, admin, topic)
        pairs = [(await _bare(settings, topic, end), await _ours(settings, admin, f"{topic}", end))]
        await admin.delete_groups([f"ours-{topic}", f"bare-{topic}"])
        pairs.append((await _bare(settings, topic, end), await _ours(settings, admin, topic, end)))
        await admin.delete_topics([topic])
    finally:
        await admin.close()
    return max(bare for bare, _ in pairs), max(ours for _, ours in pairs)


def measure(settings: KafkaSettings) -> list[Figure]:
    """On one core: the broker has the other."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        bare, ours = uvloop.run(_measure(settings))
    finally:
        os.sched_setaffinity(0, allowed)
    is_met = ours >= TARGET_RATE and ours >= TARGET_SHARE * bare
    return [
        Figure(
            "pass-through, one core",
            f"{ours:,.0f} records/s ({ours / bare:.2f}x)",
            f"{bare:,.0f} records/s",
            f">= {TARGET_RATE:,} and >= {TARGET_SHARE}x",
            is_met,
        )
    ]
