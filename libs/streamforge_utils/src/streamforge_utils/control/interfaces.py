"""How commands come in and events go out: the ports that an adapter (Kafka, memory) implements."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from streamforge_utils.contracts.commands import Command
from streamforge_utils.contracts.events import Event


@dataclass(frozen=True, slots=True)
class Received:
    """A message of queue-control as it came. ``is_history``: it lay there before this process read the topic's end."""

    value: bytes | None
    is_history: bool


class ControlTransport(Protocol):
    """A worker's side: events out, commands in. Both directions connect on their own, in either order."""

    async def open(self) -> None:
        """Connect for sending, so that a wrong address or password is told at the start. Idempotent.

        Raises:
            NotConnected: Kafka does not answer; call again.
            ConfigurationError: refused (password, rights, certificate).
        """

    async def send(self, event: Event) -> None:
        """Returns when the event is acknowledged. After an error it may have been sent all the same.

        Raises:
            TransientError: send it again (the same event: its ``(producer, run, seq)`` makes a double harmless).
            PermanentError: this event can never be sent (``too-large``).
            ConfigurationError: as in ``open``.
        """

    async def listen(self) -> None:
        """Connect for reading and, the first time, take the end of queue-control: all before it is history.

        Idempotent; raises as ``open``.
        """

    def commands(self) -> AsyncIterator[Received]:
        """All messages of queue-control from where the launch began, endless; again: goes on behind the last one.

        Raises:
            TransientError: listen and iterate again, after a pause.
            ConfigurationError: as in ``open``.
        """

    async def close(self) -> None:
        """Idempotent; bounded in time, also while Kafka is away."""


class ClientTransport(Protocol):
    """A pinger's side: commands out, events in."""

    async def open(self) -> None:
        """Connect, and take the ends of queue-events: what is sent from now on will be seen.

        Raises:
            NotConnected: Kafka does not answer; call again.
            ConfigurationError: refused (password, rights, certificate).
        """

    async def send(self, command: Command) -> None:
        """Returns when the command is acknowledged; raises as ``ControlTransport.send``."""

    def events(self) -> AsyncIterator[bytes | None]:
        """The values on queue-events behind the ends that ``open`` took, endless; again: goes on behind the last one.

        Raises:
            TransientError: iterate again, after a pause.
        """

    async def close(self) -> None:
        """Idempotent; bounded in time, also while Kafka is away."""
