"""What a commit costs by the size of its batch: our transactor beside bare aiokafka sends in one transaction."""

import asyncio
import logging
import time

import uvloop
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from benchmarks.figures import Figure, percentile
from benchmarks.pass_through import record
from streamforge_utils.contracts import names
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.transactor import Transactor
from streamforge_utils.pipeline.ports import Output, Position
from streamforge_utils.settings import KafkaSettings

SIZES = (0, 1, 100, 1000, 5000)
ROUNDS = 40
"""Commits of each size."""


async def _bare(producer: AIOKafkaProducer, topic: str, batch: list[Output], count: int) -> float:
    began = time.perf_counter()
    await producer.begin_transaction()
    sends = [await producer.send(topic, o.value, key=o.key, partition=0) for o in batch]
    await producer.send_offsets_to_transaction({TopicPartition(topic, 0): OffsetAndMetadata(count, "{}")}, "bare")
    await asyncio.gather(*sends)
    await producer.commit_transaction()
    return time.perf_counter() - began


async def _ours(transactor: Transactor, topic: str, batch: list[Output], count: int) -> float:
    began = time.perf_counter()
    await transactor.commit(batch, {(topic, 0): Position(count, "{}")})
    return time.perf_counter() - began


async def _measure(settings: KafkaSettings) -> list[Figure]:
    admin = KafkaAdmin(settings)
    topic = f"commit-{names.short_id()}"
    await admin.create_topics([TopicSpec(topic)])
    transactor = Transactor(settings, transactional_id=f"ours-{topic}", former=(), group="ours", admin=admin)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, transactional_id=f"bare-{topic}", max_batch_size=900_000
    )
    figures = []
    try:
        await transactor.start()
        await producer.start()
        for size in SIZES:
            batch = [Output(topic, b"%d" % n, record(n), (("step", b"bench"),), 0) for n in range(size)]
            pairs = [
                (await _bare(producer, topic, batch, n), await _ours(transactor, topic, batch, n))
                for n in range(ROUNDS)
            ]
            bare, ours = ([pair[i] * 1000 for pair in pairs] for i in (0, 1))
            figures.append(
                Figure(
                    f"commit of {size} records",
                    f"p50 {percentile(ours, 0.5):.1f} ms, p99 {percentile(ours, 0.99):.1f} ms",
                    f"p50 {percentile(bare, 0.5):.1f} ms, p99 {percentile(bare, 0.99):.1f} ms",
                    "",
                    None,
                )
            )
    finally:
        await transactor.close()
        await producer.stop()
        await admin.delete_topics([topic])
        await admin.close()
    return figures


def measure(settings: KafkaSettings) -> list[Figure]:
    """One row a size."""
    # A broker that still writes the markers of the last transaction answers "retry"; aiokafka tells each one.
    logging.getLogger("aiokafka.producer.sender").setLevel(logging.ERROR)
    return uvloop.run(_measure(settings))
