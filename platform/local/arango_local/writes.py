# ruff: noqa: S608 - table names are made here from numbers; values are bound
"""Writing documents: every mode, per-document outcomes, index upkeep; a whole batch in a few SQL statements.

All existing rows of a batch are read by one statement, the outcome of each document is decided in Python (so that a key
that comes twice in a batch and every mode are exact), then rows and index entries are written by `executemany`. Runs
inside the caller's transaction and must never begin or end one.
"""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import orjson

from arango_local.collection import EDGES, HEAD, Collection
from arango_local.errors import (
    CONFLICT,
    DOCUMENT_KEY_BAD,
    DOCUMENT_KEY_MISSING,
    DOCUMENT_KEY_UNEXPECTED,
    DOCUMENT_NOT_FOUND,
    DOCUMENT_TYPE_INVALID,
    INVALID_EDGE_ATTRIBUTE,
    UNIQUE_CONSTRAINT_VIOLATED,
    ArangoError,
)
from arango_local.indexes import Index
from arango_local.revisions import Clock, revision
from arango_local.values import dump, is_number, merge

Operation: TypeAlias = Literal["insert", "update", "replace", "remove"]
Mode: TypeAlias = Literal["conflict", "ignore", "update", "replace"]
Outcome: TypeAlias = "dict[str, Any] | ArangoError"

KEY: Final = re.compile(r"[a-zA-Z0-9_\-.@()+,=;$!*'%:]{1,254}")
_EDGE_END: Final = re.compile(r"[^/]+/[^/]+")


@dataclass(frozen=True)
class WriteOptions:
    """How documents are written.

    Attributes:
        mode: What an insert does when the key exists.
        keep_null: False: an update removes attributes that it sets to null.
        merge_objects: False: an update replaces nested objects.
        check_revs: A `_rev` in the input must be the stored one (else 1200).
        return_new: Outcomes carry the stored document as `new`.
        return_old: Outcomes carry the former document as `old`.
        version_attribute: A write whose number there is not above the stored one is skipped without an error.
    """

    mode: Mode = "conflict"
    keep_null: bool = True
    merge_objects: bool = True
    check_revs: bool = False
    return_new: bool = False
    return_old: bool = False
    version_attribute: str | None = None


@dataclass
class _Stored:
    """A document's row as the batch sees it; `document` is its parsed JSON once somebody needed it."""

    rev: str
    doc: bytes
    document: dict[str, Any] | None = None

    def parsed(self) -> dict[str, Any]:
        if self.document is None:
            self.document = orjson.loads(self.doc)
        return self.document


