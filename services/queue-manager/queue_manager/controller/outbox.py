"""Publishes the decisions in documents' outboxes to queue-events, in order; one may come twice, never not at all.

An outbox is cleared with the next write of its document, not by one of its own.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from queue_manager.controller.broker import Broker
from queue_manager.model import WorkflowDocument
from streamforge_utils.contracts.events import Decision
from streamforge_utils.errors import ConfigurationError, PermanentError, TransientError

RETRY_S = 0.5
GATHER_S = 0.02
"""Between two requests: under load decisions gather, a lone one goes at once (before what its workers say)."""
MAX_BATCH = 200

_log = structlog.get_logger(component="outbox")


class Outbox:
    """``published`` is called with a queue_id when all that was offered of it is out."""

    def __init__(self, broker: Broker, *, published: Callable[[str], None]) -> None:
        self._broker = broker
        self._tell = published
        self._queue: deque[Decision] = deque()
        self._offered: dict[str, set[str]] = {}
        self._out: dict[str, set[str]] = {}
        self._filled = asyncio.Event()
        self._is_waiting = False

    def offer(self, document: WorkflowDocument) -> None:
        """Publish what is in the outbox and was not offered yet. Only of a document that is stored."""
        if not document.outbox:
            return
        offered = self._offered.setdefault(document.queue_id, set())
        for decision in document.outbox:
            if decision.decision_id not in offered:
                offered.add(decision.decision_id)
                self._queue.append(decision)
                self._filled.set()

    def strip(self, document: WorkflowDocument) -> None:
        """Take what is published out of the outbox, in place: the next write clears it."""
        out = self._out.get(document.queue_id, set())
        document.outbox = [decision for decision in document.outbox if decision.decision_id not in out]

    def is_due(self, document: WorkflowDocument) -> bool:
        """Whether something in the outbox is published and could be cleared."""
        out = self._out.get(document.queue_id, set())
        return any(decision.decision_id in out for decision in document.outbox)

    def is_out(self, document: WorkflowDocument) -> bool:
        """Whether all of the outbox is published."""
        out = self._out.get(document.queue_id, set())
        return all(decision.decision_id in out for decision in document.outbox)

    def forget(self, document: WorkflowDocument) -> None:
        """The document is stored: what is no more in its outbox need not be remembered."""
        left = {decision.decision_id for decision in document.outbox}
        for known in (self._offered, self._out):
            kept = known.get(document.queue_id, set()) & left
            if kept:
                known[document.queue_id] = kept
            else:
                known.pop(document.queue_id, None)

    async def run(self) -> None:
        """Until cancelled; a broker that is away is waited out."""
        while True:
            while not self._queue:
                self._filled.clear()
                await self._filled.wait()
            batch = [self._queue[index] for index in range(min(len(self._queue), MAX_BATCH))]
            try:
                await self._publish(batch)
            except (TransientError, ConfigurationError) as error:
                if not self._is_waiting:
                    _log.warning("decisions_wait", reason=error.message)
                self._is_waiting = True
                await asyncio.sleep(RETRY_S)
                continue
            self._is_waiting = False
            for decision in batch:
                self._queue.popleft()
                self._out.setdefault(decision.queue_id, set()).add(decision.decision_id)
            for queue_id in {decision.queue_id for decision in batch}:
                self._tell(queue_id)
            await asyncio.sleep(GATHER_S)

    async def _publish(self, batch: Sequence[Decision]) -> None:
        """All of them; one that the topic never takes is told and left out, or no other would ever go out again."""
        try:
            await self._broker.publish(batch)
        except PermanentError as error:
            if len(batch) > 1:
                for decision in batch:
                    await self._publish([decision])
                return
            _log.error("decision_lost", queue_id=batch[0].queue_id, decision=batch[0].decision, reason=error.message)
