"""The transactional writer of one ordinal: implements the pipeline's Committer (``docs/explanation/commit.md``)."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, MessageSizeTooLargeError, RecordListTooLargeError, UnknownError
from aiokafka.partitioner import murmur2
from aiokafka.structs import OffsetAndMetadata

from streamforge_utils.errors import FencedError, TransientError
from streamforge_utils.kafka.admin import KafkaAdmin
from streamforge_utils.kafka.connection import (
    causes,
    client_options,
    start_client,
    stop_client,
    translate_errors,
    translated,
)
from streamforge_utils.pipeline.ports import Output, OutputsRefused, Partition, Position
from streamforge_utils.settings import KafkaSettings

TRANSACTION_TIMEOUT_MS = 15_000
COMMIT_S = 45.0
"""After so long the worker begins again with a fresh producer, which finds out what became of the transaction."""
BATCH_BYTES = 900_000
"""Below the broker's default limit of a batch (message.max.bytes = 1,048,588): only a lone record can be too large."""
RETRY_BACKOFF_MS = 20
"""A broker that still writes the markers of the last transaction answers "retry": aiokafka's 100 ms were p99."""
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


def _producer(settings: KafkaSettings, transactional_id: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        transactional_id=transactional_id,
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        max_batch_size=BATCH_BYTES,
        retry_backoff_ms=RETRY_BACKOFF_MS,
    )


async def fence(settings: KafkaSettings, transactional_ids: Iterable[str]) -> None:
    """End the lives behind these ids: their open transactions are aborted, committing ones waited for.

    Raises:
        NotConnected, TransientError: call again.
        ConfigurationError: a right is missing.
    """

    async def one(transactional_id: str) -> None:
        producer = _producer(settings, transactional_id)
        try:
            with translate_errors(f"fencing {transactional_id}"):
                await start_client(producer, settings)
        finally:
            await stop_client(producer)

    await asyncio.gather(*(one(transactional_id) for transactional_id in transactional_ids))


