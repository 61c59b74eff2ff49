"""Parsing and compiling with caches: what runs a query asks here. Must never run one."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import orjson

from arango_local.aql.compiler import CompiledQuery, compile_query
from arango_local.aql.parser import parse
from arango_local.aql.syntax import ParsedQuery
from arango_local.catalog import Catalog
from arango_local.errors import QUERY_BIND_MISSING, QUERY_BIND_UNDECLARED, ArangoError

_SIZE: Final = 512

_parsed = lru_cache(maxsize=_SIZE)(parse)


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
        parsed = _parsed(text)
        _check_binds(parsed, binds)
        # Collections and attributes are part of the code; all other binds are looked up when it runs.
        fixed = [
            (name, binds[name])
            for name in sorted(parsed.binds)
            if name.startswith("@") or name in parsed.attribute_binds
        ]
        key = (database, text, self._catalog.version, orjson.dumps(fixed))
        with self._lock:
            found = self._compiled.get(key)
            if found is not None:
                self._compiled.move_to_end(key)
                return found
        compiled = compile_query(parsed, self._catalog, database, binds)
        with self._lock:
            self._compiled[key] = compiled
            if len(self._compiled) > _SIZE:
                self._compiled.popitem(last=False)
        return compiled


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
