# ruff: noqa: S608 - table names are made here from numbers; values are bound
"""The database engine without HTTP: everything that one server has, put together. Must never know about requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arango_local.accounts import Accounts
from arango_local.catalog import SYSTEM, Catalog
from arango_local.collection import Collection
from arango_local.cursors import CursorStore, QueryRunner
from arango_local.encoding import encode
from arango_local.indexes import TTL, Index
from arango_local.revisions import Clock
from arango_local.storage import Storage
from arango_local.writes import Batch, Operation, Outcome, WriteOptions

_CLOSE_PATIENCE_SECONDS = 0.5
_SWEPT_AT_ONCE = 1000


class Engine:
    """One server's databases.

    Raises:
        DataDirectoryInUseError: Another server has the directory.
        OSError: The directory cannot be made or written.
    """

    def __init__(self, directory: Path, *, user: str, password: str, max_pages: int = 0) -> None:
        self.storage = Storage(directory, max_pages=max_pages)
        self.catalog = Catalog(self.storage)
        self.accounts = Accounts(self.catalog, user, password)
        self.clock = Clock()
        self.queries = QueryRunner(self.storage, self.catalog, self.clock)
        self.cursors = CursorStore()

    def ensure_database(self, name: str) -> None:
        """Makes a database unless it is there."""
        if name != SYSTEM and name not in self.catalog.databases:
            self.catalog.create_database(name)

    def write(
        self, collection: Collection, operation: Operation, inputs: Sequence[Any], options: WriteOptions
    ) -> list[Outcome]:
        """Writes documents in a transaction of their own; see `Batch.write`."""
        with self.storage.transaction() as connection:
            return Batch(collection, connection, self.clock, options).write(operation, inputs)

    def sweep(self) -> int:
        """Removes the documents whose time in a ttl index is over, and expired cursors; returns how many documents."""
        self.cursors.expire()
        removed = 0
        for collections in list(self.catalog.collections.values()):
            for collection in list(collections.values()):
                for index in collection.indexes.values():
                    if index.definition.kind == TTL:
                        removed += self._sweep_index(collection, index)
        return removed

    def _sweep_index(self, collection: Collection, index: Index) -> int:
        removed = 0
        while True:
            with self.storage.transaction() as connection:
                keys = [
                    key
                    for low, high in _expired_ranges(index)
                    for (key,) in connection.execute(
                        f"SELECT key FROM {index.table} WHERE k > ? AND k <= ? LIMIT {_SWEPT_AT_ONCE}", (low, high)
                    )
                ]
                Batch(collection, connection, self.clock, WriteOptions()).write("remove", keys)
            removed += len(keys)
            if not keys:
                return removed

    def close(self) -> None:
        """Ends what runs and closes the files."""
        self.queries.stop_all()
        self.storage.close(patience_seconds=_CLOSE_PATIENCE_SECONDS)


def _expired_ranges(index: Index) -> list[tuple[bytes, bytes]]:
    """A time is unix seconds or an ISO 8601 string in UTC."""
    oldest = time.time() - (index.definition.expire_after or 0)
    written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(oldest))
    return [(encode(True), encode(oldest)), (encode("0000"), encode(written))]
