"""The store on ArangoDB: one document a workflow, one a kept message, and a few of its own in ``meta``."""

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from queue_manager.model import WorkflowDocument
from queue_manager.store import aql
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
from streamforge_utils.arango import ArangoClient, Conflict, Index
from streamforge_utils.contracts import names

WORKFLOWS = "workflows"
EVENTS = "workflow_events"
META = "meta"
LEASE, OFFSETS, INSTALLATION = "lease", "offsets", "installation"

MAX_TRIES = 50
"""Of a change that others are faster with every time; with jitter this is never reached by honest load."""


class ArangoStore:
    """A WorkflowStore. It opens its client at the first call that needs it."""

    def __init__(self, client: ArangoClient) -> None:
        self._client = client

    async def ensure(self) -> None:
        """See WorkflowStore."""
        await self._client.open()
        by_age = (("created_at", "_key"), ("state", "created_at"), ("is_waiting", "created_at"))
        indexes = [
            Index(("idempotency_key",), unique=True, sparse=True),
            Index(("is_open", "is_waiting")),
            *(Index(fields) for fields in by_age),
        ]
        await asyncio.gather(
            self._client.ensure_collection(WORKFLOWS, indexes=indexes),
            self._client.ensure_collection(EVENTS, indexes=[Index(("queue_id", "partition", "offset"))]),
            self._client.ensure_collection(META),
        )

    # -- workflows ---------------------------------------------------------------------------------------------------

    async def insert(self, document: WorkflowDocument) -> WorkflowDocument:
        """See WorkflowStore."""
        try:
            rev = await self._client.insert(WORKFLOWS, document.to_store())
        except Conflict as conflict:
            if key := document.spec.idempotency_key:
                existing = await self.find_request(key)
                if existing is not None:
                    raise DuplicateRequest(existing) from conflict
            raise DuplicateId(document.queue_id) from conflict
        return document.model_copy(update={"rev": rev})

    async def get(self, queue_id: str) -> WorkflowDocument | None:
        """See WorkflowStore."""
        stored = await self._client.get(WORKFLOWS, queue_id)
        return None if stored is None else WorkflowDocument.from_store(stored)

    async def get_many(self, queue_ids: Sequence[str]) -> list[WorkflowDocument]:
        """See WorkflowStore."""
        found = await self._client.query(aql.BY_IDS, {"queue_ids": list(queue_ids)})
        return [WorkflowDocument.from_store(stored) for stored in found]

    async def known(self, queue_ids: Sequence[str]) -> set[str]:
        """See WorkflowStore."""
        return set(await self._client.query(aql.KNOWN, {"queue_ids": list(queue_ids)}))

    async def find_request(self, idempotency_key: str) -> WorkflowDocument | None:
        """See WorkflowStore."""
        found = await self._client.query(aql.BY_REQUEST, {"idempotency_key": idempotency_key})
        return WorkflowDocument.from_store(found[0]) if found else None

    async def update(self, document: WorkflowDocument) -> WorkflowDocument:
        """See WorkflowStore."""
        assert document.rev is not None, "only what was read from the store can be changed there"
        try:
            rev = await self._client.replace(WORKFLOWS, document.to_store(), rev=document.rev)
        except Conflict as conflict:
            raise Stale(document.queue_id) from conflict
        return document.model_copy(update={"rev": rev})

    async def change(self, queue_id: str, change: Change) -> WorkflowDocument | None:
        """See WorkflowStore."""
        for tried in range(MAX_TRIES):
            document = await self.get(queue_id)
            changed = None if document is None else change(document)
            if changed is None:
                return document
            try:
                return await self.update(changed)
            except Stale:
                await asyncio.sleep(random.uniform(0, 0.002 * (tried + 1)))  # noqa: S311 - jitter
        raise Stale(queue_id)

    async def remove(self, queue_id: str) -> None:
        """See WorkflowStore."""
        await self._client.delete_where(EVENTS, "queue_id", queue_id)
        await self._client.delete(WORKFLOWS, queue_id)

    # -- lists -------------------------------------------------------------------------------------------------------

    async def page(self, wanted: Filter, *, limit: int, after: Cursor | None = None) -> Page:
        """See WorkflowStore."""
        limit = min(limit, MAX_PAGE)
        bind_vars = {
            "state": wanted.state,
            "symbol": wanted.symbol,
            "type": wanted.type,
            "target": wanted.target,
            "since": wanted.since,
            "until": wanted.until,
            "q": wanted.q.lower() if wanted.q else None,
            "after_at": after[0] if after else None,
            "after_key": after[1] if after else None,
            "limit": limit + 1,
        }
        rows = await self._client.query(aql.PAGE, bind_vars)
        shown = rows[:limit]
        last = (shown[-1]["created_at"], shown[-1]["queue_id"]) if len(rows) > limit else None
        return Page(shown, last)

    async def counts(self) -> dict[str, int]:
        """See WorkflowStore."""
        return {row["state"]: row["number"] for row in await self._client.query(aql.COUNTS)}

    async def pending(self, most: int) -> int:
        """See WorkflowStore."""
        return int((await self._client.query(aql.PENDING, {"most": most}))[0])

    async def position(self, document: WorkflowDocument) -> int:
        """See WorkflowStore."""
        bind_vars = {"created_at": document.spec.created_at, "queue_id": document.queue_id}
        before = await self._client.query(aql.POSITION, bind_vars)
        return 1 + int(before[0])

    async def open_workflows(self) -> list[OpenWorkflow]:
        """See WorkflowStore."""
        return [OpenWorkflow(row["queue_id"], row["rev"]) for row in await self._client.query(aql.OPEN)]

    async def waiting(self, limit: int) -> list[str]:
        """See WorkflowStore."""
        return await self._client.query(aql.WAITING, {"limit": limit})

    # -- history -----------------------------------------------------------------------------------------------------

    async def append_history(self, entries: Sequence[HistoryEntry]) -> None:
        """See WorkflowStore."""
        if entries:
            await self._client.query(aql.APPEND_HISTORY, {"entries": [_stored(entry) for entry in entries]})

    async def history(self, queue_id: str, *, limit: int, after: str | None = None) -> list[HistoryEntry]:
        """See WorkflowStore."""
        partition, offset = (int(part) for part in after.split("-")) if after else (0, -1)
        bind_vars = {"queue_id": queue_id, "partition": partition, "offset": offset, "limit": limit}
        return [
            HistoryEntry(row["queue_id"], row["partition"], row["offset"], row["at"], row["message"])
            for row in await self._client.query(aql.HISTORY, bind_vars)
        ]

    async def purge(self, collection: str, queue_id: str) -> int:
        """See WorkflowStore."""
        if not await self._client.has_collection(collection):
            return 0
        return await self._client.delete_where(collection, "queue_id", queue_id)

    async def read_offsets(self) -> dict[int, int]:
        """See WorkflowStore."""
        stored = await self._client.get(META, OFFSETS)
        return {} if stored is None else {int(p): offset for p, offset in stored["offsets"].items()}

    async def save_offsets(self, offsets: Mapping[int, int]) -> None:
        """See WorkflowStore."""
        saved = {str(partition): offset for partition, offset in offsets.items()}
        await self._client.upsert_many(META, [{"_key": OFFSETS, "offsets": saved}])

    # -- who acts ----------------------------------------------------------------------------------------------------

    async def acquire(
        self, owner: str, *, now: float, seconds: float, is_dead: Callable[[str], bool] = lambda _: False
    ) -> Lease | None:
        """See WorkflowStore."""
        stored = await self._client.get(META, LEASE)
        if stored is None:
            lease = Lease(owner, 1, now + seconds)
            try:
                await self._client.insert(META, _lease(lease))
            except Conflict:
                return None
            return lease
        is_mine = stored["owner"] == owner
        if not is_mine and stored["until"] > now and not is_dead(stored["owner"]):
            return None
        lease = Lease(owner, stored["epoch"] + (0 if is_mine else 1), now + seconds)
        try:
            await self._client.replace(META, _lease(lease), rev=stored["_rev"])
        except Conflict:
            return None
        return lease

    async def release(self, owner: str) -> None:
        """See WorkflowStore."""
        stored = await self._client.get(META, LEASE)
        if stored is None or stored["owner"] != owner:
            return
        try:
            await self._client.replace(META, _lease(Lease(owner, stored["epoch"], 0.0)), rev=stored["_rev"])
        except Conflict:
            return  # another has taken it

    async def installation(self) -> str:
        """See WorkflowStore."""
        while True:
            stored = await self._client.get(META, INSTALLATION)
            if stored is not None:
                return str(stored["id"])
            made = "".join(secrets.choice(names.ALPHABET) for _ in range(8))
            try:
                await self._client.insert(META, {"_key": INSTALLATION, "id": made})
            except Conflict:
                continue
            return made

    async def close(self) -> None:
        """See WorkflowStore."""
        await self._client.close()


def _stored(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "_key": entry.key,
        "queue_id": entry.queue_id,
        "partition": entry.partition,
        "offset": entry.offset,
        "at": entry.at,
        "message": dict(entry.message),
    }


def _lease(lease: Lease) -> dict[str, Any]:
    return {"_key": LEASE, "owner": lease.owner, "epoch": lease.epoch, "until": lease.until}
