"""Commands and events over Kafka: the transports of ``control``, each a writer of one topic and a tail of another."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from streamforge_utils.contracts.commands import Command
from streamforge_utils.contracts.events import Event
from streamforge_utils.control.interfaces import Received
from streamforge_utils.kafka.log import TopicTail, TopicWriter
from streamforge_utils.settings import KafkaSettings

IDLE_S = 5.0
"""How long one look at a quiet topic takes."""


class KafkaControlTransport:
    """A worker's ``ControlTransport``. ``offsets``: partition -> where its launch begins; empty: the topic's end."""

    def __init__(
        self, settings: KafkaSettings, *, control_topic: str, events_topic: str, offsets: Mapping[int, int]
    ) -> None:
        self._events = events_topic
        self._writer = TopicWriter(settings)
        self._tail = TopicTail(settings, control_topic, offsets or None)

    async def open(self) -> None:
        """Connect for sending."""
        await self._writer.open()

    async def send(self, event: Event) -> None:
        """Returns when the event is acknowledged by all replicas in sync."""
        await self._writer.write(self._events, [(event.queue_id, event.to_json())])

    async def listen(self) -> None:
        """Connect for reading, and take the ends of queue-control."""
        await self._tail.open()

    async def commands(self) -> AsyncIterator[Received]:
        """All messages of queue-control from the launch's offsets on."""
        while True:
            for partition, offset, value in await self._tail.read(IDLE_S):
                yield Received(value, is_history=offset < self._tail.ends[partition])

    async def close(self) -> None:
        """Idempotent, at most a few seconds."""
        await asyncio.gather(self._writer.close(), self._tail.close())


class KafkaClientTransport:
    """A pinger's ``ClientTransport``."""

    def __init__(self, settings: KafkaSettings, *, control_topic: str, events_topic: str) -> None:
        self._control = control_topic
        self._writer = TopicWriter(settings)
        self._tail = TopicTail(settings, events_topic, None)

    async def open(self) -> None:
        """Connect both ways, and take the ends of queue-events."""
        tried = await asyncio.gather(self._writer.open(), self._tail.open(), return_exceptions=True)
        for error in tried:
            if isinstance(error, BaseException):
                raise error

    async def send(self, command: Command) -> None:
        """Returns when the command is acknowledged by all replicas in sync."""
        await self._writer.write(self._control, [(command.queue_id, command.to_json())])

    async def events(self) -> AsyncIterator[bytes | None]:
        """The values on queue-events behind the ends that ``open`` took."""
        while True:
            for _, _, value in await self._tail.read(IDLE_S):
                yield value

    async def close(self) -> None:
        """Idempotent, at most a few seconds."""
        await asyncio.gather(self._writer.close(), self._tail.close())