class Batch:
    """One write of many documents to one collection.

    Attributes:
        ignored: Inserts that the mode `ignore` has left out.
    """

    def __init__(
        self, collection: Collection, connection: sqlite3.Connection, clock: Clock, options: WriteOptions
    ) -> None:
        self._collection = collection
        self._connection = connection
        self._clock = clock
        self._options = options
        self._indexes = list(collection.indexes.values())
        self._unique = [index for index in self._indexes if index.unique]
        self._key_options = collection.properties["keyOptions"]
        self.ignored = 0
        self._before: dict[str, _Stored | None] = {}
        self._now: dict[str, _Stored | None] = {}
        self._taken: dict[tuple[int, bytes], str | None] = {}

    def write(self, operation: Operation, inputs: Sequence[Any]) -> list[Outcome]:
        """Writes documents; returns an outcome for each, in their order.

        Args:
            operation: What to do.
            inputs: Documents; for `remove` also keys or ids. They belong to this call: system attributes are taken out
            of them.

        Returns:
            `{_id, _key, _rev}` and, where there was one, `_oldRev`; or the error of that document, which is then not
            written.
        """
        keys = [self._key_of(each) for each in inputs]
        found = self._collection.find_many(self._connection, (key for key in keys if type(key) is str))
        self._now = {key: _Stored(rev, doc) for key, (rev, doc) in found.items()}
        tick = self._clock.take(len(inputs) + 1)
        outcomes: list[Outcome] = []
        for offset, (key, each) in enumerate(zip(keys, inputs, strict=True)):
            try:
                outcomes.append(self._write_one(operation, key, each, tick + offset))
            except ArangoError as error:
                outcomes.append(error)
        self._flush()
        return outcomes

    def insert_new(self, documents: Sequence[Any]) -> bool:
        """Inserts documents whose keys are all new, given and valid, without outcomes; the fast lane of bulk loads.

        Returns:
            False, with nothing written or changed, when any of that is not so or a unique index or edges need a closer
            look.
        """
        collection = self._collection
        if self._unique or collection.kind == EDGES or not self._key_options["allowUserKeys"]:
            return False
        keys: list[Any] = [each.get("_key") if type(each) is dict else None for each in documents]
        if not all(type(key) is str and KEY.fullmatch(key) for key in keys) or len(set(keys)) != len(keys):
            return False
        if collection.find_many(self._connection, keys):
            return False
        tick = self._clock.take(len(keys))
        rows = []
        for key, document in zip(keys, documents, strict=True):
            for name in HEAD:
                document.pop(name, None)
            rows.append((key, revision(tick), dump(document)))
            tick += 1
        self._connection.executemany(f"INSERT INTO {collection.table}(key, rev, doc) VALUES (?, ?, ?)", rows)
        for index in self._indexes:
            entry_of = index.key
            pairs = zip(keys, documents, strict=True)
            entries = [(entry, key) for key, document in pairs if (entry := entry_of(key, document)) is not None]
            self._connection.executemany(f"INSERT INTO {index.table}(k, key) VALUES (?, ?)", entries)
        return True

    def _key_of(self, given: Any) -> Any:
        if type(given) is dict:
            key = given.get("_key")
            if key is None and type(given.get("_id")) is str:
                return given["_id"].removeprefix(self._collection.prefix)
            return key
        return given.removeprefix(self._collection.prefix) if type(given) is str else None

    def _write_one(self, operation: Operation, key: Any, given: Any, tick: int) -> Outcome:
        if type(given) is not dict:
            if operation != "remove" or type(given) is not str:
                raise ArangoError(400, DOCUMENT_TYPE_INVALID, "invalid document type: a document must be a JSON object")
            given = {}
        key = self._checked_key(operation, key, given, tick)
        stored = self._now.get(key)
        if operation == "insert":
            if stored is None:
                return self._put(key, given, None, tick)
            return self._insert_existing(key, given, stored, tick)
        if stored is None:
            raise ArangoError(404, DOCUMENT_NOT_FOUND, "document not found")
        self._check_rev(key, given, stored)
        if operation == "remove":
            return self._remove(key, stored)
        return self._put(key, given, stored, tick, patch=operation == "update")

    def _checked_key(self, operation: Operation, key: Any, given: dict[str, Any], tick: int) -> str:
        if operation == "insert":
            if "_key" not in given:
                return self._generated_key(tick)
            if type(key) is not str or not KEY.fullmatch(key):
                raise ArangoError(400, DOCUMENT_KEY_BAD, f"illegal document key {orjson.dumps(key).decode()}")
            if not self._key_options["allowUserKeys"]:
                raise ArangoError(
                    400, DOCUMENT_KEY_UNEXPECTED, "unexpected document key: the collection makes its own keys"
                )
            return key
        if key is None:
            raise ArangoError(400, DOCUMENT_KEY_MISSING, "missing document key: '_key' is needed")
        if type(key) is not str or not KEY.fullmatch(key):
            raise ArangoError(404, DOCUMENT_NOT_FOUND, "document not found")
        return key

    def _generated_key(self, tick: int) -> str:
        generator = self._key_options["type"]
        if generator == "uuid":
            return str(uuid.uuid4())
        return f"{tick:016x}" if generator == "padded" else str(tick)

    def _insert_existing(self, key: str, given: dict[str, Any], stored: _Stored, tick: int) -> Outcome:
        mode = self._options.mode
        if mode == "ignore":
            self.ignored += 1
            return self._identity(key, stored.rev)
        if mode == "conflict":
            raise ArangoError(
                409,
                UNIQUE_CONSTRAINT_VIOLATED,
                "unique constraint violated - in index primary of type primary over '_key'; conflicting key: " + key,
            )
        return self._put(key, given, stored, tick, patch=mode == "update")

    def _check_rev(self, key: str, given: dict[str, Any], stored: _Stored) -> None:
        wanted = given.get("_rev")
        if self._options.check_revs and wanted and wanted != stored.rev:
            raise ArangoError(412, CONFLICT, "conflict, _rev values do not match", **self._identity(key, stored.rev))

    def _identity(self, key: str, rev: str) -> dict[str, Any]:
        return {"_id": self._collection.prefix + key, "_key": key, "_rev": rev}

    def _put(
        self, key: str, given: dict[str, Any], stored: _Stored | None, tick: int, *, patch: bool = False
    ) -> dict[str, Any]:
        if stored is not None and self._is_stale(given, stored):
            return self._identity(key, stored.rev) | {"_oldRev": stored.rev}
        document = given
        if patch and stored is not None:
            options = self._options
            document = merge(stored.parsed(), given, keep_null=options.keep_null, merge_objects=options.merge_objects)
        if self._collection.kind == EDGES:
            _check_edge(document)
        if self._unique:
            self._check_unique(key, document)
        # Last, so that the input of a refused document can still be shown whole.
        for name in HEAD:
            document.pop(name, None)
        new = _Stored(revision(tick), dump(document), document)
        self._change(key, new)
        outcome = self._identity(key, new.rev)
        if stored is not None:
            outcome["_oldRev"] = stored.rev
        return self._with_documents(outcome, stored, new)

    def _remove(self, key: str, stored: _Stored) -> dict[str, Any]:
        for index in self._unique:
            entry = index.key(key, stored.parsed())
            if entry is not None:
                self._taken[index.number, entry] = None
        self._change(key, None)
        return self._with_documents(self._identity(key, stored.rev), stored, None)

    def _with_documents(self, outcome: dict[str, Any], old: _Stored | None, new: _Stored | None) -> dict[str, Any]:
        key = outcome["_key"]
        if self._options.return_old and old is not None:
            outcome["old"] = self._collection.document((key, old.rev, old.doc))
        if self._options.return_new and new is not None:
            outcome["new"] = self._collection.document((key, new.rev, new.doc))
        return outcome

    def _is_stale(self, given: dict[str, Any], stored: _Stored) -> bool:
        name = self._options.version_attribute
        if name is None:
            return False
        new: Any = given.get(name)
        old: Any = stored.parsed().get(name)
        return is_number(new) and is_number(old) and new >= 0 and old >= 0 and int(new) <= int(old)

    def _check_unique(self, key: str, document: dict[str, Any]) -> None:
        stored = self._now.get(key)
        freed = []
        wanted = []
        for index in self._unique:
            old = None if stored is None else index.key(key, stored.parsed())
            new = index.key(key, document)
            if old == new:
                continue
            holder = None if new is None else self._holder(index, new)
            if holder is not None and holder != key:
                fields = ", ".join(index.definition.fields)
                raise ArangoError(
                    409,
                    UNIQUE_CONSTRAINT_VIOLATED,
                    f"unique constraint violated - in index {index.definition.name} of type {index.definition.kind} "
                    f"over '{fields}'; conflicting key: {holder}",
                )
            freed.append((index.number, old))
            wanted.append((index.number, new))
        # Only now: a document that one index refuses must not take its place in another.
        self._taken |= {(number, entry): None for number, entry in freed if entry is not None}
        self._taken |= {(number, entry): key for number, entry in wanted if entry is not None}

    def _holder(self, index: Index, entry: bytes) -> str | None:
        if (index.number, entry) in self._taken:
            return self._taken[index.number, entry]
        row = self._connection.execute(f"SELECT key FROM {index.table} WHERE k = ?", (entry,)).fetchone()
        return None if row is None else row[0]

    def _change(self, key: str, new: _Stored | None) -> None:
        self._before.setdefault(key, self._now.get(key))
        self._now[key] = new

    def _flush(self) -> None:
        table = self._collection.table
        removed = [(key,) for key in self._before if self._now[key] is None]
        if removed:
            self._connection.executemany(f"DELETE FROM {table} WHERE key = ?", removed)
        rows = [(key, new.rev, new.doc) for key in self._before if (new := self._now[key]) is not None]
        if rows:
            self._connection.executemany(
                f"INSERT INTO {table}(key, rev, doc) VALUES (?, ?, ?) "
                "ON CONFLICT(key) DO UPDATE SET rev = excluded.rev, doc = excluded.doc",
                rows,
            )
        for index in self._indexes:
            self._flush_index(index)

    def _flush_index(self, index: Index) -> None:
        gone, come = [], []
        for key, before in self._before.items():
            now = self._now[key]
            if before is not None and now is not None and index.untouched(before.parsed(), now.parsed()):
                continue
            old = None if before is None else index.key(key, before.parsed())
            new = None if now is None else index.key(key, now.parsed())
            if old != new:
                if old is not None:
                    gone.append((old, key))
                if new is not None:
                    come.append((new, key))
        if gone:
            self._connection.executemany(f"DELETE FROM {index.table} WHERE k = ? AND key = ?", gone)
        if come:
            self._connection.executemany(f"INSERT INTO {index.table}(k, key) VALUES (?, ?)", come)


def _check_edge(document: dict[str, Any]) -> None:
    for name in ("_from", "_to"):
        end = document.get(name)
        if type(end) is not str or not _EDGE_END.fullmatch(end):
            raise ArangoError(400, INVALID_EDGE_ATTRIBUTE, f"edge attribute missing or invalid: '{name}'")
