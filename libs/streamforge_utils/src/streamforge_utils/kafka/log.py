"""A topic as a log: acknowledged writes in order, and a reader that knows how far it has read.

Readers assign all partitions of their topic and belong to no group: nothing rebalances, nothing is left behind. Topic
names are taken as they are given.
"""

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError, RecordTooLargeError

from streamforge_utils.errors import PermanentError, TransientError
from streamforge_utils.kafka.connection import client_options, start_client, stop_client, translate_errors
from streamforge_utils.settings import KafkaSettings

REQUEST_TIMEOUT_MS = 5_000
"""How long a request, a connection or an unacknowledged message waits before it is told as an error."""

Record = tuple[int, int, bytes | None]
"""Partition, offset and value."""


class TopicWriter:
    """One producer for any topic, connected on first use. After an error a record may be there all the same.

    acks=all and not idempotent: every event has an identity and every command may come twice, so a double is harmless;
    but an idempotent producer never gives a message up (``write`` and ``close`` would wait for ever while Kafka is
    away) and needs one round trip more before a worker can say ``started``.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> AIOKafkaProducer:
        """Connect. Idempotent.

        Raises:
            NotConnected: Kafka does not answer; call again.
            ConfigurationError: refused (password, rights, certificate).
        """
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
            PermanentError: one is larger than the broker takes (``too-large``).
            ConfigurationError: refused (password, rights).
        """
        producer = await self.open()
        try:
            with translate_errors(f"writing to {topic}"):
                sends = [await producer.send(topic, value, key=key.encode()) for key, value in records]
                await asyncio.gather(*sends)
        except TransientError as error:
            if isinstance(error.__cause__, MessageSizeTooLargeError | RecordTooLargeError):
                largest = max(len(value) for _, value in records)
                raise PermanentError(f"{largest} bytes are too large for {topic}", code="too-large") from error
            raise

    async def close(self) -> None:
        """Idempotent; bounded in time, also while Kafka is away."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_client(producer)


class TopicTail:
    """Reads all partitions of a topic, committed records only; after an error it goes on where it was.

    ``offsets``: partition -> where to begin; None: at the end. A partition that they do not name did not exist when
    they were taken: all of it is new. Offsets that have expired mean the log's start.
    """

    def __init__(self, settings: KafkaSettings, topic: str, offsets: Mapping[int, int] | None) -> None:
        self._settings = settings
        self._topic = topic
        self._offsets = offsets
        self._consumer: AIOKafkaConsumer | None = None
        self._opening = asyncio.Lock()
        self.positions: dict[int, int] = {}
        """Partition -> what is read next; passes control records and aborted ones."""
        self.ends: dict[int, int] = {}
        """Partition -> where it ended when it was opened for the first time."""

    async def open(self) -> AIOKafkaConsumer:
        """Connect, and take the ends. Idempotent; raises as ``TopicWriter.open``."""
        async with self._opening:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    **client_options(self._settings),
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    isolation_level="read_committed",
                    request_timeout_ms=REQUEST_TIMEOUT_MS,
                )
                try:
                    await start_client(consumer, self._settings)
                    with translate_errors(f"reading the topic {self._topic}"):
                        await self._assign(consumer)
                except BaseException:
                    await stop_client(consumer)
                    raise
                self._consumer = consumer
            return self._consumer

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        # Only an assignment makes aiokafka ask for a topic's metadata, which then names the other partitions.
        first = TopicPartition(self._topic, 0)
        consumer.assign([first])
        ends: dict[TopicPartition, int] = await consumer.end_offsets([first])
        others = [TopicPartition(self._topic, p) for p in consumer.partitions_for_topic(self._topic) or () if p != 0]
        if others:
            consumer.assign([first, *others])
            ends |= await consumer.end_offsets(others)
        for tp, end in ends.items():
            self.ends.setdefault(tp.partition, end)
            begin = end if self._offsets is None else self._offsets.get(tp.partition, 0)
            consumer.seek(tp, self.positions.setdefault(tp.partition, begin))

    async def read(self, timeout_s: float) -> list[Record]:
        """What has come, at the latest after ``timeout_s``.

        Raises:
            TransientError: Kafka is away; call again after a pause.
            ConfigurationError: refused (password, rights).
        """
        consumer = await self.open()
        try:
            with translate_errors(f"reading the topic {self._topic}"):
                found = await consumer.getmany(timeout_ms=int(timeout_s * 1000))
                for tp in consumer.assignment():
                    self.positions[tp.partition] = await consumer.position(tp)
        except TransientError:
            await self.close()
            raise
        return [(tp.partition, record.offset, record.value) for tp, records in found.items() for record in records]

    async def close(self) -> None:
        """Idempotent; bounded in time."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_client(consumer)
