"""Requests and answers of the HTTP API as handlers see them. Must never know about ASGI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson

from arango_local.errors import BAD_PARAMETER, HTTP_CORRUPTED_JSON, ArangoError

_TRUE: Final = ("1", "true", "yes", "on", "y")


@dataclass(frozen=True)
class Request:
    """A request; header names are in lower case."""

    method: str
    path: str
    database: str
    user: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""

    def json(self) -> Any:
        """Returns the parsed body; None when there is none.

        Raises:
            ArangoError: 600 when it is no JSON.
        """
        if not self.body:
            return None
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise ArangoError(400, HTTP_CORRUPTED_JSON, f"invalid JSON in the request body: {error}") from None

    def object(self) -> dict[str, Any]:
        """Returns the body, which must be an object or absent.

        Raises:
            ArangoError: 600 or 10 when it is something else.
        """
        body = self.json()
        if body is None:
            return {}
        if not isinstance(body, dict):
            raise ArangoError(400, BAD_PARAMETER, "the request body must be a JSON object")
        return body

    def flag(self, name: str, default: bool = False) -> bool:
        """Returns a query parameter that is a bool."""
        value = self.query.get(name)
        return default if value is None else value.lower() in _TRUE

    def revision(self, header: str) -> str | None:
        """Returns the revision in an If-Match or If-None-Match header, with or without quotes."""
        value = self.headers.get(header)
        return None if value is None else value.strip().strip('"')


@dataclass(frozen=True)
class Response:
    """An answer; `body` is JSON that is ready to send."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Handler: TypeAlias = Callable[..., Response]
Route: TypeAlias = tuple[str, str, Handler]
NAME: Final = r"([^/]+)"


def answer(status: int, content: Any, **headers: str) -> Response:
    """Returns an answer with a JSON body; underscores in header names stand for hyphens."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, orjson.dumps(content), names)


def result(content: Any, status: int = 200) -> Response:
    """Returns the usual envelope `{error, code, result}`."""
    return answer(status, {"error": False, "code": status, "result": content})


def error_answer(error: ArangoError) -> Response:
    """Returns the answer of an error."""
    headers = {"etag": f'"{error.extra["_rev"]}"'} if "_rev" in error.extra else {}
    return Response(error.status, orjson.dumps(error.body()), headers)
