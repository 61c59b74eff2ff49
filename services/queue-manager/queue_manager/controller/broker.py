"""What the controller asks of Kafka, as a Protocol, and Kafka behind it.

Commands and decisions go out acknowledged and in order; nothing is retried here.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from streamforge_utils.contracts.commands import Command
from streamforge_utils.contracts.events import Decision
from streamforge_utils.errors import ConfigurationError, NotConnected
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.log import TopicTail, TopicWriter
from streamforge_utils.kafka.transactor import fence
from streamforge_utils.settings import KafkaSettings

Partition = tuple[str, int]
FOR_EVER = -1
DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """A message of queue-events where it lies."""

    partition: int
    offset: int
    value: bytes | None


class Tail(Protocol):
    """Reads queue-events from given offsets on."""

    @property
    def positions(self) -> Mapping[int, int]:
        """Partition -> the offset that is read next; it passes messages that no reader is shown."""
        ...

    async def read(self, *, timeout_s: float) -> Sequence[Line]:
        """What has come, at the latest after ``timeout_s``.

        Raises:
            TransientError: close it and make another one.
        """
        ...

    async def close(self) -> None:
        """Idempotent."""
        ...


class Broker(Protocol):
    """Kafka for the controller. Every call may raise TransientError or ConfigurationError."""

    async def create_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Make topics; one that is there is left as it is."""
        ...

    async def set_retention(self, topics: Sequence[str], retention_ms: int) -> None:
        """How long records of these topics are kept (``FOR_EVER``: until the topic goes); missing topics are fine."""
        ...

    async def delete_topics(self, topics: Sequence[str]) -> None:
        """Delete topics; one that is not there is fine."""
        ...

    async def delete_groups(self, groups: Iterable[str]) -> None:
        """Delete the offsets of groups; one that is not there is fine."""
        ...

    async def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where partitions end, open transactions included."""
        ...

    async def committed(self, group: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offsets of a group; -1: none."""
        ...

    async def control_ends(self) -> dict[int, int]:
        """Where queue-control ends."""
        ...

    async def events_ends(self) -> dict[int, int]:
        """Where queue-events ends, open transactions included."""
        ...

    async def fence(self, transactional_ids: Iterable[str]) -> None:
        """End the lives behind these ids; their transactions are over when it returns."""
        ...

    async def send(self, commands: Sequence[Command]) -> None:
        """Returns when the commands are acknowledged."""
        ...

    async def publish(self, decisions: Sequence[Decision]) -> None:
        """Returns when the decisions are acknowledged; they lie in the given order."""
        ...

    def tail(self, offsets: Mapping[int, int]) -> Tail:
        """A reader of queue-events; a partition without an offset is read from its start."""
        ...

    async def close(self) -> None:
        """Idempotent."""
        ...


class KafkaBroker:
    """The real one. ``control`` and ``events`` are topic names, prefix included."""

    def __init__(self, settings: KafkaSettings, *, control: str, events: str) -> None:
        self._settings = settings
        self._control = control
        self._events = events
        self._admin = KafkaAdmin(settings)
        self._writer = TopicWriter(settings)
        self._partitions: dict[str, int] = {}

    async def create_topics(self, topics: Sequence[TopicSpec]) -> None:
        """See Broker."""
        async with _deadline():
            await self._admin.create_topics(topics)

    async def set_retention(self, topics: Sequence[str], retention_ms: int) -> None:
        """See Broker."""
        async with _deadline():
            await self._admin.set_retention(topics, retention_ms)

    async def delete_topics(self, topics: Sequence[str]) -> None:
        """See Broker."""
        async with _deadline():
            await self._admin.delete_topics(topics)

    async def delete_groups(self, groups: Iterable[str]) -> None:
        """See Broker."""
        async with _deadline():
            await self._admin.delete_groups(groups)

    async def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See Broker."""
        async with _deadline():
            return await self._admin.end_offsets(partitions)

    async def committed(self, group: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See Broker."""
        async with _deadline():
            found = await self._admin.committed(group, partitions)
        return {partition: committed.offset for partition, committed in found.items()}

    async def control_ends(self) -> dict[int, int]:
        """See Broker."""
        return await self._ends(self._control)

    async def events_ends(self) -> dict[int, int]:
        """See Broker."""
        return await self._ends(self._events)

    async def _ends(self, topic: str) -> dict[int, int]:
        async with _deadline():
            if topic not in self._partitions:
                self._partitions |= await self._admin.partitions([topic])
            if topic not in self._partitions:
                raise ConfigurationError(f"the topic {topic} is not there: make it as an operator would")
            count = self._partitions[topic]
            ends = await self._admin.end_offsets((topic, number) for number in range(count))
        return {number: end for (_, number), end in ends.items()}

    async def fence(self, transactional_ids: Iterable[str]) -> None:
        """See Broker."""
        async with _deadline():
            await fence(self._settings, transactional_ids)

    async def send(self, commands: Sequence[Command]) -> None:
        """See Broker."""
        async with _deadline():
            await self._writer.write(self._control, [(c.queue_id, c.to_json()) for c in commands])

    async def publish(self, decisions: Sequence[Decision]) -> None:
        """See Broker."""
        async with _deadline():
            await self._writer.write(self._events, [(d.queue_id, d.to_json()) for d in decisions])

    def tail(self, offsets: Mapping[int, int]) -> Tail:
        """See Broker."""
        return _KafkaTail(TopicTail(self._settings, self._events, offsets))

    async def close(self) -> None:
        """See Broker."""
        await self._writer.close()
        await self._admin.close()


class _KafkaTail:
    def __init__(self, tail: TopicTail) -> None:
        self._tail = tail

    @property
    def positions(self) -> Mapping[int, int]:
        return self._tail.positions

    async def read(self, *, timeout_s: float) -> Sequence[Line]:
        return [Line(partition, offset, value) for partition, offset, value in await self._tail.read(timeout_s)]

    async def close(self) -> None:
        await self._tail.close()


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    """With the broker away some of aiokafka's calls never return (commit.md, 6)."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield
    except TimeoutError as error:
        raise NotConnected(f"Kafka gave no answer within {DEADLINE_S:g} s", code="broker-unreachable") from error
