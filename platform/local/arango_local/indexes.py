"""Secondary indexes: their definition, their keys, and the ranges of keys that a query needs.

An index `i<id>` is a table of byte keys (`encoding`), so that its order is AQL's order. Must never evaluate a query:
the compiler says which fields are bound to what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from arango_local.encoding import AFTER, encode
from arango_local.errors import BAD_PARAMETER, ArangoError, unsupported
from arango_local.values import attribute, is_number

PERSISTENT: Final = "persistent"
TTL: Final = "ttl"
_ALIASES: Final = {"hash": PERSISTENT, "skiplist": PERSISTENT}
_KNOWN_ELSEWHERE: Final = {"geo", "fulltext", "inverted", "mdi", "mdi-prefixed", "zkd", "vector", "edge", "primary"}


@dataclass(frozen=True)
class IndexDefinition:
    """What a client asked for.

    Attributes:
        kind: `persistent` or `ttl`.
        fields: Dotted attribute paths.
        name: Unique in the collection; empty = a generated one.
        expire_after: Seconds after the time in the field of a ttl index at which a document is removed.
    """

    kind: str
    fields: tuple[str, ...]
    name: str = ""
    unique: bool = False
    sparse: bool = False
    expire_after: float | None = None

    @classmethod
    def parse(cls, body: Any) -> IndexDefinition:
        """Reads a client's definition.

        Raises:
            ArangoError: 10 for a wrong definition, 9 for a kind of index that this server does not have.
        """
        if not isinstance(body, dict):
            raise ArangoError(400, BAD_PARAMETER, "an index definition must be a JSON object")
        given = str(body.get("type", ""))
        kind = _ALIASES.get(given, given)
        if kind in _KNOWN_ELSEWHERE:
            raise unsupported(f"index type '{kind}'")
        if kind not in (PERSISTENT, TTL):
            raise ArangoError(400, BAD_PARAMETER, f"invalid index type '{kind}'")
        fields = _parse_fields(body.get("fields"))
        ttl = kind == TTL
        expire_after: Any = body.get("expireAfter")
        if ttl and (len(fields) != 1 or not is_number(expire_after) or expire_after < 0):
            raise ArangoError(400, BAD_PARAMETER, "a ttl index needs one field and 'expireAfter', seconds >= 0")
        if body.get("storedValues"):
            raise unsupported("the index option 'storedValues'")
        return cls(
            kind=kind,
            fields=fields,
            name=str(body.get("name") or ""),
            unique=bool(body.get("unique")) and not ttl,
            sparse=bool(body.get("sparse")) or ttl,
            expire_after=expire_after if ttl else None,
        )

    def same_as(self, other: IndexDefinition) -> bool:
        """Says whether another definition makes the same index, whatever its name."""
        mine = (self.kind, self.fields, self.unique, self.sparse)
        return mine == (other.kind, other.fields, other.unique, other.sparse)

    def properties(self) -> dict[str, Any]:
        """Returns the attributes that ArangoDB shows, without the id."""
        shown: dict[str, Any] = {"type": self.kind, "name": self.name, "fields": list(self.fields)}
        shown |= {"unique": self.unique, "sparse": self.sparse, "selectivityEstimate": 1}
        if self.kind == TTL:
            return shown | {"estimates": False, "expireAfter": self.expire_after}
        return shown | {"deduplicate": True, "estimates": True, "cacheEnabled": False}


def _parse_fields(fields: Any) -> tuple[str, ...]:
    if not isinstance(fields, list) or not fields or not all(isinstance(field, str) and field for field in fields):
        raise ArangoError(400, BAD_PARAMETER, "'fields' must be a list of attribute names that is not empty")
    for field in fields:
        if "[*]" in field:
            raise unsupported(f"the array index field '{field}'")
        if field == "_id" or (field == "_key" and len(fields) == 1):
            raise ArangoError(400, BAD_PARAMETER, f"'{field}' cannot be indexed")
    if len(set(fields)) != len(fields):
        raise ArangoError(400, BAD_PARAMETER, "'fields' names an attribute twice")
    return tuple(fields)


class Index:
    """A secondary index of one collection."""

    def __init__(self, number: int, definition: IndexDefinition) -> None:
        self.number = number
        self.definition = definition
        self.table = f"i{number}"
        self.unique = definition.unique
        self.sparse = definition.sparse
        self.paths = [tuple(field.split(".")) for field in definition.fields]
        # Documents are indexed without their system attributes, so a field "_key" is taken from the row.
        self._plain = self.paths[0][0] if len(self.paths) == 1 and len(self.paths[0]) == 1 else None

    @property
    def create_statement(self) -> str:
        """Returns the SQL that makes the table; a unique index holds each key once."""
        primary = "k" if self.unique else "k, key"
        return f"CREATE TABLE {self.table}(k BLOB NOT NULL, key TEXT NOT NULL, PRIMARY KEY({primary})) WITHOUT ROWID"

    def untouched(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        """Says whether a change of a document surely leaves its entry as it is; a cheap test, most updates pass it."""
        for path in self.paths:
            before, after = attribute(old, path), attribute(new, path)
            if type(before) is not type(after) or before != after:
                return False
        return True

    def key(self, key: str, document: dict[str, Any]) -> bytes | None:
        """Returns the index key of a document; None when a sparse index does not hold it."""
        if self._plain is not None:
            value = document.get(self._plain)
            return None if value is None and self.sparse else encode(value)
        parts = []
        for path in self.paths:
            value = key if path == ("_key",) else attribute(document, path)
            if value is None and self.sparse:
                return None
            parts.append(encode(value))
        return b"".join(parts)


@dataclass(frozen=True)
class Bound:
    """One end of a range: a value, and whether the value itself is inside."""

    value: Any
    inclusive: bool


def key_range(equals: Sequence[Any], low: Bound | None, high: Bound | None) -> tuple[bytes, bytes]:
    """Returns the half-open range of keys whose first fields equal `equals` and whose next is between the bounds."""
    prefix = b"".join(map(encode, equals))
    first = prefix if low is None else prefix + encode(low.value) + (b"" if low.inclusive else AFTER)
    if high is None:
        return first, prefix + AFTER
    return first, prefix + encode(high.value) + (AFTER if high.inclusive else b"")
