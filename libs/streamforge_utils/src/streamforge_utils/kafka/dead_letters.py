"""The dead letters of a workflow: listed, and sent back to their streams once.

What was sent back is itself told in the dead-letter topic, in the same transaction: a record with the header
``redriven`` whose value lists offsets. So the topic alone says what is done, and a call that is repeated, or cut off at
any point, never sends a record twice.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalOperation

from streamforge_utils import codec
from streamforge_utils.contracts.dead_letters import FOR_STEP, ORIGIN, DeadLetter
from streamforge_utils.errors import FencedError, PermanentError
from streamforge_utils.kafka.admin import KafkaAdmin
from streamforge_utils.kafka.connection import client_options, start_client, stop_client, translate_errors
from streamforge_utils.pipeline.letters import TRUNCATED
from streamforge_utils.pipeline.ports import Output
from streamforge_utils.settings import KafkaSettings

REDRIVEN = "redriven"
"""Header of the records that tell what was sent back."""
REQUEST_TIMEOUT_MS = 10_000
TRANSACTION_TIMEOUT_MS = 15_000
_PARTITION = 0  # workers write all dead letters of a workflow to the first
_POLL_MS = 500
_PER_MARK = 50_000  # offsets in one record: below the broker's megabyte


@dataclass(frozen=True, slots=True)
class Kept:
    """A dead letter where it lies. ``at``: seconds since the epoch."""

    offset: int
    at: float
    letter: DeadLetter
    is_redriven: bool

    @property
    def can_return(self) -> bool:
        """Whether it can go back to where it came from."""
        return self.obstacle is None

    @property
    def obstacle(self) -> str | None:
        """Why it can never go back; None: it can."""
        letter = self.letter
        if letter.position is not None or letter.offset < 0:
            return "came from a source, not from a stream"
        if TRUNCATED in letter.original_headers:
            return "was truncated: what is left of it is not the record"
        if letter.key is None and letter.value is None:
            return "has neither key nor value"  # aiokafka refuses to send that
        return None


@dataclass(frozen=True, slots=True)
class Redriven:
    """What a call did, and what all calls did so far."""

    sent: Mapping[int, str]
    """Offset -> step, of this call."""
    skipped: Mapping[int, str]
    """Named offset -> why it was left out."""
    totals: Mapping[str, int]
    """Step -> records ever sent back to it."""


@dataclass(slots=True)
class _Topic:
    letters: list[Kept] = field(default_factory=list)
    done: set[int] = field(default_factory=set)

    def marked(self) -> list[Kept]:
        return [Kept(k.offset, k.at, k.letter, k.offset in self.done) for k in self.letters]


class KafkaDeadLetters:
    """Implements the queue-manager's ``DeadLetters``."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin = KafkaAdmin(settings)
        self._one_at_a_time = asyncio.Lock()
        """Calls of this process wait for each other; those of other processes are fenced or fence."""

    async def read(self, topic: str, *, after: int, limit: int) -> Sequence[Kept]:
        """Dead letters behind an offset, oldest first; none when there is no topic.

        The whole topic is read, as what was sent back is told at its end; ``max_dead_letters`` bounds it.
        """
        found = await self._read(topic)
        return [kept for kept in found.marked() if kept.offset > after][:limit]

    async def redrive(self, queue_id: str, topic: str, offsets: Sequence[int] | None) -> Redriven:
        """Send dead letters (None: all that can) back to their streams, each once.

        Raises:
            FencedError: another call took over; nothing of this one was done.
        """
        async with self._one_at_a_time:
            letters, chosen, skipped = await self._send_back(queue_id, topic, offsets)
        sent = {kept.offset: kept.letter.step for kept in chosen}
        before = Counter(kept.letter.step for kept in letters if kept.is_redriven)
        return Redriven(sent, skipped, before + Counter(sent.values()))

    async def _send_back(
        self, queue_id: str, topic: str, offsets: Sequence[int] | None
    ) -> tuple[list[Kept], list[Kept], dict[int, str]]:
        """All dead letters as they were before, those that were sent, and the named ones that were not and why."""
        producer = AIOKafkaProducer(
            **client_options(self._settings),
            acks="all",
            transactional_id=f"{queue_id}-redrive",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await start_client(producer, self._settings)  # fences a former call; what that did is read below
            letters = (await self._read(topic)).marked()
            chosen, skipped = _choose(letters, offsets)
            if chosen:
                with translate_errors(f"sending dead letters of {queue_id} back"):
                    await _commit(producer, [*map(_returned, chosen), *_marks(topic, chosen)])
        finally:
            await stop_client(producer)
        return letters, chosen, skipped

    async def _read(self, topic: str) -> _Topic:
        found = _Topic()
        if not await self._admin.partitions([topic]):
            return found
        async for record in self._records(TopicPartition(topic, _PARTITION)):
            headers = dict(record.headers)
            try:
                if REDRIVEN in headers:
                    found.done.update(codec.decode(record.value or b"[]"))
                else:
                    letter = DeadLetter.read(record.key, record.value, record.headers)
                    found.letters.append(Kept(record.offset, record.timestamp / 1000, letter, is_redriven=False))
            except (ValueError, PermanentError):
                continue  # somebody else's record: not ours to send anywhere
        return found

    async def _records(self, tp: TopicPartition) -> AsyncIterator[ConsumerRecord]:
        """All committed records of a partition, as it is now."""
        consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await start_client(consumer, self._settings)
            with translate_errors(f"reading {tp.topic}"):
                consumer.assign([tp])
                end = (await consumer.end_offsets([tp]))[tp]
                await consumer.seek_to_beginning(tp)
                while await consumer.position(tp) < end:
                    for record in (await consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, ()):
                        yield record
        finally:
            await stop_client(consumer)

    async def close(self) -> None:
        """Idempotent."""
        await self._admin.close()


async def _commit(producer: AIOKafkaProducer, outputs: Sequence[Output]) -> None:
    """One transaction, or nothing: an open one is aborted by the next call, or by its timeout."""
    await producer.begin_transaction()
    try:
        sends = [
            await producer.send(o.topic, o.value, key=o.key, partition=o.partition, headers=list(o.headers))
            for o in outputs
        ]
    except IllegalOperation as error:  # how aiokafka tells at this place that it was fenced
        raise FencedError("a later call took over") from error
    results = await asyncio.gather(*sends, return_exceptions=True)
    if failed := [result for result in results if isinstance(result, BaseException)]:
        raise failed[0]  # the commit would succeed although the broker has refused a record
    await producer.commit_transaction()


def _choose(letters: Iterable[Kept], offsets: Sequence[int] | None) -> tuple[list[Kept], dict[int, str]]:
    by_offset = {kept.offset: kept for kept in letters}
    skipped: dict[int, str] = {}
    chosen = []
    for offset in by_offset if offsets is None else dict.fromkeys(offsets):
        kept = by_offset.get(offset)
        if kept is None:
            skipped[offset] = "no such dead letter"
        elif kept.is_redriven:
            skipped[offset] = "sent back before"
        elif kept.obstacle is not None:
            skipped[offset] = kept.obstacle
        else:
            chosen.append(kept)
    return chosen, skipped if offsets is not None else {}


def _returned(kept: Kept) -> Output:
    letter = kept.letter
    original = dict(letter.original_headers)
    # a record that was refused again keeps the place it first had: sinks order by it
    origin = original.get(ORIGIN) or f"{letter.topic}/{letter.partition}/{letter.offset}".encode()
    rest = tuple((name, data) for name, data in letter.original_headers if name not in (FOR_STEP, ORIGIN))
    headers = ((FOR_STEP, letter.step.encode()), (ORIGIN, origin), *rest)  # readers look for the first alone
    return Output(letter.topic, letter.key, letter.value, headers, letter.partition)


def _marks(topic: str, chosen: Sequence[Kept]) -> list[Output]:
    offsets = [kept.offset for kept in chosen]
    return [
        Output(topic, None, codec.encode(offsets[at : at + _PER_MARK]), ((REDRIVEN, b"1"),), _PARTITION)
        for at in range(0, len(offsets), _PER_MARK)
    ]
