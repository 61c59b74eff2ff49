"""What generated code may use: Python names for variables, constants, and the lines written so far.

Must never know what the code does.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from arango_local.aql.syntax import Bind, Variable
from arango_local.catalog import Catalog
from arango_local.collection import Collection
from arango_local.errors import QUERY_ACCESS_AFTER_MODIFICATION, QUERY_BIND_TYPE, ArangoError


class Slot(NamedTuple):
    """The Python name of an AQL variable, and whether it always holds a document (then `.get` needs no test)."""

    name: str
    is_document: bool = False


@dataclass(frozen=True)
class Scope:
    """The variables that can be seen; `parameters` are those that exist only inside an expression (CURRENT)."""

    slots: dict[str, Slot]
    parameters: tuple[str, ...] = ()

    def with_slot(self, variable: str, slot: Slot, *, parameter: bool = False) -> Scope:
        """Returns this scope with one more variable."""
        more = (slot.name,) if parameter else ()
        return Scope({**self.slots, variable: slot}, self.parameters + more)


class Lines:
    """Python source under construction."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.text: list[str] = []

    def add(self, line: str, *, deeper: bool = False) -> None:
        """Writes a line; `deeper` makes the next ones its block."""
        self.text.append(" " * self.depth + line)
        self.depth += deeper


@dataclass
class Workspace:
    """What the parts of one compilation share."""

    catalog: Catalog
    database: str
    binds: dict[str, Any]
    constants: dict[str, Any] = field(default_factory=dict)
    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def fresh(self, stem: str) -> str:
        """Returns a Python name that is not used yet."""
        return f"{stem}{next(self._numbers)}"

    def constant(self, value: Any) -> str:
        """Returns the Python name of an object that the code needs."""
        name = self.fresh("K")
        self.constants[name] = value
        return name

    def collection_name(self, reference: Variable | Bind) -> str:
        """Returns the name of a collection.

        Raises:
            ArangoError: 1553 when a bind parameter is no string.
        """
        if isinstance(reference, Variable):
            return reference.name
        name = self.binds[reference.name]
        if type(name) is not str:
            raise ArangoError(400, QUERY_BIND_TYPE, f"bind parameter '{reference.name}' has an invalid value or type")
        return name

    def read(self, reference: Variable | Bind) -> Collection:
        """Returns a collection that the query reads.

        Raises:
            ArangoError: 1203 when there is none, 1579 when an earlier statement has written it.
        """
        collection = self.catalog.collection(self.database, self.collection_name(reference))
        if collection.name in self.writes:
            raise _too_late(collection)
        self.reads.add(collection.name)
        return collection

    def write(self, reference: Variable | Bind) -> Collection:
        """Returns a collection that the query writes; as `read`."""
        collection = self.catalog.collection(self.database, self.collection_name(reference))
        if collection.name in self.writes:
            raise _too_late(collection)
        self.writes.add(collection.name)
        return collection


def _too_late(collection: Collection) -> ArangoError:
    message = (
        f"AQL: access after data-modification: '{collection.name}' was written by an earlier statement of the query"
    )
    return ArangoError(400, QUERY_ACCESS_AFTER_MODIFICATION, message)
