"""The cluster's API as raw JSON, over the official client's connection.

``kubernetes`` is imported here alone and only when a cluster is asked for: it takes a second and 100 MB. Its typed
models are not used: a list of 5,000 Jobs would be seconds of work and a gigabyte.
"""

import asyncio
import ipaddress
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog

from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from streamforge_utils.errors import ConfigurationError

Json = dict[str, Any]

CALL_S = 8.0
"""For a call that answers at once; a cluster whose store is slow still does, and one that is away is told in time."""
CONNECT_S = 5.0
CONNECTIONS = 24
"""Two watches, two lists, the Lease and what eight workers do at once; each holds up to 0.3 MB of TLS buffers."""
PAGE = 50
"""Objects of a list that are held in their raw form at once: some 50 KB each."""
_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_PATCH = "application/merge-patch+json"

_log = structlog.get_logger(component="kubernetes")


class ClusterError(Exception):
    """The API server said no. ``reason`` and the message are those of its Status object, ``status`` is HTTP's."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        """Seconds after which it wants to be asked again, when it said so."""


class ClusterAway(ClusterError):
    """No answer, a broken one, or "not now" (429, 5xx): the same call may succeed later."""


class _Login:
    """A client with the credentials of one moment. Who follows a list with it goes on when they are read anew."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.users = 0
        self.is_over = False


