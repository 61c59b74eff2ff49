"""Commands and events over Kafka: the transports of ``control``.

Readers assign all partitions of their topic and belong to no group: nothing rebalances, nothing is left behind. Topic
names are taken as they are given.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError, RecordTooLargeError

from streamforge_utils.contracts.commands import Command
from streamforge_utils.contracts.events import Event
from streamforge_utils.control.interfaces import Received
from streamforge_utils.errors import PermanentError, TransientError
from streamforge_utils.kafka.connection import client_options, start_client, stop_client, translate_errors
from streamforge_utils.settings import KafkaSettings

REQUEST_TIMEOUT_MS = 5_000
"""How long a request, a connection or an unacknowledged message waits before it is told as an error."""


class _Publisher:
    """One producer for one topic, connected on first use.

    acks=all and not idempotent: every event has an identity and every command may come twice, so a double is harmless;
    but an idempotent producer never gives a message up (``send`` and ``stop`` would wait for ever while Kafka is away)
    and needs one round trip more before a worker can say ``started``.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> AIOKafkaProducer:
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

    async def send(self, key: str, value: bytes) -> None:
        producer = await self.open()
        try:
            with translate_errors(f"sending to the topic {self._topic}"):
                await producer.send_and_wait(self._topic, value, key=key.encode())
        except TransientError as error:
            if isinstance(error.__cause__, MessageSizeTooLargeError | RecordTooLargeError):
                raise PermanentError(f"{len(value)} bytes are too large for {self._topic}", code="too-large") from error
            raise

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_client(producer)


class _Reader:
    """One consumer of all partitions of one topic, from given offsets (None: the end) on; remembers where it was."""

    def __init__(self, settings: KafkaSettings, topic: str, offsets: Mapping[int, int] | None) -> None:
        self._settings = settings
        self._topic = topic
        self._offsets = offsets
        self._next: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._opening = asyncio.Lock()
        self.ends: dict[TopicPartition, int] = {}
        """Where the topic ended when it was opened for the first time."""

    async def open(self) -> AIOKafkaConsumer:
        async with self._opening:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    **client_options(self._settings),
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",  # of offsets that have expired: the log's start
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
        for partition, end in ends.items():
            self.ends.setdefault(partition, end)
            if partition not in self._next:
                # A partition that the offsets do not name did not exist when they were taken: all of it is new.
                self._next[partition] = self._offsets.get(partition.partition, 0) if self._offsets else end
            consumer.seek(partition, self._next[partition])

    async def records(self) -> AsyncIterator[ConsumerRecord]:
        consumer = await self.open()
        try:
            with translate_errors(f"reading the topic {self._topic}"):
                while True:
                    for partition, records in (await consumer.getmany(timeout_ms=REQUEST_TIMEOUT_MS)).items():
                        for record in records:
                            self._next[partition] = record.offset + 1
                            yield record
        except TransientError:
            await self.close()
            raise

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_client(consumer)


class KafkaControlTransport:
    """A worker's ``ControlTransport``. ``offsets``: partition -> where its launch begins; empty: the topic's end."""

    def __init__(
        self, settings: KafkaSettings, *, control_topic: str, events_topic: str, offsets: Mapping[int, int]
    ) -> None:
        self._publisher = _Publisher(settings, events_topic)
        self._reader = _Reader(settings, control_topic, offsets or None)

    async def open(self) -> None:
        """Connect for sending."""
        await self._publisher.open()

    async def send(self, event: Event) -> None:
        """Returns when the event is acknowledged by all replicas in sync."""
        await self._publisher.send(event.queue_id, event.to_json())

    async def listen(self) -> None:
        """Connect for reading, and take the ends of queue-control."""
        await self._reader.open()

    async def commands(self) -> AsyncIterator[Received]:
        """All messages of queue-control from the launch's offsets on."""
        async for record in self._reader.records():
            end = self._reader.ends[TopicPartition(record.topic, record.partition)]
            yield Received(record.value, is_history=record.offset < end)

    async def close(self) -> None:
        """Idempotent, at most a few seconds."""
        await asyncio.gather(self._publisher.close(), self._reader.close())


class KafkaClientTransport:
    """A pinger's ``ClientTransport``."""

    def __init__(self, settings: KafkaSettings, *, control_topic: str, events_topic: str) -> None:
        self._publisher = _Publisher(settings, control_topic)
        self._reader = _Reader(settings, events_topic, None)

    async def open(self) -> None:
        """Connect both ways, and take the ends of queue-events."""
        tried = await asyncio.gather(self._publisher.open(), self._reader.open(), return_exceptions=True)
        for error in tried:
            if isinstance(error, BaseException):
                raise error

    async def send(self, command: Command) -> None:
        """Returns when the command is acknowledged by all replicas in sync."""
        await self._publisher.send(command.queue_id, command.to_json())

    async def events(self) -> AsyncIterator[bytes | None]:
        """The values on queue-events behind the ends that ``open`` took."""
        async for record in self._reader.records():
            yield record.value

    async def close(self) -> None:
        """Idempotent, at most a few seconds."""
        await asyncio.gather(self._publisher.close(), self._reader.close())
