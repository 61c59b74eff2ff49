"""The open workflows' documents, as they were last stored. Most of them rest: nothing happens for minutes.

Thousands of them in their parsed form are 10 KB in a hundred pieces each, and what is left of them between others'
pieces stays with the process. One that rests is a line of JSON, a quarter of that in one piece.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from queue_manager.fold import stalls_at
from queue_manager.model import WorkflowDocument
from streamforge_utils import codec


@dataclass(frozen=True, slots=True)
class _Resting:
    """A document, and what is asked of one without a look into it."""

    rev: str | None
    is_ended: bool
    stalls_at: float
    text: bytes


class Documents:
    """By ``queue_id``. What ``get`` gave is the document until another is ``put`` or it is laid to ``rest``."""

    def __init__(self) -> None:
        self._awake: dict[str, WorkflowDocument] = {}
        self._resting: dict[str, _Resting] = {}
        """Of one that was woken its text stays: it need not be written again if nothing changes."""

    def __iter__(self) -> Iterator[str]:
        """Their names, those of this moment."""
        return iter({**self._resting, **self._awake})

    def __contains__(self, queue_id: str) -> bool:
        return queue_id in self._awake or queue_id in self._resting

    def get(self, queue_id: str) -> WorkflowDocument | None:
        """The document, each time the same one; None: it is not known."""
        document = self._awake.get(queue_id)
        if document is None and (resting := self._resting.get(queue_id)) is not None:
            document = WorkflowDocument.model_validate(codec.decode(resting.text))
            self._awake[queue_id] = document
        return document

    def put(self, document: WorkflowDocument) -> None:
        """It was read or stored."""
        self._awake[document.queue_id] = document
        self._resting.pop(document.queue_id, None)

    def drop(self, queue_id: str) -> None:
        """It is no more what the store has, or not needed."""
        self._awake.pop(queue_id, None)
        self._resting.pop(queue_id, None)

    def rest(self, queue_id: str) -> None:
        """Nobody works on it now."""
        document = self._awake.pop(queue_id, None)
        if document is not None and queue_id not in self._resting:
            text = document.model_dump_json().encode()  # the codec's answers keep buffers of thrice their length
            self._resting[queue_id] = _Resting(document.rev, document.is_ended, stalls_at(document), text)

    def rev(self, queue_id: str) -> str | None:
        """Its revision; None: it is not known."""
        known = self._known(queue_id)
        return known.rev if known is not None else None

    def is_ended(self, queue_id: str) -> bool:
        """Whether it is known, and its state is final."""
        known = self._known(queue_id)
        return known is not None and known.is_ended

    def stalling(self, now: float) -> list[str]:
        """Those that rest and have become stalled since: nothing but the time has to pass for that."""
        return [queue_id for queue_id, resting in self._resting.items() if now > resting.stalls_at]

    def _known(self, queue_id: str) -> _Resting | WorkflowDocument | None:
        return self._resting.get(queue_id) or self._awake.get(queue_id)
