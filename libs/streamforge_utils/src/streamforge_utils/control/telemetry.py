"""What a worker says on queue-events, in a task of its own: the pipeline only leaves notes and never waits.

The one place that builds a worker's events. ``started``, ``error`` and the last event are kept, in order, until Kafka
has them; of progress only the newest counts and it may be lost; pongs wait too, but not many.
"""

import asyncio
import dataclasses
import time
from collections import deque
from typing import Any

import structlog
from ulid import ULID

from streamforge_utils.contracts.commands import Command
from streamforge_utils.contracts.events import LAST_WORDS, PROGRESS, Counters, Event, EventName
from streamforge_utils.control.backoff import pauses
from streamforge_utils.control.identity import Identity
from streamforge_utils.control.interfaces import ControlTransport
from streamforge_utils.errors import PermanentError, StreamForgeError, TransientError
from streamforge_utils.observability import Health, WorkerMetrics

HEARTBEAT_S = 10.0
PROGRESS_S = 1.0
MAX_WAITING_PONGS = 100
MAX_MESSAGE = 2_000
"""Characters of a message: an error's text may be half a page, an event has to fit the broker's limit."""

CONDITION = "control"
"""The health condition that says whether Kafka takes the events."""

_log = structlog.get_logger(component="telemetry")


class Telemetry:
    """The events of one life of a worker. ``serve`` sends them; every other method only leaves a note.

    ``run`` names this life; ``seq`` counts its events, so ``(producer, run, seq)`` identifies one.
    """

    def __init__(
        self, transport: ControlTransport, identity: Identity, *, health: Health, metrics: WorkerMetrics
    ) -> None:
        self.run = str(ULID())
        self._transport = transport
        self._fields = _sendable(dataclasses.asdict(identity))
        self._health = health
        self._metrics = metrics
        self._seq = 0
        self._counters: Counters | None = None
        self._kept: deque[Event] = deque()
        self._message: str | None = None
        self._payload: dict[str, Any] = {}
        self._has_progress = False
        self._is_closing = False
        self._woken = asyncio.Event()
        self._delivered = asyncio.Event()
        self._delivered.set()

    def started(self, *, metrics_port: int | None = None, message: str = "Started", **payload: Any) -> None:
        """The worker runs; its metrics are served on ``metrics_port``."""
        if metrics_port is not None:
            payload["metrics_port"] = metrics_port
        self._keep(self._event(EventName.STARTED, message, payload))

    def progress(self, counters: Counters, **payload: Any) -> None:
        """The totals so far, after a commit; told in a ``loading`` event, at most one a second."""
        self._counters = counters
        self._note(None, payload)

    def report(self, message: str, **payload: Any) -> None:
        """Something worth telling, in the next ``loading`` event; a newer report replaces the message."""
        self._note(message, payload)

    def pong(self, ping: Command) -> None:
        """The answer to a ping. While Kafka is away only the first hundred wait: nobody waits for the others."""
        if sum(event.event is EventName.PONG for event in self._kept) >= MAX_WAITING_PONGS:
            self._metrics.events_lost.inc()
            return
        payload = {"command_id": ping.command_id}
        self._keep(self._event(EventName.PONG, "pong", payload, ping_ts=ping.sent_at))

    def error(self, error: StreamForgeError, **payload: Any) -> None:
        """What is wrong. ``payload.reason`` carries code and message."""
        self._keep(self._event(EventName.ERROR, error.message, _reason(error.code, error.message) | payload))

    async def finish(self, name: EventName, message: str, *, counters: Counters | None = None, **payload: Any) -> None:
        """Say the last event (``finished`` or ``interrupted``), and return when Kafka has it and all before it.

        It waits as long as that takes: a deadline is the caller's. Afterwards nothing more is said.
        """
        if name not in LAST_WORDS:
            raise ValueError(f"{name} is not a last event")
        self._counters = counters or self._counters
        self._keep(self._event(name, message, payload))
        self._is_closing = True
        await self.flush()

    async def flush(self) -> None:
        """Return when Kafka has every event that may not be lost; ``serve`` has to be running."""
        await self._delivered.wait()

    async def serve(self) -> None:
        """Connect and send, until cancelled. Kafka away is waited out, and told by health.

        Raises:
            ConfigurationError: Kafka refuses this worker (password, rights).
        """
        await self._connect()
        clock = asyncio.get_running_loop().time
        progress_at = clock() + PROGRESS_S
        heartbeat_at = clock() + HEARTBEAT_S
        while True:
            now = clock()
            if self._kept:
                await self._deliver(self._kept[0])
                self._kept.popleft()
                if not self._kept:
                    self._delivered.set()
            elif self._is_closing:
                await self._sleep(None)
            elif self._has_progress and now >= progress_at:
                progress_at = now + PROGRESS_S
                await self._deliver(self._take_progress())
            elif now >= heartbeat_at:
                heartbeat_at = now + HEARTBEAT_S
                await self._deliver(self._event(EventName.HEARTBEAT, "", {}))
            else:
                await self._sleep(min(heartbeat_at, progress_at if self._has_progress else heartbeat_at) - now)

    def _keep(self, event: Event) -> None:
        if self._is_closing:
            _log.warning("event_after_the_last", event_name=event.event, message=event.message)
            return
        self._kept.append(event)
        self._delivered.clear()
        self._woken.set()

    def _note(self, message: str | None, payload: dict[str, Any]) -> None:
        self._message = message if message is not None else self._message
        self._payload |= payload
        if not self._has_progress:
            self._has_progress = True
            self._woken.set()

    def _take_progress(self) -> Event:
        stored = self._counters.stored if self._counters else 0
        message, payload = self._message or f"Saved {stored} records", self._payload
        self._message, self._payload, self._has_progress = None, {}, False
        return self._event(EventName.LOADING, message, payload)

    def _event(self, name: EventName, message: str, payload: dict[str, Any], *, ping_ts: float | None = None) -> Event:
        now = time.time()
        if ping_ts is not None:
            payload |= {"ping_ts": ping_ts, "ponged_at": now}
        elif self._counters is not None:
            payload = {"counters": self._counters.model_dump(), **payload}
        event = Event(
            **self._fields,
            run=self.run,
            seq=self._seq,
            event=name,
            message=_sendable(message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "..."),
            records_written=self._counters.stored if self._counters else 0,
            timestamp=now,
            ping_ts=ping_ts,
            ponged_at=None if ping_ts is None else now,
            payload=_sendable(payload),
        )
        self._seq += 1
        return event

    async def _connect(self) -> None:
        for pause in pauses():
            try:
                await self._transport.open()
            except TransientError as error:
                self._away(error)
                await asyncio.sleep(pause)
            else:
                self._health.set(CONDITION, ok=True)
                return

    async def _deliver(self, event: Event) -> None:
        """Send one event; progress is tried once, everything else until it is acknowledged."""
        for pause in pauses():
            try:
                await self._transport.send(event)
            except TransientError as error:
                self._away(error)
                if event.event in PROGRESS:
                    self._metrics.events_lost.inc()
                    return
                await asyncio.sleep(pause)
            except PermanentError as error:
                self._metrics.events_lost.inc()
                _log.error("event_cannot_be_sent", event_name=event.event, seq=event.seq, reason=error.message)
                return
            else:
                self._health.set(CONDITION, ok=True)
                self._metrics.events.labels(event.event).inc()
                self._metrics.last_event.set_to_current_time()
                return

    def _away(self, error: TransientError) -> None:
        if self._health.set(CONDITION, ok=False, reason=error.message):
            _log.warning("events_wait", reason=error.message)

    async def _sleep(self, seconds: float | None) -> None:
        self._woken.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass


def _sendable(value: Any) -> Any:
    """What UTF-8 does not have (the lone surrogates of a file name that is none) is replaced in every text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_sendable(name): _sendable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_sendable(part) for part in value]
    return value


def _reason(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "reason": {"code": code, "message": message[:MAX_MESSAGE]}}