class ClusterApi:
    """Connects on first use; on 401 the credentials are read anew, for tokens rotate."""

    def __init__(self, settings: KubernetesSettings, *, connections: int = CONNECTIONS) -> None:
        """A client; ``connections``: how many it may have at once, 0: any number. Further calls wait for one."""
        self._settings = settings
        self._connections = connections
        self._login: _Login | None = None
        self._logins: set[_Login] = set()
        """All that are not closed: the present one, and former ones that somebody still uses."""
        self._opening = asyncio.Lock()

    @property
    def namespace(self) -> str:
        """The one in which everything happens."""
        return self._settings.namespace

    async def address(self) -> str:
        """The API server's URL, as the credentials name it; raises ConfigurationError."""
        async with self._connected() as login:
            return str(login.client.configuration.host)

    async def get(self, path: str, **query: object) -> Json:
        """GET; raises ClusterError."""
        return await self._call("GET", path, query=query)

    async def all(self, path: str, selector: str) -> list[Json]:
        """A whole list; raises ClusterError (410: a page came too late)."""
        return [item async for items, _ in self.pages(path, selector) for item in items]

    async def pages(
        self, path: str, selector: str | None = None, *, limit: int = PAGE, **query: object
    ) -> AsyncGenerator[tuple[list[Json], str]]:
        """The pages of a list, each with the resource version of all, for who keeps little of each object.

        The whole of 5,000 Jobs would be 200 MB. ``limit``: objects of a page. Raises as ``all``.
        """
        token = None
        while True:
            page = await self.get(path, labelSelector=selector, limit=limit, **{**query, "continue": token})
            yield page.pop("items"), page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue")
            if not token:
                return

    async def create(self, path: str, body: Json) -> Json:
        """POST; raises ClusterError (409 ``AlreadyExists``)."""
        return await self._call("POST", path, body=body)

    async def replace(self, path: str, body: Json) -> Json:
        """PUT; raises ClusterError (409 ``Conflict`` when ``resourceVersion`` is not the present one)."""
        return await self._call("PUT", path, body=body)

    async def patch(self, path: str, body: Json) -> Json:
        """PATCH as JSON merge (RFC 7396); raises ClusterError."""
        return await self._call("PATCH", path, body=body, headers={"Content-Type": _PATCH})

    async def delete(self, path: str, options: Json) -> None:
        """DELETE with DeleteOptions; what is not there (404) is fine, as is another of that name (409)."""
        try:
            await self._call("DELETE", path, body={"kind": "DeleteOptions", "apiVersion": "v1", **options})
        except ClusterError as error:
            if error.status not in (404, 409):
                raise

    async def stream(self, path: str, *, silence_s: float, **query: object) -> AsyncGenerator[bytes]:
        """The lines of an answer that goes on.

        Raises:
            ClusterAway: nothing came for ``silence_s`` seconds, or the connection broke.
        """
        async with self._answer("GET", path, query=query, read_s=silence_s) as answer:
            try:
                async for line in answer.content:
                    yield line
            except _faults() as error:
                raise self._away(error) from error

    @asynccontextmanager
    async def opened(self, path: str, *, silence_s: float, **query: object) -> AsyncIterator[AsyncIterator[bytes]]:
        """An answer that goes on, piece by piece as it comes; entered when it has begun. Raises as ``stream`` does."""
        async with self._answer("GET", path, query=query, read_s=silence_s) as answer:
            yield self._pieces(answer)

    async def _pieces(self, answer: Any) -> AsyncGenerator[bytes]:
        try:
            async for piece in answer.content.iter_any():
                yield piece
        except _faults() as error:
            raise self._away(error) from error

    async def close(self) -> None:
        """Drop the connections. Idempotent."""
        self._login = None
        while self._logins:
            await self._logins.pop().client.close()

    # -- one call ------------------------------------------------------------------------------------------------------

    async def _call(self, method: str, path: str, **more: Any) -> Json:
        async with self._answer(method, path, **more) as answer:
            try:
                body: Json = orjson.loads(await answer.read())
            except _faults() as error:
                raise self._away(error) from error
            return body

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
        read_s: float | None = None,
    ) -> AsyncIterator[Any]:
        """The response of aiohttp, whose status is 2xx."""
        sent = dict(headers or {"Content-Type": "application/json"}) | {"Accept": "application/json"}
        pairs = [(name, _text(value)) for name, value in (query or {}).items() if value is not None]
        asked = {"query_params": pairs, "header_params": sent, "body": body}
        async with self._sent(method, path, asked, read_s) as answer:
            if answer.status != 401:
                await _refuse(answer)
                yield answer
                return
        # nothing was done: once more, with the credentials as they are now
        async with self._sent(method, path, asked, read_s) as answer:
            await _refuse(answer)
            yield answer

    @asynccontextmanager
    async def _sent(self, method: str, path: str, asked: Json, read_s: float | None) -> AsyncIterator[Any]:
        """The response to one request, whatever its status; raises ClusterAway when there is none."""
        from aiohttp import ClientTimeout  # noqa: PLC0415 - see the module

        timeout = ClientTimeout(total=None if read_s else CALL_S, sock_connect=CONNECT_S, sock_read=read_s)
        async with self._connected() as login:
            try:
                request = await login.client.param_serialize(method, path, **asked, auth_settings=["BearerToken"])
                answer = (await login.client.call_api(*request, _request_timeout=timeout)).response
            except _faults() as error:
                raise self._away(error) from error
            if answer.status == 401:
                self._forget(login)
            try:
                yield answer
            finally:
                answer.close() if read_s else answer.release()

    def _away(self, error: Exception) -> ClusterAway:
        host = self._login.client.configuration.host if self._login is not None else "the cluster"
        return ClusterAway(0, "Unreachable", f"{host} does not answer ({str(error) or type(error).__name__})")

    # -- the connection ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Login]:
        """The present log-in; a former one is closed by its last user."""
        login = await self._log_in()
        login.users += 1
        try:
            yield login
        finally:
            login.users -= 1
            if login.is_over and login.users == 0 and login in self._logins:
                self._logins.remove(login)
                await login.client.close()

    async def _log_in(self) -> _Login:
        async with self._opening:
            if self._login is None:
                from kubernetes.aio import client  # noqa: PLC0415 - see the module

                configuration = client.Configuration()
                await self._configure(configuration)
                configuration.connection_pool_maxsize = self._connections
                self._login = _Login(client.ApiClient(configuration))
                self._logins.add(self._login)
            return self._login

    def _forget(self, login: _Login) -> None:
        login.is_over = True
        if self._login is login:
            self._login = None
            _log.info("credentials_renewed", reason="the API server answered 401")

    async def _configure(self, configuration: Any) -> None:
        """In a pod by its service account, elsewhere by the kubeconfig."""
        from kubernetes.aio import config  # noqa: PLC0415 - see the module

        context = self._settings.context or None
        try:
            if context is None and "KUBECONFIG" not in os.environ and _is_in_pod():
                in_pod: Any = config.load_incluster_config  # untyped, as is the other
                in_pod(client_configuration=configuration)
                return
            load: Any = config.load_kube_config
            file = os.environ.get("KUBECONFIG") or None  # the library reads the variable when it is imported
            await load(file, context=context, client_configuration=configuration, persist_config=False)
        except (config.ConfigException, OSError) as error:
            raise ConfigurationError(f"the kubeconfig cannot be used: {error}; check KUBECONFIG") from error
        if context is None and not _is_loopback(configuration.host):
            raise ConfigurationError(
                f"the kubeconfig's current context leads to {configuration.host}, not to this machine: "
                "name it in KUBE_CONTEXT to run Jobs there"
            )


def _faults() -> tuple[type[Exception], ...]:
    """What a connection that breaks, or an answer that is cut, ends in; asked only when something was raised."""
    from aiohttp import ClientError  # noqa: PLC0415 - see the module

    return ClientError, OSError, TimeoutError, ValueError


async def _refuse(answer: Any) -> None:
    """Raise what the server refused with, unless it did what was asked."""
    if answer.status < 300:
        return
    try:
        status = orjson.loads(await answer.read())
    except _faults():
        status = {}
    status = status if isinstance(status, dict) else {}
    wait = answer.headers.get("Retry-After", "")
    kind = ClusterAway if answer.status in (401, 408, 429) or answer.status >= 500 else ClusterError
    raise kind(
        answer.status,
        status.get("reason") or str(answer.reason),
        status.get("message") or f"HTTP {answer.status} {answer.reason}",
        retry_after=float(wait) if wait.isdecimal() else None,
    )


def _is_in_pod() -> bool:
    return _TOKEN.is_file()


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
