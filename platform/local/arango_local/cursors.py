"""Running queries, and the results that clients fetch batch by batch. Must never parse AQL (that is `aql`)."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from arango_local.aql.execution import Execution, Stop
from arango_local.aql.queries import QueryCache
from arango_local.catalog import Catalog
from arango_local.errors import CURSOR_NOT_FOUND, ArangoError
from arango_local.revisions import Clock
from arango_local.storage import Storage


@dataclass(frozen=True)
class QueryRequest:
    """A query as a client sends it; `max_runtime` in seconds, 0 = no limit."""

    database: str
    user: str
    text: str
    binds: dict[str, Any]
    full_count: bool = False
    max_runtime: float = 0.0


@dataclass(frozen=True)
class QueryResult:
    """All rows of a result (some are JSON that is ready to send), and what `extra` of the answer says."""

    rows: list[Any]
    warnings: list[dict[str, Any]]
    statistics: dict[str, Any]


class QueryRunner:
    """Runs queries: reading ones on a snapshot, writing ones in a transaction; a failed query has written nothing."""

    def __init__(self, storage: Storage, catalog: Catalog, clock: Clock) -> None:
        self._storage = storage
        self._catalog = catalog
        self._clock = clock
        self._cache = QueryCache(catalog)
        self._running: set[Stop] = set()

    def run(self, request: QueryRequest) -> QueryResult:
        """Runs a query to its end.

        Raises:
            ArangoError: What is wrong with it, or 1500 when it was ended.
        """
        started = time.monotonic()
        compiled = self._cache.compiled(request.database, request.text, request.binds)
        stop = Stop(started + request.max_runtime) if request.max_runtime else Stop()
        self._running.add(stop)
        try:
            with self._storage.transaction() if compiled.writes else self._storage.snapshot() as connection:
                execution = Execution(
                    catalog=self._catalog,
                    database=request.database,
                    connection=connection,
                    clock=self._clock,
                    binds=request.binds,
                    stop=stop,
                    user=request.user,
                    counting=request.full_count,
                    materialize=bool(compiled.writes),
                )
                rows = list(compiled.run(execution))
        finally:
            self._running.discard(stop)
        return QueryResult(rows, execution.warnings, execution.statistics(time.monotonic() - started))

    def stop_all(self) -> None:
        """Ends all running queries."""
        for stop in list(self._running):
            stop.requested = True


@dataclass
class Cursor:
    """A result of which a client has fetched a part. Times in seconds of the monotonic clock."""

    number: str
    database: str
    result: QueryResult
    batch_size: int
    ttl: float
    show_count: bool
    keep_last: bool
    expires: float
    position: int = 0
    batch: int = 0
    last_answer: bytes = b""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> tuple[list[Any], bool]:
        """Returns the next rows and whether there are more."""
        rows = self.result.rows[self.position : self.position + self.batch_size]
        self.position += len(rows)
        self.batch += 1
        return rows, self.position < len(self.result.rows)


class CursorStore:
    """The cursors that are open; those not asked for within their time are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursors: dict[str, Cursor] = {}
        self._numbers: Iterable[int] = itertools.count(time.time_ns() // 1000)

    def next_number(self) -> str:
        """Returns an id that no cursor has had."""
        with self._lock:
            return str(next(iter(self._numbers)))

    def keep(self, cursor: Cursor) -> None:
        """Keeps a cursor until it is used up or its time is over."""
        with self._lock:
            self._cursors[cursor.number] = cursor

    def find(self, database: str, number: str) -> Cursor:
        """Returns a cursor and gives it its time again.

        Raises:
            ArangoError: 1600 when there is none.
        """
        self.expire()
        with self._lock:
            cursor = self._cursors.get(number)
            if cursor is None or cursor.database != database:
                raise ArangoError(404, CURSOR_NOT_FOUND, f"cursor not found: {number}")
            cursor.expires = time.monotonic() + cursor.ttl
            return cursor

    def forget(self, number: str) -> None:
        """Drops a cursor."""
        with self._lock:
            self._cursors.pop(number, None)

    def expire(self) -> None:
        """Drops the cursors whose time is over."""
        now = time.monotonic()
        with self._lock:
            for number in [number for number, cursor in self._cursors.items() if cursor.expires < now]:
                del self._cursors[number]
