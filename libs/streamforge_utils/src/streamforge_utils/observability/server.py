"""The small HTTP server of a worker: /metrics, /health/live, /health/ready. GET and HEAD, one request a connection.

Not uvicorn: three fixed answers need no framework, and a forked worker shall be up in a millisecond or two.
"""

import asyncio
import errno
from http import HTTPStatus

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streamforge_utils import codec
from streamforge_utils.errors import ConfigurationError
from streamforge_utils.observability.health import Health

MAX_REQUEST_BYTES = 16 * 1024
REQUEST_TIMEOUT_S = 5.0

_log = structlog.get_logger(component="observability")
_JSON = "application/json"

Answer = tuple[HTTPStatus, str, bytes]
"""Status, content type, body."""


class ObservabilityServer:
    """Serves one process' registry and health until it is closed."""

    def __init__(self, registry: CollectorRegistry, health: Health) -> None:
        self._registry = registry
        self._health = health
        self._server: asyncio.Server | None = None

    async def start(self, *, port: int, host: str = "127.0.0.1") -> int:
        """Listen on ``port`` (0: a free one).

        Returns:
            The port that is listened on.

        Raises:
            ConfigurationError: the port is in use, or not to be had.
        """
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_REQUEST_BYTES)
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror})"
            raise ConfigurationError(
                f"METRICS_PORT: port {port} of {host} {why}; name another, or 0 for a free one"
            ) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(head))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            _log.debug("request_given_up")  # a client that went away or never said what it wants
        finally:
            writer.close()

    def _response(self, head: bytes) -> bytes:
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = dict((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
        method, _, rest = request.partition(" ")
        status, content_type, body = self._answer(method, rest.partition(" ")[0], headers.get("accept", ""))
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if method == "HEAD" else body)

    def _answer(self, method: str, target: str, accept: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, _JSON, codec.encode({"detail": "only GET and HEAD"})
        path = target.partition("?")[0]
        if path == "/metrics":
            encoder, content_type = choose_encoder(accept)
            return HTTPStatus.OK, content_type, encoder(self._registry)
        if path in ("/health/live", "/health/ready"):
            is_fine, body = self._health.live() if path == "/health/live" else self._health.ready()
            status = HTTPStatus.OK if is_fine else HTTPStatus.SERVICE_UNAVAILABLE
            return status, _JSON, codec.encode(body)
        return HTTPStatus.NOT_FOUND, _JSON, codec.encode({"detail": "try /metrics, /health/live or /health/ready"})
