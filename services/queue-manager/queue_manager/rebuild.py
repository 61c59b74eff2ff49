"""``streamforge-rebuild``: the workflow documents again, out of queue-events.

The topic holds every decision (the first one with the whole spec) and every event, so replaying them by the same pure
functions gives the same documents, as far back as the topic goes. What only the platform knew (restarts of a launch
that still runs) comes back with the controller's next look.
"""

import argparse
import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from queue_manager import decisions
from queue_manager.controller.broker import Broker, KafkaBroker, Line
from queue_manager.controller.event_reader import history_entry
from queue_manager.fold import Sent, fold
from queue_manager.model import WorkflowDocument
from queue_manager.settings import QueueManagerSettings
from queue_manager.store.arango import ArangoStore
from queue_manager.store.interface import DuplicateId, DuplicateRequest, HistoryEntry, WorkflowStore
from streamforge_utils.arango import ArangoClient
from streamforge_utils.contracts.events import Decision, DecisionName, Event, from_json
from streamforge_utils.errors import PermanentError, StreamForgeError
from streamforge_utils.settings import read_settings

READ_S = 1.0
HISTORY_BATCH = 1000

_log = structlog.get_logger(component="rebuild")

LaunchKey = tuple[str, int]
"""Step and number of a launch."""


@dataclass(slots=True)
class Replay:
    """The messages of one workflow, in the order of the topic, made into its document."""

    _decisions: dict[str, Decision] = field(default_factory=dict)
    _messages: list[Sent | str] = field(default_factory=list)

    def take(self, line: Line, message: Event | Decision) -> None:
        """The next message; a decision that came before does not count again."""
        if isinstance(message, Event):
            self._messages.append(Sent(line.partition, line.offset, message))
        elif message.decision_id not in self._decisions:
            self._decisions[message.decision_id] = message
            self._messages.append(message.decision_id)

    def document(self) -> WorkflowDocument | None:
        """The workflow; None: it was deleted, or the topic does not reach back to its beginning."""
        waiting = list(self._decisions.values())
        if not waiting or waiting[0].decision is not DecisionName.ACCEPTED:
            return None
        bounds = self._bounds()
        launched = {_launch_key(d) for d in waiting if d.decision is DecisionName.LAUNCHED}
        done: set[str] = set()
        document: WorkflowDocument | None = None
        held: list[Sent] = []

        def decide(until: str) -> None:
            nonlocal document, held
            if document is not None and held:
                document, held = fold(document, held), []
            while until not in done:
                decision = waiting.pop(0)
                done.add(decision.decision_id)
                document = decisions.apply(document, decision)

        for message in self._messages:
            if isinstance(message, str):
                decide(message)
                continue
            key = (message.event.step, message.event.launch)
            # its launch was decided before, but went out only afterwards
            if key in launched and not any(_launch_key(self._decisions[one]) == key for one in done):
                decide(next(d.decision_id for d in waiting if _launch_key(d) == key))
            held.append(_bounded(message, bounds.get(key, {})))
        if document is not None and held:
            document = fold(document, held)
        return document

    def _bounds(self) -> dict[LaunchKey, dict[str, int]]:
        """Up to where the events of a launch counted when its end was decided."""
        return {
            (decision.payload["step"], decision.payload["launch"]): decision.payload["offsets"]
            for decision in self._decisions.values()
            if decision.decision is DecisionName.ENDED and decision.payload.get("step") is not None
        }


def _launch_key(decision: Decision) -> LaunchKey | None:
    if decision.decision is not DecisionName.LAUNCHED:
        return None
    return decision.payload["step"], decision.payload["launch"]["number"]


def _bounded(sent: Sent, bound: dict[str, int]) -> Sent:
    """The event; one that came too late to count gets a launch that never is, so that only its offset does."""
    if sent.offset < bound.get(str(sent.partition), sent.offset + 1):
        return sent
    return Sent(sent.partition, sent.offset, sent.event.model_copy(update={"launch": 2**31}))


