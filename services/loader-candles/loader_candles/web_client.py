"""HTTP to one address, with its failures translated. Never retries nor follows a redirect."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from loader_candles import addresses
from streamforge_utils.errors import ConfigurationError, TransientError, shown

_MAX_BODY = 16 * 1024 * 1024
_LIMITS = {
    403: ("refused by the exchange's firewall", 60.0),
    418: ("the exchange limits requests", 120.0),
    429: ("the exchange limits requests", 60.0),
}
"""What was said, and how long to wait when no time is named; 418 = banned for not having slowed down after 429."""
_LATER = frozenset({408, 425})
"""Timed out on the way, too early."""
PASSING = _LATER | _LIMITS.keys()
"""Refusals below 500 that say nothing about the request."""
_SHORTEST_WAIT_SECONDS = 1.0  # a limit that ends at once would be asked again without a pause
_LONGEST_WAIT_SECONDS = 3 * 86_400.0  # the longest ban of the exchange


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; neither of ``PASSING`` nor 5xx."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class WebClient:
    """Asks one server. ``timeout_s`` is the longest wait for its next bytes."""

    def __init__(self, base_url: str, *, timeout_s: float) -> None:
        self.base_url = base_url
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient | None = None

    async def open(self) -> None:
        """Checks the address, connects to nothing.

        Raises:
            ConfigurationError: an address that is refused.
        """
        await self.close()
        await addresses.check(self.base_url)
        self._client = httpx.AsyncClient(timeout=self._timeout_s, headers={"accept-encoding": "identity"})

    async def close(self) -> None:
        """Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Answer:
        """The whole answer to a GET.

        Raises:
            TransientError: away, overloaded or limited (``retry_after``).
            ConfigurationError: an answer larger than any that belongs here.
        """
        body = bytearray()
        async with self.stream(path, params=params) as response:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _MAX_BODY:
                    raise ConfigurationError(f"{response.url}: more than {_MAX_BODY} bytes", code="bad-input")
            return Answer(response.status_code, response.headers, bytes(body))

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str | int] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """An answer whose body is still to be read; raises as ``get``."""
        if self._client is None:
            raise TransientError(f"{self.base_url}: not open")
        url = self.base_url + path
        try:
            async with self._client.stream("GET", url, params=params, headers=headers) as response:
                _check_peer(url, response)
                _check_status(url, response)
                yield response
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"{url}: {error}") from error
        except httpx.HTTPError as error:
            raise TransientError(f"{url} does not answer: {shown(error) or type(error).__name__}") from error


def whole_number(header: str) -> float | None:
    """The whole number that a header names; None when it names none."""
    # Digits of other scripts, as a superscript two, are digits to Python and yet no number; float takes any length.
    return float(header) if header.isascii() and header.isdecimal() else None


def _check_peer(url: str, response: httpx.Response) -> None:
    """Where the answer came from: the name may have had another address than when it was checked."""
    stream = response.extensions.get("network_stream")
    peer = stream and stream.get_extra_info("server_addr")
    if peer:
        addresses.refuse(url, str(peer[0]))


def _check_status(url: str, response: httpx.Response) -> None:
    status = response.status_code
    if status in _LIMITS:
        what, default = _LIMITS[status]
        named = whole_number(response.headers.get("retry-after", ""))
        wait = default if named is None else min(max(named, _SHORTEST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS)
        raise TransientError(f"{url}: {what} ({status}), wait {wait:.0f} s", retry_after=wait)
    if status in _LATER:
        raise TransientError(f"{url}: the server asks to try again ({status})")
    if status >= 500:
        raise TransientError(f"{url}: the server has a fault ({status})")
