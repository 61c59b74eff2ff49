"""Reads queue-events: keeps the history, hands each workflow its events, and knows how far everything is done.

The saved offsets never pass an event that is not folded into its document and kept, so a crash loses none; what is
read twice then is harmless (the document knows its offset, the history its key).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from queue_manager.controller.broker import Broker, Line, Tail
from queue_manager.controller.shared import SharedCall, never_cancelled
from queue_manager.fold import Sent, is_urgent
from queue_manager.store.interface import HistoryEntry, WorkflowStore
from streamforge_utils import codec
from streamforge_utils.contracts.events import PROGRESS, Decision, DecisionName, Event, from_json
from streamforge_utils.errors import ConfigurationError, NotConnected, PermanentError, TransientError

READ_S = 0.25
PROGRESS_DELAY_S = 0.2
"""How long progress may wait for more of it: one write takes all."""
GATHER_S = 0.05
"""How long what is kept may wait for more of it."""
MAX_KEPT = 1000
"""Entries of one request: what gathered while the store was away must not be one that never comes through."""
SAVE_S = 1.0
RETRY_S = 0.5
CAUGHT_UP_S = 30.0
"""An open transaction may hold a reader for half of it (commit.md, 7)."""

_log = structlog.get_logger(component="event-reader")

Wake = Callable[[str, float], None]
"""A workflow has events: look at it within so many seconds."""


class EventReader:
    """One life of the reader. ``run`` reads until cancelled; a broker or store that is away is waited out."""

    def __init__(
        self,
        broker: Broker,
        store: WorkflowStore,
        *,
        installation: str,
        wake: Wake,
        on_skip: Callable[[], object] = lambda: None,
    ) -> None:
        self._broker = broker
        self._store = store
        self._installation = installation
        self._wake = wake
        self._pending: dict[str, list[Sent]] = {}
        self._in_hand: dict[str, list[Sent]] = {}
        self._unkept: list[HistoryEntry] = []
        self._taken_in = 0
        self._positions: dict[int, int] = {}
        self._saved: dict[int, int] = {}
        self._moved = asyncio.Condition()
        self._has_unkept = asyncio.Event()
        self._ends = SharedCall[None, dict[int, int]](lambda _: broker.events_ends())
        self._on_skip = on_skip

    # -- for those who fold ------------------------------------------------------------------------------------------

    def take(self, queue_id: str) -> list[Sent]:
        """The workflow's events since the last time; ``done`` or ``give_back`` has to follow."""
        events = self._pending.pop(queue_id, [])
        if events:
            self._in_hand.setdefault(queue_id, []).extend(events)
        return events

    def done(self, queue_id: str) -> None:
        """What was taken is stored."""
        self._in_hand.pop(queue_id, None)

    def give_back(self, queue_id: str) -> None:
        """What was taken is not stored: it comes again."""
        events = self._in_hand.pop(queue_id, [])
        if events:
            self._pending[queue_id] = events + self._pending.get(queue_id, [])

    async def caught_up(self) -> None:
        """Return when everything is read that lay in queue-events when this was called.

        Raises:
            TransientError: the broker does not say where the topic ends.
        """
        ends = await self._ends()
        await self._until(
            lambda: all(self._positions.get(p, 0) >= end for p, end in ends.items()),
            NotConnected(
                f"queue-events could not be read to its end within {CAUGHT_UP_S:g} s", code="broker-unreachable"
            ),
        )

    async def kept(self) -> None:
        """Return when the history has all that was read so far, whatever is read meanwhile.

        Raises:
            TransientError: the store does not take it.
        """
        so_far = self._taken_in
        await self._until(
            lambda: self._taken_in - len(self._unkept) >= so_far,
            NotConnected(f"the history was not kept within {CAUGHT_UP_S:g} s", code="store-unreachable"),
        )

    async def _until(self, holds: Callable[[], bool], otherwise: NotConnected) -> None:
        try:
            async with asyncio.timeout(CAUGHT_UP_S), self._moved:
                await self._moved.wait_for(holds)
        except TimeoutError as error:
            raise otherwise from error

    # -- reading -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read, keep and save until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, work in {"read": self._read(), "keep": self._keep(), "save": self._save()}.items():
                tasks.create_task(never_cancelled(work), name=f"events-{name}")

    async def _read(self) -> None:
        tail: Tail | None = None
        is_waiting = False
        try:
            while True:
                try:
                    if tail is None:
                        tail = self._broker.tail(self._positions or await self._read_offsets())
                    await self._take_in(tail, await tail.read(timeout_s=READ_S))
                    is_waiting = False
                except (TransientError, ConfigurationError) as error:
                    if not is_waiting:
                        _log.warning("events_wait", reason=error.message)
                    is_waiting = True
                    if tail is not None:
                        await tail.close()
                    tail = None
                    await asyncio.sleep(RETRY_S)
        finally:
            if tail is not None:
                await tail.close()
            await self._ends.close()

    async def _read_offsets(self) -> Mapping[int, int]:
        self._saved = await self._store.read_offsets()
        return self._saved

    async def _take_in(self, tail: Tail, lines: Sequence[Line]) -> None:
        for line in lines:
            self._sort(line)
        positions = dict(tail.positions)
        if positions != self._positions:
            async with self._moved:
                self._positions = positions
                self._moved.notify_all()

    def _sort(self, line: Line) -> None:
        try:
            message = from_json(line.value)
            entry = history_entry(line, message)
        except (PermanentError, TypeError) as error:
            self._on_skip()
            _log.warning("message_skipped", partition=line.partition, offset=line.offset, reason=str(error))
            return
        if message.installation != self._installation:
            return
        if entry is not None:
            self._unkept.append(entry)
            self._taken_in += 1
            self._has_unkept.set()
        if isinstance(message, Event):
            self._pending.setdefault(message.queue_id, []).append(Sent(line.partition, line.offset, message))
            self._wake(message.queue_id, 0.0 if is_urgent(message) else PROGRESS_DELAY_S)

    async def _keep(self) -> None:
        while True:
            await self._has_unkept.wait()
            await asyncio.sleep(GATHER_S)
            self._has_unkept.clear()
            entries = self._unkept[:MAX_KEPT]
            try:
                await self._store.append_history(entries)
            except (TransientError, ConfigurationError) as error:
                _log.warning("history_waits", reason=error.message)
                await asyncio.sleep(RETRY_S)
                self._has_unkept.set()
                continue
            async with self._moved:
                del self._unkept[: len(entries)]
                self._moved.notify_all()
            if self._unkept:
                self._has_unkept.set()

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            safe = self._safe_offsets()
            if safe == self._saved:
                continue
            try:
                await self._store.save_offsets(safe)
            except (TransientError, ConfigurationError) as error:
                _log.warning("offsets_wait", reason=error.message)
            else:
                self._saved = safe

    def _safe_offsets(self) -> dict[int, int]:
        safe = dict(self._positions)
        for events in (*self._pending.values(), *self._in_hand.values()):
            for sent in events:
                safe[sent.partition] = min(safe.get(sent.partition, sent.offset), sent.offset)
        for entry in self._unkept:
            safe[entry.partition] = min(safe.get(entry.partition, entry.offset), entry.offset)
        return safe


def history_entry(line: Line, message: Event | Decision) -> HistoryEntry | None:
    """What is kept of a message: all but progress, and the end of a workflow that has no history any more."""
    if isinstance(message, Event):
        is_kept = message.event not in PROGRESS
    else:
        is_kept = message.decision is not DecisionName.DELETED
    if not is_kept:
        return None
    return HistoryEntry(
        queue_id=message.queue_id,
        partition=line.partition,
        offset=line.offset,
        at=message.timestamp,
        message=codec.decode(line.value or b""),
    )
