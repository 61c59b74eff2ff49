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
        """One request, one answer.

        Raises:
            NotConnected: no connection, or no answer in time.
            ConfigurationError: the address is none.
        """
        body = data.encode() if isinstance(data, str) else data
        try:
            answer = session.request(
                method, url, params=params, data=body, headers=headers, auth=auth, timeout=self._timeouts
            )
        except (InvalidSchema, InvalidURL, MissingSchema) as error:
            raise ConfigurationError(f"ARANGO_URL is not an address: {shown(error)}") from error
        except RequestException as error:
            address = urlsplit(url)
            where = f"{address.hostname}:{address.port}"
            raise NotConnected(f"ArangoDB at {where} does not answer: {shown(_innermost(error))}") from error
        return Response(
            method=method,
            url=answer.url,
            headers=answer.headers,
            status_code=answer.status_code,
            status_text=answer.reason,
            # Not answer.text: that guesses the encoding, and JSON is UTF-8 by definition.
            raw_body=answer.content.decode("utf-8", "replace"),
        )


def _innermost(error: BaseException) -> BaseException:
    """What the system said: the wrappers around it repeat the address three times."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