def rebuild(lines: Iterable[Line], *, installation: str | None = None) -> dict[str, WorkflowDocument | None]:
    """queue_id -> its document; None: deleted, or its beginning is no longer in the topic."""
    replays: dict[str, Replay] = {}
    for line in lines:
        message = _read(line, installation)
        if message is not None:
            replays.setdefault(message.queue_id, Replay()).take(line, message)
    return {queue_id: replay.document() for queue_id, replay in replays.items()}


def _read(line: Line, installation: str | None) -> Event | Decision | None:
    try:
        message = from_json(line.value)
    except (PermanentError, TypeError):
        return None
    return message if installation is None or message.installation == installation else None


async def read_all(broker: Broker) -> list[Line]:
    """Everything that lies in queue-events now."""
    ends = await broker.events_ends()
    tail = broker.tail({})
    lines: list[Line] = []
    try:
        while not tail.positions or any(tail.positions.get(p, 0) < end for p, end in ends.items()):
            lines += await tail.read(timeout_s=READ_S)
    finally:
        await tail.close()
    # within a partition the order of the topic; a workflow's messages lie in one
    return sorted(lines, key=lambda line: (line.partition, line.offset))


async def restore(
    store: WorkflowStore, documents: Iterable[WorkflowDocument], *, is_replacing: bool
) -> tuple[int, int]:
    """Store them; how many, and how many were left because they are there already."""
    stored = kept = 0
    for document in documents:
        try:
            await store.insert(document)
        except (DuplicateId, DuplicateRequest):
            existing = await store.get(document.queue_id)
            if existing is None or not is_replacing:
                kept += 1
                continue
            await store.update(document.model_copy(update={"rev": existing.rev}))
        stored += 1
    return stored, kept


async def _run(settings: QueueManagerSettings, *, is_replacing: bool, is_dry: bool) -> str:
    store = ArangoStore(ArangoClient(settings.arango))
    broker = KafkaBroker(settings.kafka, control=settings.control_topic, events=settings.events_topic)
    try:
        await store.ensure()
        lines = await read_all(broker)
        found = rebuild(lines)
        documents = [document for document in found.values() if document is not None]
        stored, kept = (0, 0) if is_dry else await restore(store, documents, is_replacing=is_replacing)
        if not is_dry:
            await _restore_history(store, lines, {document.queue_id for document in documents})
    finally:
        await broker.close()
        await store.close()
    return (
        f"{len(lines)} messages since {_since(lines)}: {len(documents)} workflows, {stored} written, "
        f"{kept} left as they are, {len(found) - len(documents)} deleted or begun before that"
    )


async def _restore_history(store: WorkflowStore, lines: Sequence[Line], queue_ids: set[str]) -> None:
    entries: list[HistoryEntry] = []
    for line in lines:
        message = _read(line, None)
        entry = history_entry(line, message) if message is not None and message.queue_id in queue_ids else None
        if entry is not None:
            entries.append(entry)
    for start in range(0, len(entries), HISTORY_BATCH):
        await store.append_history(entries[start : start + HISTORY_BATCH])


def _since(lines: Sequence[Line]) -> str:
    """When the oldest message was sent: how far back the documents go."""
    stamps = [message.timestamp for line in lines if (message := _read(line, None)) is not None]
    return datetime.fromtimestamp(min(stamps), UTC).isoformat(timespec="seconds") if stamps else "ever (none)"


def main() -> None:
    """The command. Exit 0 when done, the error's exit code when Kafka or the store refuse or do not answer."""
    parser = argparse.ArgumentParser(prog="streamforge-rebuild", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replace", action="store_true", help="write documents that are there already, too")
    parser.add_argument("--dry-run", action="store_true", help="only say what is found")
    given = parser.parse_args()
    try:
        settings = read_settings(QueueManagerSettings)
        told = asyncio.run(_run(settings, is_replacing=given.replace, is_dry=given.dry_run))
    except StreamForgeError as error:
        _log.error("rebuild_failed", reason=error.message)
        raise SystemExit(error.exit_code) from error
    print(told)
