"""How the driver's requests travel: kept connections, one time limit, never a second try (the runner retries).

By urllib3 itself: ``requests``, the driver's own way, needs two thirds more processor time for each request, for the
sake of cookies, hooks and redirects that a database has not.
"""

import base64
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import certifi
from arango.http import HTTPClient
from arango.response import Response
from arango.typings import Headers
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.exceptions import HTTPError, LocationValueError

from streamforge_utils.errors import ConfigurationError, NotConnected, shown

CONNECT_TIMEOUT_S = 5.0


class SingleTryTransport(HTTPClient):
    """Sends each request once; ``timeout_s`` bounds the silence of the server within an answer."""

    def __init__(self, *, timeout_s: float, connections: int) -> None:
        self._timeout = Timeout(connect=min(CONNECT_TIMEOUT_S, timeout_s), read=timeout_s)
        self._connections = connections

    def create_session(self, host: str) -> HTTPConnectionPool:  # type: ignore[override]  # all that the driver does with it is to hand it back
        """A pool of connections to ``host``, as many as there are threads. Proxies of the surroundings are not used.

        Raises:
            ConfigurationError: the address is none.
        """
        try:
            parts = urlsplit(host)
            if parts.scheme == "https":
                return HTTPSConnectionPool(
                    parts.hostname or "", parts.port, maxsize=self._connections, ca_certs=certifi.where()
                )
            if parts.scheme == "http":
                return HTTPConnectionPool(parts.hostname or "", parts.port, maxsize=self._connections)
        except (ValueError, LocationValueError):
            pass
        # Not the libraries' words: they repeat the whole address.
        raise ConfigurationError(f"ARANGO_URL is not an address (http://host:port): {address(host)}")

    def send_request(  # type: ignore[override]  # noqa: PLR0913, PLR0917 - the driver's signature
        self,
        session: HTTPConnectionPool,
        method: str,
        url: str,
        headers: Headers | None = None,
        params: MutableMapping[str, str] | None = None,
        data: Any = None,
        auth: tuple[str, str] | None = None,
    ) -> Response:
        """One request, one answer; a redirect is an answer too, and is not followed.

        Raises:
            NotConnected: no connection, or no answer in time.
        """
        sent = dict(headers or {})
        if auth is not None:
            sent["authorization"] = "Basic " + base64.b64encode(":".join(auth).encode()).decode()
        target = urlsplit(url)._replace(scheme="", netloc="").geturl() + (f"?{urlencode(params)}" if params else "")
        body = data.encode() if isinstance(data, str) else data
        try:
            answer = session.urlopen(
                method.upper(), target, body, sent, retries=False, redirect=False, timeout=self._timeout
            )
        except HTTPError as error:
            raise NotConnected(f"ArangoDB at {address(url)} does not answer: {shown(_innermost(error))}") from error
        return Response(
            method=method,
            url=url,
            headers=answer.headers,
            status_code=answer.status,
            status_text=answer.reason or "",
            # JSON is UTF-8 by definition
            raw_body=answer.data.decode("utf-8", "replace"),
        )


def address(url: str) -> str:
    """Scheme, host and port alone: all that a message may show of an address."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return "it cannot be read"
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else "it names no host"


def _innermost(error: BaseException) -> BaseException:
    """What the system said: the wrappers around it repeat the address three times."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
