"""Reads partitions of streams: assigned, never joined; committed records only; no offset is ever skipped silently."""

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streamforge_utils.kafka.connection import client_options, start_client, stop_client, translate_errors
from streamforge_utils.pipeline.ports import Partition
from streamforge_utils.settings import KafkaSettings

FETCH_BYTES = 4 * 1024 * 1024
"""Per partition and fetch: what is held in memory ahead of the batch in hand."""
POLL_MS = 60_000


class StreamReader:
    """One consumer over all partitions of an ordinal."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._hand: dict[Partition, list[ConsumerRecord]] = {}
        self._count = self._size = 0

    async def start(self, positions: Mapping[Partition, int]) -> None:
        """Begin at the given offsets; -1: at the log's start."""
        await self.close()
        if not positions:
            return
        consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        self._consumer = consumer
        await start_client(consumer, self._settings)
        consumer.assign([TopicPartition(*partition) for partition in positions])
        fresh = [TopicPartition(*partition) for partition, offset in positions.items() if offset < 0]
        with translate_errors("the streams' first offsets"):
            firsts: dict[TopicPartition, int] = await consumer.beginning_offsets(fresh) if fresh else {}
        for partition, offset in positions.items():
            tp = TopicPartition(*partition)
            consumer.seek(tp, firsts[tp] if offset < 0 else offset)

    async def fetch(
        self, *, max_records: int, max_bytes: int, linger_s: float
    ) -> Mapping[Partition, Sequence[ConsumerRecord]]:
        """Wait for records, then gather for ``linger_s``. Cancelling it loses nothing: its hand is kept.

        Raises:
            ConfigurationError: offsets older than the log (``records-expired``).
        """
        while not self._hand:
            await self._poll(max_records, POLL_MS)
        loop = asyncio.get_running_loop()
        until = loop.time() + linger_s
        while self._count < max_records and self._size < max_bytes and (left := until - loop.time()) > 0:
            await self._poll(max_records - self._count, max(1, int(left * 1000)))
        return self._give()

    def _give(self) -> dict[Partition, list[ConsumerRecord]]:
        hand, self._hand = self._hand, {}
        self._count = self._size = 0
        return hand

    async def _poll(self, max_records: int, timeout_ms: int) -> None:
        if self._consumer is None:  # no partition is ours: wait until somebody leaves
            await asyncio.Event().wait()
            return
        with translate_errors("reading the streams"):
            fetched = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
        for tp, records in fetched.items():
            self._hand.setdefault((tp.topic, tp.partition), []).extend(records)
            self._count += len(records)
            self._size += sum(record.serialized_value_size for record in records)

    async def position(self, partition: Partition) -> int:
        """The next offset to be given; records in the hand of a cancelled ``fetch`` are not counted."""
        if hand := self._hand.get(partition):
            return int(hand[0].offset)
        if self._consumer is None:
            return 0
        with translate_errors(f"the position in {partition[0]}"):
            return int(await self._consumer.position(TopicPartition(*partition)))

    async def lag(self) -> int:
        """Records between the positions and the ends that the last fetches told."""
        if self._consumer is None:
            return 0
        behind = 0
        for tp in self._consumer.assignment():
            end = self._consumer.highwater(tp)
            if end is not None:
                behind += max(0, end - await self.position((tp.topic, tp.partition)))
        return behind

    async def close(self) -> None:
        """Idempotent; bounded in time."""
        consumer, self._consumer = self._consumer, None
        self._give()
        if consumer is not None:
            await stop_client(consumer)
