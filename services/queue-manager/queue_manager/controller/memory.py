"""The broker's double: topics, offsets and the two common topics in memory, for tests without Kafka."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from queue_manager.controller.broker import Line, Partition, Tail
from streamforge_utils.contracts.commands import Command
from streamforge_utils.contracts.events import Decision, Event
from streamforge_utils.errors import NotConnected
from streamforge_utils.kafka.admin import TopicSpec


class MemoryBroker:
    """A Broker with one partition of queue-control and one of queue-events; ``is_away`` makes every call fail."""

    def __init__(self) -> None:
        self.is_away = False
        self.topics: dict[str, TopicSpec] = {}
        self.retention: dict[str, int] = {}
        self.commands: list[Command] = []
        self.events: list[bytes] = []
        self.decisions: list[Decision] = []
        self.fenced: list[str] = []
        self.offsets: dict[str, dict[Partition, int]] = {}
        """group -> partition -> committed offset; what a test's worker commits."""
        self.ends: dict[Partition, int] = {}
        """Where a workflow's partitions end; what a test's worker writes."""
        self._arrived = asyncio.Event()

    def _reach(self) -> None:
        if self.is_away:
            raise NotConnected("the broker in memory was switched off", code="broker-unreachable")

    def append(self, value: bytes) -> int:
        """Put a message on queue-events; its offset."""
        self.events.append(value)
        self._arrived.set()
        return len(self.events) - 1

    def say(self, event: Event) -> int:
        """A worker's event; its offset."""
        return self.append(event.to_json())

    async def create_topics(self, topics: Sequence[TopicSpec]) -> None:
        """See Broker."""
        self._reach()
        for topic in topics:
            self.topics.setdefault(topic.name, topic)
            self.retention.setdefault(topic.name, int(topic.config["retention.ms"]))

    async def set_retention(self, topics: Sequence[str], retention_ms: int) -> None:
        """See Broker."""
        self._reach()
        self.retention |= dict.fromkeys((topic for topic in topics if topic in self.topics), retention_ms)

    async def delete_topics(self, topics: Sequence[str]) -> None:
        """See Broker."""
        self._reach()
        for topic in topics:
            self.topics.pop(topic, None)

    async def delete_groups(self, groups: Iterable[str]) -> None:
        """See Broker."""
        self._reach()
        for group in groups:
            self.offsets.pop(group, None)

    async def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See Broker."""
        self._reach()
        return {partition: self.ends.get(partition, 0) for partition in partitions}

    async def committed(self, group: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See Broker."""
        self._reach()
        return {partition: self.offsets.get(group, {}).get(partition, -1) for partition in partitions}

    async def control_ends(self) -> dict[int, int]:
        """See Broker."""
        self._reach()
        return {0: len(self.commands)}

    async def events_ends(self) -> dict[int, int]:
        """See Broker."""
        self._reach()
        return {0: len(self.events)}

    async def fence(self, transactional_ids: Iterable[str]) -> None:
        """See Broker."""
        self._reach()
        self.fenced += transactional_ids

    async def send(self, commands: Sequence[Command]) -> None:
        """See Broker."""
        self._reach()
        self.commands += commands

    async def publish(self, decisions: Sequence[Decision]) -> None:
        """See Broker."""
        self._reach()
        self.decisions += decisions
        for decision in decisions:
            self.append(decision.to_json())

    def tail(self, offsets: Mapping[int, int]) -> Tail:
        """See Broker."""
        return _MemoryTail(self, offsets.get(0, 0))

    async def wait_for_events(self, position: int, timeout_s: float) -> Sequence[bytes]:
        """What lies behind a position, at the latest after the time."""
        self._reach()
        if len(self.events) <= position:
            self._arrived.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
            except TimeoutError:
                pass
        return self.events[position:]

    async def close(self) -> None:
        """Nothing to close."""


class _MemoryTail:
    def __init__(self, broker: MemoryBroker, position: int) -> None:
        self._broker = broker
        self.positions: Mapping[int, int] = {0: position}

    async def read(self, *, timeout_s: float) -> Sequence[Line]:
        position = self.positions[0]
        values = await self._broker.wait_for_events(position, timeout_s)
        self.positions = {0: position + len(values)}
        return [Line(0, position + index, value) for index, value in enumerate(values)]

    async def close(self) -> None:
        return None
