"""One run of a compiled query: the rows it reads, what it writes, its statistics and warnings.

The generated code calls this object `X`. Must never decide how rows are found: the compiler has done that.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

import orjson

from arango_local.catalog import Catalog
from arango_local.collection import Collection, Row
from arango_local.encoding import encode
from arango_local.errors import (
    BAD_PARAMETER,
    DOCUMENT_TYPE_INVALID,
    QUERY_KILLED,
    QUERY_PARSE,
    SHUTTING_DOWN,
    ArangoError,
    unsupported,
)
from arango_local.indexes import Bound, Index, key_range
from arango_local.revisions import Clock
from arango_local.values import is_array, is_number, truthy, unique
from arango_local.writes import Batch, Operation, WriteOptions

_ROWS_BETWEEN_CHECKS: Final = 1024
_MAX_WARNINGS: Final = 10
_IGNORED_OPTIONS: Final = {"waitForSync", "exclusive", "refillIndexCaches"}
_MODES: Final = ("conflict", "ignore", "replace", "update")


class Stop:
    """Ends queries: at a deadline, or when the server ends and sets `requested`."""

    def __init__(self, deadline: float = math.inf) -> None:
        self.requested = False
        self._deadline = deadline

    def check(self) -> None:
        """Raises 1500 when the query has taken too long, 30 (come again) when the server ends."""
        if self.requested:
            raise ArangoError(503, SHUTTING_DOWN, "the server is shutting down")
        if time.monotonic() > self._deadline:
            raise ArangoError(410, QUERY_KILLED, "query killed")


@dataclass
class Execution:
    """The state of a run.

    Attributes:
        counting: Rows before the last LIMIT are to be counted.
        full_count: That count; None when there is no LIMIT.
        materialize: All rows of a read are fetched before the first is used; needed where the query also writes.
    """

    catalog: Catalog
    database: str
    connection: sqlite3.Connection
    clock: Clock
    binds: dict[str, Any]
    stop: Stop
    user: str = ""
    counting: bool = False
    full_count: int | None = None
    materialize: bool = False
    warnings: list[dict[str, Any]] = field(default_factory=list)
    writes_executed: int = 0
    writes_ignored: int = 0
    scanned_full: int = 0
    scanned_index: int = 0
    filtered: int = 0

    def warn(self, number: int, message: str) -> None:
        """Adds a warning; a query keeps the first ten."""
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append({"code": number, "message": message})

    def check(self) -> None:
        """Raises when the query has to end."""
        self.stop.check()

    # -- rows of collections --

    def scan(self, collection: Collection) -> Iterator[Row]:
        """Yields all rows."""
        for row in self._fetched(collection.scan(self.connection)):
            self.scanned_full += 1
            if not self.scanned_full % _ROWS_BETWEEN_CHECKS:
                self.stop.check()
            yield row

    def by_keys(self, collection: Collection, keys: Any) -> Iterator[Row]:
        """Yields the rows of an array of keys, each once."""
        wanted = [key for key in keys if type(key) is str] if is_array(keys) else []
        found = collection.find_many(self.connection, wanted)
        self.scanned_index += len(found)
        for key, (rev, doc) in found.items():
            yield key, rev, doc

    def by_id(self, collection: Collection, identifier: Any) -> Iterator[Row]:
        """Yields the row of an `_id`, if it is of this collection."""
        if type(identifier) is str and identifier.startswith(collection.prefix):
            yield from self.by_keys(collection, [identifier.removeprefix(collection.prefix)])

    def key_interval(self, collection: Collection, low: Any, high: Any, descending: bool) -> Iterator[Row]:
        """Yields rows in the order of their keys, at least those between the bounds; filters test them again."""
        first = low if type(low) is str else ""
        last = high if type(high) is str else None
        return self._indexed(collection.keys_between(self.connection, first, last, descending=descending))

    def by_index(
        self,
        collection: Collection,
        index: Index,
        equals: Sequence[Any],
        *,
        ends: tuple[Bound | None, Bound | None],
        descending: bool,
    ) -> Iterator[Row]:
        """Yields, in the order of the index, rows whose first fields equal values and whose next is in a range."""
        low, high = ends
        if index.sparse and not _sparse_index_serves(index, equals, low):
            return self.scan(collection)
        limits = key_range(equals, low, high)
        return self._indexed(collection.indexed_between(self.connection, index, limits, descending=descending))

    def by_index_any(self, collection: Collection, index: Index, equals: Sequence[Any], choices: Any) -> Iterator[Row]:
        """Yields, in the order of the index, rows whose first fields equal values and whose next is a choice."""
        for choice in sorted(unique(choices), key=encode) if is_array(choices) else ():
            yield from self.by_index(collection, index, [*equals, choice], ends=(None, None), descending=False)

    def _indexed(self, rows: Iterator[Row]) -> Iterator[Row]:
        for row in self._fetched(rows):
            self.scanned_index += 1
            if not self.scanned_index % _ROWS_BETWEEN_CHECKS:
                self.stop.check()
            yield row

    def _fetched(self, rows: Iterator[Row]) -> Iterable[Row]:
        return list(rows) if self.materialize else rows

    @staticmethod
    def documents(collection: Collection, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        """Yields rows parsed."""
        return map(collection.document, rows)

    @staticmethod
    def heads(collection: Collection, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        """Yields the system attributes of rows, which need no parsing."""
        return map(collection.head, rows)

    @staticmethod
    def fragments(collection: Collection, rows: Iterable[Row]) -> Iterator[orjson.Fragment]:
        """Yields rows as JSON that goes out as it is."""
        return (orjson.Fragment(collection.json(row)) for row in rows)

    def all_documents(self, collection: Collection) -> list[dict[str, Any]]:
        """Returns a collection that is used as a value."""
        return list(self.documents(collection, self.scan(collection)))

    def document(self, first: Any, second: Any = None) -> Any:
        """Computes DOCUMENT(id), DOCUMENT(collection, key), with arrays of ids or keys."""
        wanted = first if second is None else second
        if is_array(wanted):
            found = (self.document(each) if second is None else self.document(first, each) for each in wanted)
            return [each for each in found if each is not None]
        identifier = wanted.get("_id") if type(wanted) is dict else wanted
        if type(identifier) is not str:
            return None
        if "/" not in identifier:
            identifier = f"{first}/{identifier}"
        name, _, key = identifier.partition("/")
        collection = self.catalog.in_database(self.database).get(name)
        row = collection and collection.find(self.connection, key)
        return collection.document(row) if collection and row else None

    # -- stages --

    @staticmethod
    def first(rows: Iterator[Any]) -> Any:
        """Returns the first row and ends the reading; None when there is none."""
        found = next(rows, None)
        getattr(rows, "close", lambda: None)()
        return found

    @staticmethod
    def sort(rows: Iterable[tuple[Any, ...]], descending: Sequence[bool]) -> list[tuple[Any, ...]]:
        """Sorts rows by their first items, encoded keys; stable."""
        result = list(rows)
        for position in reversed(range(len(descending))):
            result.sort(key=itemgetter(position), reverse=descending[position])
        return result

    @staticmethod
    def group(
        rows: Iterable[tuple[Any, ...]], *, grouped: bool, in_order: bool
    ) -> list[tuple[tuple[Any, ...], list[tuple[Any, ...]]]]:
        """Groups rows by their first item, a tuple of values; without grouping there is one group, also of nothing."""
        if not grouped:
            return [((), list(rows))]
        groups: dict[bytes, tuple[tuple[Any, ...], list[tuple[Any, ...]]]] = {}
        for row in rows:
            key = b"".join(map(encode, row[0]))
            group = groups.get(key)
            if group is None:
                group = groups[key] = (row[0], [])
            group[1].append(row)
        return [groups[key] for key in sorted(groups)] if in_order else list(groups.values())

    @staticmethod
    def limit(offset: Any, count: Any) -> tuple[float, float]:
        """Returns how many rows LIMIT skips, and the number of the last one it lets through."""
        for value in (offset, count):
            if value is not None and (not is_number(value) or value < 0):
                raise ArangoError(400, QUERY_PARSE, f"AQL: syntax error, LIMIT takes numbers >= 0, not {value!r}")
        skipped = int(offset or 0)
        return skipped, math.inf if count is None else skipped + int(count)

    def drop(self) -> bool:
        """Counts a row that a FILTER drops; always true."""
        self.filtered += 1
        return True

    # -- writes --

    def insert(
        self, collection: Collection, rows: Iterable[tuple[Any, ...]], options: Any, want: bool
    ) -> Iterator[Any]:
        """Writes the first item of each row; yields old, new and the rest of the row."""
        inputs = list(rows)
        work: tuple[Operation, list[Any], list[Any]] = (
            "insert",
            [row[0] for row in inputs],
            [row[1:] for row in inputs],
        )
        return self._written(collection, work, options, want)

    def modify(
        self, collection: Collection, operation: Operation, rows: Iterable[tuple[Any, ...]], *, options: Any, want: bool
    ) -> Iterator[Any]:
        """Changes what the first item of each row selects, by its second one; yields old, new and the rest."""
        inputs = list(rows)
        documents = [_selected(row[0], row[1]) for row in inputs]
        return self._written(collection, (operation, documents, [row[2:] for row in inputs]), options, want)

    def _written(
        self, collection: Collection, work: tuple[Operation, list[Any], list[tuple[Any, ...]]], options: Any, want: bool
    ) -> Iterator[Any]:
        operation, documents, rests = work
        parsed, ignore_errors = _write_options(options, want)
        copies = [dict(each) if type(each) is dict else each for each in documents]
        if any(type(each) is not dict for each in copies) and not ignore_errors:
            raise ArangoError(
                400, DOCUMENT_TYPE_INVALID, "AQL: invalid document type: a document must be an object (while executing)"
            )
        outcomes = Batch(collection, self.connection, self.clock, parsed).write(operation, copies)
        result = []
        for outcome, rest in zip(outcomes, rests, strict=True):
            if isinstance(outcome, ArangoError):
                if not ignore_errors:
                    raise ArangoError(outcome.status, outcome.number, f"AQL: {outcome.message} (while executing)")
                self.writes_ignored += 1
                continue
            self.writes_executed += 1
            result.append((outcome.get("old"), outcome.get("new"), *rest))
        return iter(result)

    def statistics(self, seconds: float) -> dict[str, Any]:
        """Returns `extra.stats` of the answer."""
        stats: dict[str, Any] = {
            "writesExecuted": self.writes_executed,
            "writesIgnored": self.writes_ignored,
            "documentLookups": 0,
            "seeks": 0,
            "scannedFull": self.scanned_full,
            "scannedIndex": self.scanned_index,
            "cursorsCreated": 0,
            "cursorsRearmed": 0,
            "cacheHits": 0,
            "cacheMisses": 0,
            "filtered": self.filtered,
            "httpRequests": 0,
            "executionTime": seconds,
            "peakMemoryUsage": 0,
            "intermediateCommits": 0,
        }
        return stats if self.full_count is None else stats | {"fullCount": self.full_count}


def _sparse_index_serves(index: Index, equals: Sequence[Any], low: Bound | None) -> bool:
    """A sparse index lacks documents with a null field, so every field must be bound to something that is not null."""
    bound = len(equals) + (low is not None and not (low.inclusive and low.value is None))
    return bound == len(index.paths) and all(value is not None for value in equals)


def _selected(selector: Any, patch: Any) -> Any:
    if type(selector) is str:
        selector = {"_key": selector}
    if type(selector) is not dict or patch is None:
        return selector
    if type(patch) is not dict:
        return patch
    return {**patch, **{name: selector[name] for name in ("_key", "_id", "_rev") if name in selector}}


def _write_options(options: Any, want: bool) -> tuple[WriteOptions, bool]:
    if not isinstance(options, dict | None):
        raise ArangoError(400, BAD_PARAMETER, "AQL: OPTIONS must be an object")
    given = dict(options or {})
    for name in _IGNORED_OPTIONS:
        given.pop(name, None)
    mode = given.pop("overwriteMode", None)
    if mode not in (None, *_MODES):
        raise ArangoError(400, BAD_PARAMETER, f"invalid overwriteMode '{mode}'")
    overwrite = truthy(given.pop("overwrite", False))
    ignore_errors = truthy(given.pop("ignoreErrors", False))
    parsed = WriteOptions(
        mode=mode or ("replace" if overwrite else "conflict"),
        keep_null=truthy(given.pop("keepNull", True)),
        merge_objects=truthy(given.pop("mergeObjects", True)),
        check_revs=not truthy(given.pop("ignoreRevs", True)),
        return_new=want,
        return_old=want,
        version_attribute=given.pop("versionAttribute", None),
    )
    if given:
        raise unsupported(f"the option {', '.join(given)} of a data-modification statement")
    return parsed, ignore_errors


Generated = Callable[[Execution], Iterator[Any]]
