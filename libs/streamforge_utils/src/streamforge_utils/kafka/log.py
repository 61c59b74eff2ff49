"""A topic as a log: acknowledged writes in order, and a reader that knows how far it has read."""

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streamforge_utils.kafka.connection import client_options, start_client, stop_client, translate_errors
from streamforge_utils.settings import KafkaSettings

REQUEST_TIMEOUT_MS = 5_000

Record = tuple[int, int, bytes | None]
"""Partition, offset and value."""


class TopicWriter:
    """One producer for any topic, connected on first use. After an error a record may be there all the same."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_options(self._settings), acks="all", request_timeout_ms=REQUEST_TIMEOUT_MS
                )
                try:
                    await start_client(producer, self._settings)
                except BaseException:
                    await stop_client(producer)
                    raise
                self._producer = producer
            return self._producer

    async def write(self, topic: str, records: Sequence[tuple[str, bytes]]) -> None:
        """Keys and values; returns when all are acknowledged. Records of one key lie in the given order.

        Raises:
            TransientError: unknown which are there; write all of them again.
            ConfigurationError: refused (password, rights).
        """
        producer = await self._open()
        with translate_errors(f"writing to {topic}"):
            sends = [await producer.send(topic, value, key=key.encode()) for key, value in records]
            await asyncio.gather(*sends)

    async def close(self) -> None:
        """Idempotent; bounded in time, also while Kafka is away."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_client(producer)


class TopicTail:
    """Reads all partitions of a topic from ``offsets`` on (none, or expired: the log's start), committed records only.

    It belongs to no group. After an error it is closed and another one made, with its ``positions``.
    """

    def __init__(self, settings: KafkaSettings, topic: str, offsets: Mapping[int, int]) -> None:
        self._settings = settings
        self._topic = topic
        self._offsets = dict(offsets)
        self._consumer: AIOKafkaConsumer | None = None
        self.positions: dict[int, int] = {}
        """Partition -> what is read next; passes control records and aborted ones."""

    async def _open(self) -> AIOKafkaConsumer:
        if self._consumer is not None:
            return self._consumer
        consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await start_client(consumer, self._settings)
            with translate_errors(f"reading {self._topic}"):
                await self._assign(consumer)
        except BaseException:
            await stop_client(consumer)
            raise
        self._consumer = consumer
        return consumer

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        # only an assignment makes aiokafka ask for a topic's metadata, which then names the other partitions
        first = TopicPartition(self._topic, 0)
        consumer.assign([first])
        starts: dict[TopicPartition, int] = await consumer.beginning_offsets([first])
        others = [TopicPartition(self._topic, p) for p in consumer.partitions_for_topic(self._topic) or () if p != 0]
        if others:
            consumer.assign([first, *others])
            starts |= await consumer.beginning_offsets(others)
        for partition, start in starts.items():
            position = max(self._offsets.get(partition.partition, 0), start)
            consumer.seek(partition, position)
            self.positions[partition.partition] = position

    async def read(self, timeout_s: float) -> list[Record]:
        """What has come, at the latest after ``timeout_s``.

        Raises:
            TransientError: Kafka is away.
            ConfigurationError: refused (password, rights).
        """
        consumer = await self._open()
        with translate_errors(f"reading {self._topic}"):
            found = await consumer.getmany(timeout_ms=int(timeout_s * 1000))
            for partition in consumer.assignment():
                self.positions[partition.partition] = await consumer.position(partition)
        return [(tp.partition, record.offset, record.value) for tp, records in found.items() for record in records]

    async def close(self) -> None:
        """Idempotent; bounded in time."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_client(consumer)
