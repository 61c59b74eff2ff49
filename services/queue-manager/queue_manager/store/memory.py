"""The store's double: the same rules in a dict, for tests without a server. Documents pass through their JSON."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from queue_manager.model import WorkflowDocument
from queue_manager.store.interface import (
    MAX_PAGE,
    Change,
    Cursor,
    DuplicateId,
    DuplicateRequest,
    Filter,
    HistoryEntry,
    Lease,
    OpenWorkflow,
    Page,
    Stale,
)
from streamforge_utils import codec
from streamforge_utils.contracts import names
from streamforge_utils.errors import NotConnected


class MemoryStore:
    """A WorkflowStore that forgets everything with the process; ``is_away`` makes every call fail as a lost server."""

    def __init__(self) -> None:
        self.is_away = False
        self.writes = 0
        """Documents written so far: what a test of thrift counts."""
        self.purged: list[tuple[str, str]] = []
        self._documents: dict[str, dict[str, Any]] = {}
        self._history: dict[str, dict[str, HistoryEntry]] = {}
        self._offsets: dict[int, int] = {}
        self._lease: Lease | None = None
        self._installation: str | None = None

    def _reach(self) -> None:
        if self.is_away:
            raise NotConnected("the store does not answer", code="store-unreachable")

    def _put(self, document: WorkflowDocument) -> WorkflowDocument:
        self.writes += 1
        stored = codec.loads(codec.encode(document.to_store() | {"_rev": str(self.writes)}))
        self._documents[document.queue_id] = stored
        return WorkflowDocument.from_store(stored)

    async def ensure(self) -> None:
        """Nothing to make."""
        self._reach()

    async def insert(self, document: WorkflowDocument) -> WorkflowDocument:
        """See WorkflowStore."""
        self._reach()
        if document.queue_id in self._documents:
            raise DuplicateId(document.queue_id)
        if key := document.spec.idempotency_key:
            existing = await self.find_request(key)
            if existing is not None:
                raise DuplicateRequest(existing)
        return self._put(document)

    async def get(self, queue_id: str) -> WorkflowDocument | None:
        """See WorkflowStore."""
        self._reach()
        stored = self._documents.get(queue_id)
        return None if stored is None else WorkflowDocument.from_store(stored)

    async def get_many(self, queue_ids: Sequence[str]) -> list[WorkflowDocument]:
        """See WorkflowStore."""
        self._reach()
        return [WorkflowDocument.from_store(self._documents[name]) for name in queue_ids if name in self._documents]

    async def known(self, queue_ids: Sequence[str]) -> set[str]:
        """See WorkflowStore."""
        self._reach()
        return self._documents.keys() & set(queue_ids)

    async def find_request(self, idempotency_key: str) -> WorkflowDocument | None:
        """See WorkflowStore."""
        self._reach()
        for stored in self._documents.values():
            if stored.get("idempotency_key") == idempotency_key:
                return WorkflowDocument.from_store(stored)
        return None

    async def update(self, document: WorkflowDocument) -> WorkflowDocument:
        """See WorkflowStore."""
        self._reach()
        stored = self._documents.get(document.queue_id)
        if stored is None or stored["_rev"] != document.rev:
            raise Stale(document.queue_id)
        return self._put(document)

    async def change(self, queue_id: str, change: Change) -> WorkflowDocument | None:
        """See WorkflowStore."""
        document = await self.get(queue_id)
        changed = None if document is None else change(document)
        return document if changed is None else await self.update(changed)

    async def remove(self, queue_id: str) -> None:
        """See WorkflowStore."""
        self._reach()
        self._documents.pop(queue_id, None)
        self._history.pop(queue_id, None)

    async def page(self, wanted: Filter, *, limit: int, after: Cursor | None = None) -> Page:
        """See WorkflowStore."""
        self._reach()
        limit = min(limit, MAX_PAGE)
        found = sorted(
            (s for s in self._documents.values() if _matches(s, wanted)),
            key=lambda s: (s["created_at"], s["_key"]),
            reverse=True,
        )
        if after is not None:
            found = [s for s in found if (s["created_at"], s["_key"]) < tuple(after)]
        shown = found[:limit]
        last = (shown[-1]["created_at"], shown[-1]["_key"]) if len(found) > limit else None
        return Page([_row(stored) for stored in shown], last)

    async def counts(self) -> dict[str, int]:
        """See WorkflowStore."""
        self._reach()
        counted: dict[str, int] = {}
        for stored in self._documents.values():
            counted[stored["state"]] = counted.get(stored["state"], 0) + 1
        return counted

    async def pending(self, most: int) -> int:
        """See WorkflowStore."""
        return min(most, (await self.counts()).get("pending", 0))

    def _waiting(self) -> list[tuple[float, str]]:
        return sorted((s["created_at"], s["_key"]) for s in self._documents.values() if s["is_waiting"])

    async def position(self, document: WorkflowDocument) -> int:
        """See WorkflowStore."""
        self._reach()
        mine = (document.spec.created_at, document.queue_id)
        return 1 + sum(1 for other in self._waiting() if other < mine)

    async def open_workflows(self) -> list[OpenWorkflow]:
        """See WorkflowStore."""
        self._reach()
        return [
            OpenWorkflow(key, stored["_rev"])
            for key, stored in self._documents.items()
            if stored["is_open"] and not stored["is_waiting"]
        ]

    async def waiting(self, limit: int) -> list[str]:
        """See WorkflowStore."""
        self._reach()
        return [key for _, key in self._waiting()[:limit]]

    async def append_history(self, entries: Sequence[HistoryEntry]) -> None:
        """See WorkflowStore."""
        self._reach()
        for entry in entries:
            self._history.setdefault(entry.queue_id, {}).setdefault(entry.key, entry)

    async def history(self, queue_id: str, *, limit: int, after: str | None = None) -> list[HistoryEntry]:
        """See WorkflowStore."""
        self._reach()
        entries = sorted(self._history.get(queue_id, {}).values(), key=lambda e: (e.partition, e.offset))
        if after is not None:
            partition, offset = (int(part) for part in after.split("-"))
            entries = [e for e in entries if (e.partition, e.offset) > (partition, offset)]
        return entries[:limit]

    async def purge(self, collection: str, queue_id: str) -> int:
        """See WorkflowStore."""
        self._reach()
        self.purged.append((collection, queue_id))
        return 0

    async def read_offsets(self) -> dict[int, int]:
        """See WorkflowStore."""
        self._reach()
        return dict(self._offsets)

    async def save_offsets(self, offsets: Mapping[int, int]) -> None:
        """See WorkflowStore."""
        self._reach()
        self._offsets.update(offsets)

    async def acquire(
        self, owner: str, *, now: float, seconds: float, is_dead: Callable[[str], bool] = lambda _: False
    ) -> Lease | None:
        """See WorkflowStore."""
        self._reach()
        held = self._lease
        if held is not None and held.owner != owner and held.until > now and not is_dead(held.owner):
            return None
        is_mine = held is not None and held.owner == owner
        epoch = (held.epoch if held else 0) + (0 if is_mine else 1)
        self._lease = Lease(owner, epoch, now + seconds)
        return self._lease

    async def release(self, owner: str) -> None:
        """See WorkflowStore."""
        self._reach()
        if self._lease is not None and self._lease.owner == owner:
            self._lease = Lease(owner, self._lease.epoch, 0.0)

    async def installation(self) -> str:
        """See WorkflowStore."""
        self._reach()
        if self._installation is None:
            self._installation = "".join(secrets.choice(names.ALPHABET) for _ in range(8))
        return self._installation

    async def close(self) -> None:
        """Nothing to close."""


def _matches(stored: Mapping[str, Any], wanted: Filter) -> bool:
    fields = {"state": wanted.state, "symbol": wanted.symbol, "type": wanted.type}
    return (
        all(value is None or stored[name] == value for name, value in fields.items())
        and (wanted.target is None or wanted.target in stored["targets"])
        and (wanted.since is None or stored["created_at"] >= wanted.since)
        and (wanted.until is None or stored["created_at"] < wanted.until)
        and (wanted.q is None or wanted.q.lower() in stored["_key"])
    )


def _row(stored: Mapping[str, Any]) -> dict[str, Any]:
    spec, status = stored["spec"], stored["status"]
    return {
        "queue_id": stored["_key"],
        **{name: stored[name] for name in ("state", "is_waiting", "created_at", "symbol", "type")},
        **{name: stored[name] for name in ("template", "targets")},
        **{name: spec[name] for name in ("time_range", "collection")},
        **{name: status[name] for name in ("reason", "attempt", "started_at", "ended_at")},
    }