class Transactor:
    """One producer, one transaction a batch. Never makes a new producer after it was fenced."""

    def __init__(
        self, settings: KafkaSettings, *, transactional_id: str, former: Sequence[str], group: str, admin: KafkaAdmin
    ) -> None:
        self._settings = settings
        self._id = transactional_id
        self._former = former
        self._group = group
        self._admin = admin
        self._producer: AIOKafkaProducer | None = None
        self._partitions: dict[str, int] = {}

    async def start(self) -> None:
        """Fence the former launches, then the own former life; returns as the one who may write."""
        await self._drop()
        await fence(self._settings, self._former)
        await self._start_own()

    async def _start_own(self) -> None:
        producer = _producer(self._settings, self._id)
        try:
            with translate_errors(f"becoming the writer {self._id}"):
                await start_client(producer, self._settings)
        except BaseException:
            await stop_client(producer)
            raise
        self._producer = producer

    async def committed(self, partitions: Sequence[Partition]) -> dict[Partition, Position]:
        """What was committed last, asked for by name."""
        found = await self._admin.committed(self._group, partitions)
        return {partition: Position(c.offset, c.metadata) for partition, c in found.items()}

    async def commit(self, outputs: Sequence[Output], positions: Mapping[Partition, Position]) -> None:
        """One transaction; a broker that is away is waited out, for ``COMMIT_S`` seconds."""
        producer = self._producer
        if producer is None:
            raise TransientError(f"{self._id} has not started")
        offsets = {TopicPartition(*p): OffsetAndMetadata(offset, text) for p, (offset, text) in positions.items()}
        async with _bounded(f"the transaction of {self._id}"):
            grouped = await self._by_partition(producer, outputs)
            await producer.begin_transaction()
            batches = await self._send(producer, outputs, grouped)
            if offsets:
                await producer.send_offsets_to_transaction(offsets, self._group)
            # commit_transaction succeeds although the broker refused a record: its own result alone tells.
            results = await asyncio.gather(*(future for _, future in batches), return_exceptions=True)
            failed = [(r, i) for r, (i, _) in zip(results, batches, strict=True) if isinstance(r, BaseException)]
            if failed:
                _raise_if_fenced(failed, self._id)
                await producer.abort_transaction()
                # aiokafka has counted the refused batch: the next one would be out of sequence. The abort went through,
                # so nobody has fenced us, and a fresh producer is ours to make.
                await self._drop()
                await self._start_own()
                _raise(failed)
            await producer.commit_transaction()

    async def _by_partition(
        self, producer: AIOKafkaProducer, outputs: Sequence[Output]
    ) -> dict[TopicPartition, list[int]]:
        grouped: dict[tuple[str, int], list[int]] = {}
        for index, (topic, key, _, _, partition) in enumerate(outputs):
            number = partition
            if number is None:
                count = self._partitions.get(topic) or await self._count(producer, topic)
                # As Kafka's Java client, so that any client finds a key where we put it.
                number = 0 if count == 1 else (murmur2(key or b"") & 0x7FFFFFFF) % count
            grouped.setdefault((topic, number), []).append(index)
        return {TopicPartition(*place): indexes for place, indexes in grouped.items()}

    async def _count(self, producer: AIOKafkaProducer, topic: str) -> int:
        self._partitions[topic] = len(await producer.partitions_for(topic))
        return self._partitions[topic]

    @staticmethod
    async def _send(
        producer: AIOKafkaProducer, outputs: Sequence[Output], grouped: Mapping[TopicPartition, Sequence[int]]
    ) -> list[tuple[list[int], "asyncio.Future[Any]"]]:
        """Whole batches instead of single sends: 5 times the records a second."""
        sent: list[tuple[list[int], asyncio.Future[Any]]] = []
        for tp, indexes in grouped.items():
            batch = producer.create_batch()
            inside: list[int] = []
            last, headers = None, []
            for index in indexes:
                _, key, value, given, _ = outputs[index]
                if given is not last:  # nearly always all records carry the same ones
                    last, headers = given, list(given)
                if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                    sent.append((inside, await _sent(producer, batch, tp)))
                    batch, inside = producer.create_batch(), []
                    batch.append(timestamp=None, key=key, value=value, headers=headers)
                inside.append(index)
            sent.append((inside, await _sent(producer, batch, tp)))
        return sent

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_client(producer)

    async def close(self) -> None:
        """Idempotent; bounded in time."""
        await self._drop()


@asynccontextmanager
async def _bounded(what: str) -> AsyncIterator[None]:
    """Killed at the wrong moment, a broker leaves a producer that waits for ever although the broker is back."""
    try:
        with translate_errors(what):
            async with asyncio.timeout(COMMIT_S):
                yield
    except IllegalOperation as error:
        # How a producer that its background task found fenced refuses the next step of a transaction.
        raise FencedError(f"{what}: a successor took over") from error
    except TransientError as error:
        # A broker that fences us just now answers the end of our transaction with "unknown server error" (Kafka 4.2:
        # IllegalStateException, PREPARE_EPOCH_FENCE). Who made a new producer then would fence its own successor.
        if any(isinstance(cause, UnknownError) for cause in causes(error)):
            raise FencedError(f"{what}: the broker failed within it; a successor may have taken over") from error
        raise


async def _sent(producer: AIOKafkaProducer, batch: Any, tp: TopicPartition) -> "asyncio.Future[Any]":
    future: asyncio.Future[Any] = await producer.send_batch(batch, tp.topic, partition=tp.partition)
    # Asked or not: when the transaction fails elsewhere nobody comes back for this result.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _raise_if_fenced(failed: Sequence[tuple[BaseException, Sequence[int]]], name: str) -> None:
    """A fenced producer cannot even abort: aiokafka answers that with an assertion."""
    for error, _ in failed:
        if isinstance(found := translated(error, f"the transaction of {name}"), FencedError):
            raise found from error


def _raise(failed: Sequence[tuple[BaseException, Sequence[int]]]) -> None:
    refused: dict[int, str] = {}
    for error, indexes in failed:
        if not isinstance(error, _TOO_LARGE):
            raise error
        for index in indexes:
            refused[index] = f"larger than the broker takes ({error})"
    raise OutputsRefused(refused)
