"""What a worker is told on queue-control: which commands are meant for it and still hold, and who has to act.

It decides nothing else: stopping and draining are the runner's.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError

from streamforge_utils.contracts.commands import LEVELS, Command, Drain
from streamforge_utils.control.backoff import pauses
from streamforge_utils.control.identity import Identity
from streamforge_utils.control.interfaces import ControlTransport, Received
from streamforge_utils.control.telemetry import Telemetry
from streamforge_utils.errors import PermanentError, TransientError, shown
from streamforge_utils.observability import Health, WorkerMetrics

CONDITION = "commands"
"""The health condition that says whether queue-control can be read."""

_log = structlog.get_logger(component="control")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Who acts on commands; called from the listener's task, so they must return at once."""

    on_stop: Callable[[bool], None]
    """Called once; True: the readers will be drained afterwards (``payload.drain``), so a writer has finished early."""
    on_drain: Callable[[Drain], None]
    """Called again when a drain with a higher id comes."""
    on_command: Callable[[str, dict[str, Any]], None] | None = None
    """Name and payload of every other command; raises PermanentError for a payload it cannot use."""


class ControlListener:
    """Reads queue-control as long as it is served.

    Levels (``stop``, ``drain``) hold whenever they were sent; edges (all others) are obeyed only when they were sent
    after this process came.
    """

    def __init__(
        self,
        transport: ControlTransport,
        identity: Identity,
        telemetry: Telemetry,
        handlers: Handlers,
        *,
        health: Health,
        metrics: WorkerMetrics,
    ) -> None:
        self._transport = transport
        self._identity = identity
        self._telemetry = telemetry
        self._handlers = handlers
        self._health = health
        self._metrics = metrics
        self._is_stopped = False
        self._drain_id = 0

    async def serve(self) -> None:
        """Read until cancelled. Kafka away is waited out.

        Raises:
            ConfigurationError: Kafka refuses this worker (password, rights).
        """
        waits = pauses()
        while True:
            try:
                await self._transport.listen()
                self._health.set(CONDITION, ok=True)
                async for received in self._transport.commands():
                    waits = pauses()
                    self.receive(received)
            except TransientError as error:
                if self._health.set(CONDITION, ok=False, reason=error.message):
                    _log.warning("commands_wait", reason=error.message)
            await asyncio.sleep(next(waits))

    def receive(self, received: Received) -> None:
        """Act on one message; one that cannot be used is counted, logged and skipped."""
        try:
            command = Command.from_json(received.value)
            if self._identity.is_meant(command) and (command.command in LEVELS or not received.is_history):
                self._obey(command)
        except PermanentError as error:
            self._metrics.messages_skipped.labels(error.code).inc()
            _log.warning("message_skipped", code=error.code, reason=error.message)

    def _obey(self, command: Command) -> None:
        match command.command:
            case "ping":
                self._telemetry.pong(command)
            case "stop":
                if self._is_stopped:
                    return
                self._is_stopped = True
                self._handlers.on_stop(command.payload.get("drain") is True)
            case "drain":
                drain = _drain(command.payload)
                if drain.launch != self._identity.launch or drain.drain_id <= self._drain_id:
                    return
                self._drain_id = drain.drain_id
                self._handlers.on_drain(drain)
            case other:
                if self._handlers.on_command is None:
                    raise PermanentError(f"{self._identity.target} knows no command {other!r}", code="wrong-schema")
                self._handlers.on_command(other, command.payload)
        self._metrics.commands.labels(command.command).inc()
        _log.info("command_obeyed", command=command.command, command_id=command.command_id)


def _drain(payload: dict[str, Any]) -> Drain:
    try:
        return Drain.model_validate(payload)
    except ValidationError as error:
        raise PermanentError(f"not a drain: {shown(error)}", code="wrong-schema") from error
