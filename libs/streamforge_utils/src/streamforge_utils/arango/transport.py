"""How the driver's requests travel: kept connections, one time limit, never a second try (the runner retries)."""

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from arango.http import HTTPClient
from arango.response import Response
from arango.typings import Headers
from requests import Session
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, RequestException

from streamforge_utils.errors import ConfigurationError, NotConnected, shown

CONNECT_TIMEOUT_S = 5.0


class SingleTryTransport(HTTPClient):
    """Sends each request once; ``timeout_s`` bounds the silence of the server within an answer."""

    def __init__(self, *, timeout_s: float, connections: int) -> None:
        self._timeouts = (min(CONNECT_TIMEOUT_S, timeout_s), timeout_s)
        self._connections = connections

    def create_session(self, host: str) -> Session:
        """A pool of connections to ``host``, as many as there are threads."""
        session = Session()
        # Proxies and .netrc of the surroundings are not for a database, and looking them up costs 0.1 ms a request.
        session.trust_env = False
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=self._connections, max_retries=0)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def send_request(  # noqa: PLR0913, PLR0917 - the driver's signature
        self,
        session: Session,
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
            ConfigurationError: the address is none.
        """
        body = data.encode() if isinstance(data, str) else data
        try:
            answer = session.request(
                method,
                url,
                params=params,
                data=body,
                headers=headers,
                auth=auth,
                timeout=self._timeouts,
                allow_redirects=False,
            )
        except (InvalidSchema, InvalidURL, MissingSchema) as error:
            # Not the driver's words: they repeat the whole address.
            raise ConfigurationError(f"ARANGO_URL is not an address (http://host:port): {address(url)}") from error
        except RequestException as error:
            raise NotConnected(f"ArangoDB at {address(url)} does not answer: {shown(_innermost(error))}") from error
        return Response(
            method=method,
            url=answer.url,
            headers=answer.headers,
            status_code=answer.status_code,
            status_text=answer.reason,
            # Not answer.text: that guesses the encoding, and JSON is UTF-8 by definition.
            raw_body=answer.content.decode("utf-8", "replace"),
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
