"""The pinger's side: sends commands, and finds the pongs that answer a ping. For the queue-manager's API and tools."""

import asyncio
import time
from dataclasses import dataclass
from typing import Self

import structlog

from streamforge_utils.contracts.commands import Command
from streamforge_utils.contracts.events import Event, EventName, from_json
from streamforge_utils.control.backoff import pauses
from streamforge_utils.control.interfaces import ClientTransport
from streamforge_utils.errors import NotConnected, PermanentError, TransientError

_log = structlog.get_logger(component="control")
_AWAY = "broker-unreachable"


@dataclass(frozen=True, slots=True)
class Pong:
    """One worker's answer; ``round_trip_s`` is by the pinger's own clock."""

    event: Event
    round_trip_s: float


class _Ping:
    """A ping on its way and the answers so far, one a producer."""

    def __init__(self, command: Command, expected: int) -> None:
        self.command = command
        self.expected = expected
        self.sent = time.perf_counter()
        self.pongs: dict[str, Pong] = {}
        self.is_complete = asyncio.Event()

    def take(self, event: Event) -> None:
        answered = event.payload.get("command_id", self.command.command_id)
        if event.ping_ts != self.command.sent_at or answered != self.command.command_id:
            return
        self.pongs.setdefault(event.producer, Pong(event, time.perf_counter() - self.sent))
        if len(self.pongs) >= self.expected:
            self.is_complete.set()


class ControlClient:
    """``async with ControlClient(transport) as client``; any number of pings at once."""

    def __init__(self, transport: ClientTransport) -> None:
        self._transport = transport
        self._pings: set[_Ping] = set()
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, and read queue-events from its end on.

        Raises:
            NotConnected: Kafka does not answer; call again.
            ConfigurationError: refused (password, rights, certificate).
        """
        await self._transport.open()
        self._reader = asyncio.create_task(self._read(), name="control-client")

    async def close(self) -> None:
        """Idempotent."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])
        await self._transport.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, command: Command) -> None:
        """Returns when Kafka has the command; raises as ``ClientTransport.send``."""
        await self._transport.send(command)

    async def ping(
        self, queue_id: str, *, expected: int = 1, timeout_s: float = 5.0, step: str | None = None
    ) -> list[Pong]:
        """Ping a workflow, or one step of it.

        Returns:
            The answers by arrival, one a producer: back when there are ``expected``, or when the time is up.

        Raises:
            TransientError: the ping could not be sent.
            ConfigurationError: Kafka does not let queue-events be read.
        """
        ping = _Ping(Command(command="ping", queue_id=queue_id, step=step), expected)
        is_sent = False
        self._pings.add(ping)
        try:
            async with asyncio.timeout(timeout_s):
                await self._transport.send(ping.command)
                is_sent = True
                await ping.is_complete.wait()
        except TimeoutError:
            if not is_sent:
                raise NotConnected(f"the ping could not be sent within {timeout_s:g} s", code=_AWAY) from None
        finally:
            self._pings.discard(ping)
        if self._reader is not None and self._reader.done():
            self._reader.result()  # an answer that nobody could read is not silence
        return list(ping.pongs.values())

    async def _read(self) -> None:
        waits = pauses()
        while True:
            try:
                async for value in self._transport.events():
                    waits = pauses()
                    self._take(value)
            except TransientError as error:
                _log.warning("pongs_wait", reason=error.message)
            await asyncio.sleep(next(waits))

    def _take(self, value: bytes | None) -> None:
        if not self._pings or value is None or b'"pong"' not in value:  # spares the decoding of everybody's progress
            return
        try:
            event = from_json(value)
        except PermanentError as error:
            _log.warning("message_skipped", code=error.code, reason=error.message)
            return
        if isinstance(event, Event) and event.event is EventName.PONG:
            for ping in self._pings:
                ping.take(event)
