"""What the queue-manager asks of its store, and in which words the store refuses.

A store that is away raises the wheel's ``TransientError`` (``NotConnected``), one that refuses the login
``ConfigurationError``; everything else is here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from queue_manager.model import WorkflowDocument

MAX_PAGE = 500

Change = Callable[[WorkflowDocument], WorkflowDocument | None]
"""Makes the changed document out of the stored one (which it must not alter); None: nothing to change.

It may be called several times, and whatever it raises passes through."""


class DuplicateId(Exception):
    """Another workflow has this id: take another short id."""


class DuplicateRequest(Exception):
    """A workflow with this idempotency key is there; ``existing`` is it."""

    def __init__(self, existing: WorkflowDocument) -> None:
        super().__init__(f"the idempotency key belongs to {existing.queue_id}")
        self.existing = existing


class Stale(Exception):
    """The document was changed or removed since it was read."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which workflows a list shows; None: all. ``since`` <= created_at < ``until``, in seconds since the epoch."""

    state: str | None = None
    target: str | None = None
    symbol: str | None = None
    type: str | None = None
    since: float | None = None
    until: float | None = None
    q: str | None = None
    """Part of the queue_id, whatever its case."""


Cursor = tuple[float, str]
"""created_at and queue_id of the last row of a page."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first (``view.row`` shows one), and where the next page begins; None: that was the last."""

    rows: Sequence[Mapping[str, Any]]
    next: Cursor | None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One message of queue-events, kept under ``<partition>-<offset>``."""

    queue_id: str
    partition: int
    offset: int
    at: float
    message: Mapping[str, Any]
    """As it was sent."""

    @property
    def key(self) -> str:
        """Its id, also of a server-sent event."""
        return f"{self.partition}-{self.offset}"


@dataclass(frozen=True, slots=True)
class OpenWorkflow:
    """A workflow the controller has something to do for."""

    queue_id: str
    rev: str


@dataclass(frozen=True, slots=True)
class Lease:
    """Who acts. ``epoch`` rises with every new owner; ``until`` is in seconds since the epoch."""

    owner: str
    epoch: int
    until: float


class WorkflowStore(Protocol):
    """The queue-manager's memory. All calls may raise TransientError or ConfigurationError."""

    async def ensure(self) -> None:
        """Make collections and indexes; idempotent, also when several do it at once."""
        ...

    async def insert(self, document: WorkflowDocument) -> WorkflowDocument:
        """Store a new workflow in one write; the answer has its ``rev``.

        Raises:
            DuplicateId: the queue_id is taken.
            DuplicateRequest: the idempotency key is taken.
        """
        ...

    async def get(self, queue_id: str) -> WorkflowDocument | None:
        """The workflow, None when there is none."""
        ...

    async def get_many(self, queue_ids: Sequence[str]) -> list[WorkflowDocument]:
        """Those of the workflows that there are, in any order, with one request."""
        ...

    async def known(self, queue_ids: Sequence[str]) -> set[str]:
        """Which of these workflows there are; no document is read for it."""
        ...

    async def find_request(self, idempotency_key: str) -> WorkflowDocument | None:
        """The workflow that was made with an idempotency key."""
        ...

    async def update(self, document: WorkflowDocument) -> WorkflowDocument:
        """Store a changed document if its ``rev`` is still the stored one; the answer has the new one.

        Raises:
            Stale: it is not.
        """
        ...

    async def change(self, queue_id: str, change: Change) -> WorkflowDocument | None:
        """Read, change, store, again when someone else was faster; the document as it is now, None: there is none."""
        ...

    async def remove(self, queue_id: str) -> None:
        """Forget a workflow and its history; no error when there is none."""
        ...

    async def page(self, wanted: Filter, *, limit: int, after: Cursor | None = None) -> Page:
        """Workflows, newest first; at most ``MAX_PAGE``."""
        ...

    async def counts(self) -> dict[str, int]:
        """State -> how many workflows are in it."""
        ...

    async def pending(self, most: int) -> int:
        """How many workflows are pending, counted up to ``most``: cheap whatever else is stored."""
        ...

    async def position(self, document: WorkflowDocument) -> int:
        """Place of a waiting workflow among those that wait, from 1."""
        ...

    async def open_workflows(self) -> list[OpenWorkflow]:
        """All that have a place or something left to do, and no workflow that merely waits."""
        ...

    async def waiting(self, limit: int) -> list[str]:
        """The workflows that waited longest for a place."""
        ...

    async def append_history(self, entries: Sequence[HistoryEntry]) -> None:
        """Keep messages; one that is kept already is left as it is."""
        ...

    async def history(self, queue_id: str, *, limit: int, after: str | None = None) -> list[HistoryEntry]:
        """Kept messages in the order of their offsets; ``after``: the key of the last one seen."""
        ...

    async def purge(self, collection: str, queue_id: str) -> int:
        """Remove the documents of a collection whose last writer was this workflow; how many there were."""
        ...

    async def read_offsets(self) -> dict[int, int]:
        """Partition of queue-events -> from where on it must be folded; empty: from its start."""
        ...

    async def save_offsets(self, offsets: Mapping[int, int]) -> None:
        """All before these offsets is folded and kept."""
        ...

    async def acquire(
        self, owner: str, *, now: float, seconds: float, is_dead: Callable[[str], bool] = lambda _: False
    ) -> Lease | None:
        """Take or prolong the controllers' lease until ``now + seconds``; None: another, who is not dead, has it."""
        ...

    async def release(self, owner: str) -> None:
        """Give the lease back, if one has it."""
        ...

    async def installation(self) -> str:
        """The id of the installation; made at the first call, then for ever the same."""
        ...

    async def close(self) -> None:
        """Drop connections."""
        ...
