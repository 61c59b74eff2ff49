"""queue-control and queue-events in memory, with both transports on them."""

import asyncio
from collections.abc import AsyncIterator

from streamforge_utils.contracts.commands import Command
from streamforge_utils.contracts.events import Event
from streamforge_utils.control.interfaces import Received
from streamforge_utils.errors import NotConnected


class MemoryTopics:
    """The two topics; ``is_away`` makes every call fail as Kafka does when it is away."""

    def __init__(self) -> None:
        self.control: list[bytes | None] = []
        self.events: list[bytes | None] = []
        self.is_away = False
        self._grown = asyncio.Event()

    def check(self) -> None:
        """Raises NotConnected while the topics are away."""
        if self.is_away:
            raise NotConnected("the topics in memory are away", code="broker-unreachable")

    def append(self, topic: list[bytes | None], value: bytes | None) -> None:
        """Put a message on ``control`` or ``events``, and wake who waits for it."""
        topic.append(value)
        self._grown.set()
        self._grown = asyncio.Event()

    def command(self, command: Command | bytes | None) -> None:
        """Put a command, or anything else, on queue-control."""
        self.append(self.control, command.to_json() if isinstance(command, Command) else command)

    async def read(self, topic: list[bytes | None], start: int) -> AsyncIterator[tuple[int, bytes | None]]:
        """Offset and value of each message from ``start`` on, endless."""
        position = start
        while True:
            self.check()
            while position < len(topic):
                yield position, topic[position]
                position += 1
            await self._grown.wait()


class MemoryControlTransport:
    """A worker's side. ``offset``: where its launch begins; None: the end."""

    def __init__(self, topics: MemoryTopics, *, offset: int | None = 0) -> None:
        self.sent: list[Event] = []
        self.is_closed = False
        self._topics = topics
        self._next = offset
        self._end: int | None = None

    async def open(self) -> None:
        """Fails while the topics are away."""
        self._topics.check()

    async def send(self, event: Event) -> None:
        """Kept in ``sent`` and on the topic."""
        await asyncio.sleep(0)
        self._topics.check()
        self.sent.append(event)
        self._topics.append(self._topics.events, event.to_json())

    async def listen(self) -> None:
        """Takes the end, once."""
        self._topics.check()
        self._end = len(self._topics.control) if self._end is None else self._end
        self._next = self._end if self._next is None else self._next

    async def commands(self) -> AsyncIterator[Received]:
        """From ``offset`` on."""
        await self.listen()
        assert self._next is not None
        assert self._end is not None
        async for offset, value in self._topics.read(self._topics.control, self._next):
            self._next = offset + 1
            yield Received(value, is_history=offset < self._end)

    async def close(self) -> None:
        """Kept in ``is_closed``."""
        self.is_closed = True


class MemoryClientTransport:
    """A pinger's side."""

    def __init__(self, topics: MemoryTopics) -> None:
        self._topics = topics
        self._next = 0

    async def open(self) -> None:
        """Takes the end of queue-events."""
        self._topics.check()
        self._next = len(self._topics.events)

    async def send(self, command: Command) -> None:
        """Puts it on queue-control."""
        await asyncio.sleep(0)
        self._topics.check()
        self._topics.command(command)

    async def events(self) -> AsyncIterator[bytes | None]:
        """Behind the end that ``open`` took."""
        async for offset, value in self._topics.read(self._topics.events, self._next):
            self._next = offset + 1
            yield value

    async def close(self) -> None:
        """Nothing to close."""
