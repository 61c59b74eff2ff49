"""Parsing and compiling with caches: what runs a query asks here. Must never run one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import orjson

from arango_local.aql import execution, operators, translation
from arango_local.aql.compiler import NOWHERE, Compiler
from arango_local.aql.parser import parse
from arango_local.aql.scope import Lines, Workspace
from arango_local.aql.syntax import ParsedQuery
from arango_local.catalog import Catalog
from arango_local.encoding import encode
from arango_local.errors import QUERY_BIND_MISSING, QUERY_BIND_UNDECLARED, ArangoError, unsupported
from arango_local.indexes import Bound
from arango_local.values import eq, lt, to_number, to_string, truthy

_SIZE: Final = 512

_parsed = lru_cache(maxsize=_SIZE)(parse)


_RUNTIME: Final[dict[str, Any]] = {
    name: getattr(operators, name)
    for name in ("access", "arithmetic", "both", "compare", "either", "elements", "flattened", "interval", "quantified")
} | {
    "Bound": Bound,
    "encode": encode,
    "eq": eq,
    "lt": lt,
    "sliced": translation.sliced,
    "to_number": to_number,
    "to_string": to_string,
    "truthy": truthy,
}


@dataclass(frozen=True)
class CompiledQuery:
    """A query that can be run.

    Attributes:
        run: Yields the result's rows.
        reads: The collections that it reads.
        writes: The collections that it writes.
        source: The generated code.
    """

    run: execution.Generated
    reads: frozenset[str]
    writes: frozenset[str]
    source: str


def _compile_query(parsed: ParsedQuery, catalog: Catalog, database: str, binds: dict[str, Any]) -> CompiledQuery:
    """The result holds while the catalog, the collection binds and the attribute binds stay the same."""
    workspace = Workspace(catalog, database, binds)
    compiler = Compiler(workspace, {name: binds[name] for name in parsed.attribute_binds})
    lines = Lines(0)
    lines.add("def query(X):", deeper=True)
    lines.add("B = X.binds")
    name = compiler.block(parsed.statements, NOWHERE, lines, is_top=True)
    lines.add(f"yield from {name}()")
    source = "\n".join(lines.text)
    namespace = _RUNTIME | workspace.constants
    exec(compile(source, "<aql>", "exec"), namespace)  # noqa: S102 - source made here; user text only as repr() of literals
    return CompiledQuery(namespace["query"], frozenset(workspace.reads), frozenset(workspace.writes), source)


class QueryCache:
    """Compiled queries of one store, the least recently used forgotten."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = Lock()
        self._compiled: OrderedDict[tuple[Any, ...], CompiledQuery] = OrderedDict()

    def compiled(self, database: str, text: str, binds: dict[str, Any]) -> CompiledQuery:
        """Returns a query ready to run.

        Raises:
            ArangoError: What is wrong with the query or its bind parameters.
        """
        try:
            return self._compiled_query(database, text, binds)
        except (RecursionError, SyntaxError) as error:
            # Python nests 20 loops and some hundred parentheses; a query made by a person has neither.
            raise unsupported("a query that is nested so deeply") from error

    def _compiled_query(self, database: str, text: str, binds: dict[str, Any]) -> CompiledQuery:
        parsed = _parsed(text)
        _check_binds(parsed, binds)
        # Collections and attributes are part of the code; all other binds are looked up when it runs.
        fixed = [(name, binds[name]) for name in sorted(parsed.binds) if _is_fixed(parsed, name)]
        key = (database, text, self._catalog.version, orjson.dumps(fixed))
        with self._lock:
            found = self._compiled.get(key)
            if found is not None:
                self._compiled.move_to_end(key)
                return found
        compiled = _compile_query(parsed, self._catalog, database, binds)
        with self._lock:
            self._compiled[key] = compiled
            if len(self._compiled) > _SIZE:
                self._compiled.popitem(last=False)
        return compiled


def _is_fixed(parsed: ParsedQuery, name: str) -> bool:
    return name.startswith("@") or name in parsed.attribute_binds


def _check_binds(parsed: ParsedQuery, binds: dict[str, Any]) -> None:
    for name in parsed.binds:
        if name not in binds:
            raise ArangoError(
                400, QUERY_BIND_MISSING, f"AQL: no value specified for declared bind parameter '{name}' (while parsing)"
            )
    for name in binds:
        if name not in parsed.binds:
            raise ArangoError(
                400,
                QUERY_BIND_UNDECLARED,
                f"AQL: bind parameter '{name}' was not declared in the query (while parsing)",
            )
