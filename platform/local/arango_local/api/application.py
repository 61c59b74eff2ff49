"""The ASGI application: reads a request, finds its handler, runs it in a thread, sends the answer.

No framework: ArangoDB's conventions (database in the path, its own errors and headers) leave little for one to do. Must
never let a handler's fault hang a request or end the server.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import re
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import parse_qsl

from arango_local.api import (
    collection_routes,
    cursor_routes,
    document_routes,
    import_routes,
    index_routes,
    server_routes,
)
from arango_local.api.messages import Handler, Request, Response, error_answer
from arango_local.catalog import SYSTEM
from arango_local.engine import Engine
from arango_local.errors import HTTP_CORRUPTED_JSON, ArangoError, unsupported

_INTERNAL: Final = 4
_THREADS: Final = 16
_ROUTES: Final = [
    (method, re.compile(path), handler)
    for module in (
        document_routes,
        cursor_routes,
        import_routes,
        collection_routes,
        index_routes,
        server_routes,
    )
    for method, path, handler in module.ROUTES
]
_ABSENT: Final = {
    "/_api/transaction": "stream transactions",
    "/_api/job": "async jobs",
    "/_api/gharial": "named graphs",
    "/_api/traversal": "graph traversal",
    "/_api/explain": "explain",
    "/_api/analyzer": "analyzers",
    "/_api/view": "views",
    "/_api/foxx": "Foxx",
    "/_api/tasks": "tasks",
    "/_api/aqlfunction": "user functions",
    "/_api/replication": "replication",
    "/_api/wal": "the write-ahead log",
    "/_api/batch": "batch requests",
    "/_open/auth": "JWT authentication (use basic)",
}
_ABSENT_HEADERS: Final = {"x-arango-async": "async jobs", "x-arango-trx-id": "stream transactions"}

_log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Application:
    """ArangoDB's HTTP API over an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="handler")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one HTTP request; anything else (uvicorn is told to send nothing else) is refused."""
        if scope["type"] != "http":
            raise ValueError(f"arango-local speaks HTTP only, not {scope['type']}")
        body = await _read_body(receive)
        if body is None:
            return
        response = await asyncio.get_running_loop().run_in_executor(self._threads, self._respond, scope, body)
        headers = {
            "content-type": "application/json; charset=utf-8",
            "content-length": str(len(response.body)),
            "x-arango-queue-time-seconds": "0.000000",
            **response.headers,
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": response.status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})

    def close(self) -> None:
        """Takes no more requests."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _respond(self, scope: Message, body: bytes) -> Response:
        try:
            request = self._request(scope, body)
            handler, groups = _find(request)
            return handler(self._engine, request, *groups)
        except ArangoError as error:
            if error.status >= 500 and error.__cause__ is not None:
                _log.warning(
                    "request failed", extra={"path": scope["path"], "number": error.number, "reason": error.message}
                )
            return error_answer(error)
        except Exception as error:
            _log.exception("unhandled error in a handler", extra={"method": scope["method"], "path": scope["path"]})
            return error_answer(
                ArangoError(500, _INTERNAL, f"internal error: {type(error).__name__}, see the server's log")
            )

    def _request(self, scope: Message, body: bytes) -> Request:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        user = self._engine.accounts.authenticate(headers.get("authorization", ""))
        for name, construct in _ABSENT_HEADERS.items():
            if name in headers:
                raise unsupported(construct)
        path, database = scope["path"], SYSTEM
        if path.startswith("/_db/"):
            _, _, database, rest = path.split("/", 3) if path.count("/") > 2 else (*path.split("/"), "")
            path = "/" + rest
        self._engine.catalog.in_database(database)
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True)) if scope["query_string"] else {}
        encoding = headers.get("content-encoding")
        plain = body if encoding is None else _decompressed(body, encoding)
        return Request(scope["method"], path, database, user, query, headers, plain)


def _find(request: Request) -> tuple[Handler, tuple[str, ...]]:
    for method, path, handler in _ROUTES:
        if method == request.method and (match := path.fullmatch(request.path)):
            return handler, match.groups()
    for prefix, construct in _ABSENT.items():
        if request.path == prefix or request.path.startswith(prefix + "/"):
            raise unsupported(construct)
    if request.path.startswith(("/_api/", "/_admin/")):
        raise unsupported(f"{request.method} {request.path}")
    raise ArangoError(404, 404, f"unknown path '{request.path}'")


def _decompressed(body: bytes, encoding: str) -> bytes:
    try:
        if encoding == "deflate":
            return zlib.decompress(body)
        if encoding == "gzip":
            return gzip.decompress(body)
    except (zlib.error, OSError, EOFError) as error:
        raise ArangoError(400, HTTP_CORRUPTED_JSON, f"the request body is no valid {encoding}: {error}") from error
    raise unsupported(f"the content encoding '{encoding}'")


async def _read_body(receive: Receive) -> bytes | None:
    """Returns the body; None when the client has gone."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)
