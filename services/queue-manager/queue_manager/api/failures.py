"""Every error as a problem document, and the guard around all requests: size, time, counting, what is unexpected."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from queue_manager.api.parts import Parts
from queue_manager.decisions import NotAllowed
from queue_manager.launcher.interface import LauncherError
from queue_manager.params import Fault, pointer
from queue_manager.problems import Problem, invalid, unavailable
from queue_manager.resolve import Invalid
from streamforge_utils.errors import ConfigurationError, FencedError, TransientError

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
_log = structlog.get_logger(component="api")


def problem_of(error: Exception) -> Problem | None:
    """The problem that tells of an error; None: nobody foresaw it."""
    found: Problem | None = None
    match error:
        case Problem():
            found = error
        case Invalid():
            found = invalid(error.faults)
        case RequestValidationError():
            found = invalid([_parameter_fault(fault) for fault in error.errors()])
        case NotAllowed():
            found = Problem("conflict", str(error))
        case FencedError():
            found = Problem("conflict", "another call does the same at this moment; look again when it is done")
        case TransientError() | ConfigurationError():
            found = unavailable(error.message)
        case LauncherError():
            found = unavailable(f"the launcher does not answer: {error}")
        case TimeoutError():
            found = unavailable("it took too long: the store or Kafka does not answer")
        case HTTPException():
            found = _http_problem(error)
    return found


def _parameter_fault(fault: dict[str, Any]) -> Fault:
    message = str(fault["msg"])
    if fault["type"] == "extra_forbidden":
        message = "unknown parameter"
    return Fault(pointer(*fault["loc"]), message[:1].lower() + message[1:])


def _http_problem(error: HTTPException) -> Problem:
    headers = dict(error.headers or {})
    if error.status_code == 405:
        return Problem("method-not-allowed", f"take one of {headers.get('Allow', 'none')}", headers=headers)
    if error.status_code == 404:
        return Problem("not-found", "nothing lies at this path; /docs lists what there is")
    return Problem("malformed", str(error.detail)[:200])


def add_handlers(app: FastAPI) -> None:
    """Answer every foreseen error by its problem document."""

    async def handle(_request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if problem is None:
            raise error
        if problem.status == 503:
            _log.warning("request_unavailable", reason=problem.detail)
        return problem.response()

    for kind in (
        Problem,
        Invalid,
        NotAllowed,
        RequestValidationError,
        HTTPException,
        TransientError,
        ConfigurationError,
        FencedError,
        LauncherError,
        TimeoutError,
    ):
        app.add_exception_handler(kind, handle)


class BoundedRoute(APIRoute):
    """A route whose handler (with the reading of the body) has a deadline; a stream's body comes after it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler under the deadline of ``ApiSettings.request_timeout_s``."""
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            async with asyncio.timeout(request.app.state.parts.settings.request_timeout_s):
                return await handler(request)

        return bounded


class Guard:
    """The outermost layer (pure ASGI: a stream passes as it comes)."""

    def __init__(self, app: ASGIApp, *, parts: Parts) -> None:
        self._app, self._parts = app, parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._observe(scope, status, time.perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, _Limited(receive, scope, self._parts.settings.max_body), sent)
        except Problem as problem:
            if status == 0:
                await problem.response()(scope, receive, sent)
        except Exception as error:
            _log.exception("request_failed", method=scope["method"], path=scope["path"], error=type(error).__name__)
            if status == 0:
                fault = Problem("internal", "an unexpected fault; the queue-manager's log says more")
                await fault.response()(scope, receive, sent)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        metrics = self._parts.metrics
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics.requests.labels(method, route, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)


class _Limited:
    """Receives a body up to a limit, whether its length was told or not."""

    def __init__(self, receive: Receive, scope: Scope, limit: int) -> None:
        self._receive, self._limit, self._seen = receive, limit, 0
        told = dict(scope["headers"]).get(b"content-length", b"")
        self._told = int(told) if told.isdigit() else 0

    async def __call__(self) -> Message:
        """The next message.

        Raises:
            Problem: ``too-large``.
        """
        if self._told > self._limit:
            raise self._too_large()
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            raise self._too_large()
        return message

    def _too_large(self) -> Problem:
        return Problem("too-large", f"the body is larger than {self._limit} bytes", headers={"Connection": "close"})
