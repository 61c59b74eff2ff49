"""Kubernetes' API as raw HTTP for tests: paths and JSON as the API's own reference has them. No client library."""

import json
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from streamforge_local.failures import StackError
from streamforge_local.kubernetes.kubeconfig import Access

TIMEOUT_S = 30.0
_MERGE = "application/merge-patch+json"


class ApiError(StackError):
    """The server refused; ``status`` is HTTP's, ``reason`` Kubernetes' own word (``NotFound``, ``Forbidden``, ...)."""

    def __init__(self, call: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"kubernetes: {call}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason


def tls_context(access: Access) -> ssl.SSLContext:
    """Trusts the cluster's authority alone and shows the client's certificate."""
    context = ssl.create_default_context(cadata=access.authority)
    if access.pair is not None:
        # The library takes a certificate from files alone; this one is gone when it has been read.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(access.pair.public + access.pair.private)
            file.flush()
            context.load_cert_chain(file.name)
    return context


class KubeApi:
    """Calls as one user. Thread-safe. The network's errors are httpx' own, so that tests can tell them apart."""

    def __init__(self, access: Access, *, timeout_s: float = TIMEOUT_S) -> None:
        headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
        # The settings of a proxy are not for a cluster of one's own.
        self.http = httpx.Client(
            base_url=access.url, headers=headers, verify=tls_context(access), timeout=timeout_s, trust_env=False
        )
        """For whatever is not one of the calls below."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self.http.close()

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """An object, or with a collection's path a list.

        Raises:
            ApiError: the server refused, as in all other calls.
        """
        return self._call("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any], **query: str | int) -> dict[str, Any]:
        """Create."""
        return self._call("POST", path, body, query=query)

    def put(self, path: str, body: Mapping[str, Any], **query: str | int) -> dict[str, Any]:
        """Replace."""
        return self._call("PUT", path, body, query=query)

    def patch(self, path: str, body: Mapping[str, Any], *, kind: str = _MERGE, **query: str | int) -> dict[str, Any]:
        """Change; by default a merge patch."""
        return self._call("PATCH", path, body, query=query, kind=kind)

    def delete(self, path: str, body: Mapping[str, Any] | None = None, **query: str | int) -> dict[str, Any]:
        """Delete; ``body`` is DeleteOptions."""
        return self._call("DELETE", path, body, query=query)

    def watch(self, path: str, *, timeout_s: int = 30, **query: str | int) -> Iterator[dict[str, Any]]:
        """Events as they come, ``ERROR`` ones too, until the server ends the watch after ``timeout_s``."""
        asked = {**query, "watch": 1, "timeoutSeconds": timeout_s}
        with self.http.stream("GET", path, params=asked, timeout=timeout_s + TIMEOUT_S) as answer:
            if answer.is_error:
                answer.read()
                raise _refusal(f"watch {path}", answer)
            for line in answer.iter_lines():
                yield json.loads(line)

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str | int],
        kind: str = "application/json",
    ) -> dict[str, Any]:
        content = None if body is None else json.dumps(body)
        answer = self.http.request(method, path, params=query, content=content, headers={"Content-Type": kind})
        if answer.is_error:
            raise _refusal(f"{method} {path}", answer)
        found: dict[str, Any] = answer.json()
        return found


def _refusal(call: str, answer: httpx.Response) -> ApiError:
    try:
        status = answer.json()
        return ApiError(call, answer.status_code, status["reason"], status["message"])
    except (ValueError, KeyError, TypeError):
        return ApiError(call, answer.status_code, answer.reason_phrase, answer.text.strip())
