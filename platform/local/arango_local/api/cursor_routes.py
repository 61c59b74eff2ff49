"""`/_api/cursor` and `/_api/query`: running AQL and fetching results."""

from __future__ import annotations

import time
from typing import Any, Final

from arango_local.api.messages import NAME, Request, Response, Route, answer
from arango_local.aql.parser import parse
from arango_local.cursors import Cursor, QueryRequest
from arango_local.engine import Engine
from arango_local.errors import BAD_PARAMETER, QUERY_EMPTY, ArangoError, unsupported
from arango_local.values import dump, is_number

_DEFAULT_BATCH: Final = 1000
_DEFAULT_TTL_SECONDS: Final = 30.0
_ZERO_BATCH: Final = 17
_REFUSED_OPTIONS: Final = ("profile", "allPlans", "stream", "skipInaccessibleCollections", "shardIds")


def create(engine: Engine, request: Request) -> Response:
    """Runs a query; answers its first batch."""
    body = request.object()
    # python-arango sends options at the top level too.
    given = body.get("options") or {}
    if not isinstance(given, dict):
        raise ArangoError(400, BAD_PARAMETER, "'options' must be an object")
    options = {**body, **given}
    batch_size = _checked(body, options)
    query = QueryRequest(
        database=request.database,
        user=request.user,
        text=body["query"],
        binds=body.get("bindVars") or {},
        full_count=bool(options.get("fullCount")),
        max_runtime=_seconds(options, "maxRuntime", 0.0),
    )
    result = engine.queries.run(query)
    if options.get("failOnWarning") and result.warnings:
        warning = result.warnings[0]
        raise ArangoError(400, warning["code"], f"AQL: {warning['message']} (while executing)")
    ttl = _seconds(body, "ttl", _DEFAULT_TTL_SECONDS)
    cursor = Cursor(
        number=engine.cursors.next_number(),
        database=request.database,
        result=result,
        batch_size=batch_size,
        ttl=ttl,
        show_count=bool(body.get("count")),
        keep_last=bool(options.get("allowRetry")),
        expires=time.monotonic() + ttl,
    )
    content, has_more = _next_batch(cursor, 201)
    if has_more or cursor.keep_last:
        engine.cursors.keep(cursor)
    return Response(201, content)


def _checked(body: dict[str, Any], options: dict[str, Any]) -> int:
    if not isinstance(body.get("query"), str) or not body["query"].strip():
        raise ArangoError(400, QUERY_EMPTY, "query is empty")
    if not isinstance(body.get("bindVars", {}), dict | None):
        raise ArangoError(400, BAD_PARAMETER, "'bindVars' must be an object")
    for name in _REFUSED_OPTIONS:
        if options.get(name):
            raise unsupported(f"the query option '{name}'")
    batch_size = body.get("batchSize", _DEFAULT_BATCH)
    if type(batch_size) is not int or batch_size <= 0:
        raise ArangoError(400, _ZERO_BATCH, "expecting a positive integer for 'batchSize'")
    return batch_size


def _seconds(options: dict[str, Any], name: str, default: float) -> float:
    value = options.get(name) or default
    if not is_number(value) or value < 0:
        raise ArangoError(400, BAD_PARAMETER, f"'{name}' must be a number of seconds")
    return float(value)


def _next_batch(cursor: Cursor, code: int) -> tuple[bytes, bool]:
    rows, has_more = cursor.take()
    extra = {"warnings": cursor.result.warnings, "stats": cursor.result.statistics}
    content: dict[str, Any] = {"result": rows, "hasMore": has_more, "cached": False, "extra": extra}
    if has_more or cursor.keep_last:
        content["id"] = cursor.number
    if has_more:
        content["nextBatchId"] = str(cursor.batch + 1)
    if cursor.show_count:
        content["count"] = len(cursor.result.rows)
    cursor.last_answer = dump(content | {"error": False, "code": code})
    return cursor.last_answer, has_more


def fetch(engine: Engine, request: Request, number: str) -> Response:
    """Answers the next batch; the last one ends the cursor."""
    cursor = engine.cursors.find(request.database, number)
    with cursor.lock:
        content, has_more = _next_batch(cursor, 200)
    if not has_more and not cursor.keep_last:
        engine.cursors.forget(number)
    return Response(200, content)


def fetch_batch(engine: Engine, request: Request, number: str, batch: str) -> Response:
    """Answers the next batch by its number, or, of a cursor with `allowRetry`, the last one again."""
    cursor = engine.cursors.find(request.database, number)
    with cursor.lock:
        if cursor.keep_last and batch == str(cursor.batch):
            return Response(200, cursor.last_answer)
        if batch != str(cursor.batch + 1) or cursor.position >= len(cursor.result.rows):
            raise ArangoError(400, 400, f"batch {batch} of cursor {number} is neither the last nor the next one")
    return fetch(engine, request, number)


def drop(engine: Engine, request: Request, number: str) -> Response:
    """Ends a cursor."""
    engine.cursors.find(request.database, number)
    engine.cursors.forget(number)
    return answer(202, {"id": number, "error": False, "code": 202})


def validate(_engine: Engine, request: Request) -> Response:
    """Parses a query; answers the names of its bind parameters."""
    parsed = parse(str(request.object().get("query") or ""))
    content = {
        "error": False,
        "code": 200,
        "parsed": True,
        "collections": [],
        "bindVars": sorted(parsed.binds),
        "ast": [],
    }
    return answer(200, content)


ROUTES: Final[list[Route]] = [
    ("POST", "/_api/cursor", create),
    ("POST", f"/_api/cursor/{NAME}", fetch),
    ("PUT", f"/_api/cursor/{NAME}", fetch),
    ("POST", f"/_api/cursor/{NAME}/{NAME}", fetch_batch),
    ("DELETE", f"/_api/cursor/{NAME}", drop),
    ("POST", "/_api/query", validate),
]
