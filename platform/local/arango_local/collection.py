# ruff: noqa: S608 - table names are made here from numbers; values are bound
"""One collection: what it is, and reading its documents.

Documents are rows `(key, rev, doc)` of a ROWID table `c<id>`: documents append, only small key and index pages are
written at random. `doc` is JSON without the system attributes. Must never write documents (that is `writes`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import orjson

from arango_local.indexes import Index

DOCUMENTS: Final = 2
EDGES: Final = 3
HEAD: Final = ("_key", "_id", "_rev")
"""The attributes that are not in `doc`."""

Row: TypeAlias = tuple[str, str, bytes]


class Collection:
    """A collection of documents or edges and its indexes.

    Attributes:
        number: Its id, never used again.
        properties: What clients may set: `waitForSync`, `keyOptions`, `isSystem`, `schema`...
        indexes: The secondary indexes by id. Replaced, never changed in place, so that readers need no lock.
    """

    def __init__(self, number: int, name: str, *, kind: int, properties: dict[str, Any]) -> None:
        self.number = number
        self.name = name
        self.kind = kind
        self.properties = properties
        self.indexes: dict[int, Index] = {}
        self.table = f"c{number}"
        self.prefix = name + "/"

    @property
    def create_statement(self) -> str:
        """Returns the SQL that makes the table."""
        return f"CREATE TABLE {self.table}(key TEXT PRIMARY KEY NOT NULL, rev TEXT NOT NULL, doc BLOB NOT NULL)"

    def head(self, row: Row) -> dict[str, Any]:
        """Returns the attributes `HEAD` of a row."""
        key, rev, _ = row
        return {"_key": key, "_id": self.prefix + key, "_rev": rev}

    def document(self, row: Row) -> dict[str, Any]:
        """Returns a row as clients see it, parsed."""
        return {**self.head(row), **orjson.loads(row[2])}

    def json(self, row: Row) -> bytes:
        """Returns a row as clients see it, without parsing it; names, keys and revisions need no escapes."""
        key, rev, doc = row
        head = f'{{"_key":"{key}","_id":"{self.prefix}{key}","_rev":"{rev}"'.encode()
        return head + (b"}" if doc == b"{}" else b"," + doc[1:])

    def find(self, connection: sqlite3.Connection, key: str) -> Row | None:
        """Returns the row of a key."""
        found = connection.execute(f"SELECT key, rev, doc FROM {self.table} WHERE key = ?", (key,)).fetchone()
        return None if found is None else (found[0], found[1], found[2])

    def find_many(self, connection: sqlite3.Connection, keys: Iterable[str]) -> dict[str, tuple[str, bytes]]:
        """Returns revision and JSON of those of the keys that exist, in one statement."""
        rows = connection.execute(
            f"SELECT key, rev, doc FROM {self.table} WHERE key IN (SELECT value FROM json_each(?))",
            (orjson.dumps(list(keys)).decode(),),
        )
        return {key: (rev, doc) for key, rev, doc in rows}

    def count(self, connection: sqlite3.Connection) -> int:
        """Returns the number of documents."""
        return int(connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0])

    def scan(self, connection: sqlite3.Connection) -> Iterator[Row]:
        """Yields all rows, oldest first."""
        return connection.execute(f"SELECT key, rev, doc FROM {self.table}")

    def keys_between(
        self, connection: sqlite3.Connection, first: str, last: str | None, *, descending: bool
    ) -> Iterator[Row]:
        """Yields the rows with `first <= key`, and `key <= last` unless that is None, in the order of their keys."""
        upper = "" if last is None else "AND key <= ?"
        return connection.execute(
            f"SELECT key, rev, doc FROM {self.table} WHERE key >= ? {upper} ORDER BY key {_direction(descending)}",
            (first,) if last is None else (first, last),
        )

    def indexed_between(
        self, connection: sqlite3.Connection, index: Index, limits: tuple[bytes, bytes], *, descending: bool
    ) -> Iterator[Row]:
        """Yields the rows whose index key is in the half-open range, in the order of index key and document key."""
        direction = _direction(descending)
        # CROSS JOIN keeps SQLite from turning the loops round: the index drives.
        return connection.execute(
            f"SELECT d.key, d.rev, d.doc FROM {index.table} i CROSS JOIN {self.table} d ON d.key = i.key "
            f"WHERE i.k >= ? AND i.k < ? ORDER BY i.k {direction}, i.key {direction}",
            limits,
        )


def _direction(descending: bool) -> str:
    return "DESC" if descending else "ASC"
