"""List, then watch: one resource of the cluster, for ever, whatever happens to the connection.

The protocol is "Efficient detection of changes" of the Kubernetes API concepts: a paged list gives a resource version,
the watch goes on from it, bookmarks move it on, 410 means that it is too old and the list comes again.
"""

import asyncio
from collections.abc import Sequence, Set
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

import orjson
import structlog

from queue_manager.launcher.kubernetes.api import PAGE, ClusterApi, ClusterError
from streamforge_utils.errors import ConfigurationError

WATCH_S = 290
"""How long the server keeps a watch; then another goes on from its version."""
REFRESH_S = 300.0
"""Between two lists, whatever the watch told."""
REFRESH_PAGE = 10
"""Objects of its pages. Nobody waits for it, and beside thousands of known Jobs the large pages of the first list would
make it what the process needs most memory for."""
SILENCE_S = 90.0
"""A bookmark comes about every minute: a connection that says nothing for longer is a dead one."""
FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 5.0
GONE = 410

_log = structlog.get_logger(component="kubernetes")


Kept = TypeVar("Kept")
"""What a listener keeps of an object."""


class Listener(Protocol[Kept]):
    """Who is told. Objects are raw JSON."""

    def read(self, raw: dict[str, Any], /) -> Kept:
        """What is kept of an object of a list, so that its raw form need not be."""
        ...

    def listed(self, objects: Sequence[Kept], *, but: Set[str] = frozenset()) -> None:
        """All that there are; of those named in ``but`` something was told since, and that holds."""
        ...

    def changed(self, raw: dict[str, Any], *, is_gone: bool) -> None:
        """One is now as given, or is no more."""
        ...


class Follower(Generic[Kept]):
    """Follows one resource below a selector until cancelled; never raises for what the cluster does."""

    def __init__(
        self,
        api: ClusterApi,
        path: str,
        selector: str,
        listener: Listener[Kept],
    ) -> None:
        self._api, self._path, self._selector, self._listener = api, path, selector, listener
        self._version: str | None = None
        self._lists = 0
        self._told: set[str] | None = None
        """Names that the watch told since a list beside it was asked for; None: there is no such list now."""
        self._pause, self._is_lost = FIRST_RETRY_S, False

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="kubernetes-watch")
            tasks.create_task(self._refresh(), name="kubernetes-refresh")

    async def _follow(self) -> None:
        while True:
            try:
                if self._version is None:
                    await self._list()
                    self._recover()
                await self._watch(self._version or "")
                await asyncio.sleep(FIRST_RETRY_S)
            except (ClusterError, ConfigurationError) as error:
                if isinstance(error, ClusterError) and error.status == GONE:
                    self._version = None
                    continue
                # what the connection has missed is told by the version; only 410 asks for a list
                if not self._is_lost:
                    _log.warning("follow_lost", path=self._path, reason=str(error))
                self._is_lost = True
                await asyncio.sleep(max(self._pause, getattr(error, "retry_after", None) or 0.0))
                self._pause = min(2 * self._pause, LONGEST_RETRY_S)

    def _recover(self) -> None:
        if self._is_lost:
            _log.info("follows_again", path=self._path)
        self._pause, self._is_lost = FIRST_RETRY_S, False

    async def _refresh(self) -> None:
        """Now and then the list, beside the watch, which goes on: of thousands it takes seconds."""
        while True:
            await asyncio.sleep(REFRESH_S)
            lists, told = self._lists, set[str]()
            self._told = told
            try:
                found, _ = await self._all(REFRESH_PAGE)
            except (ClusterError, ConfigurationError) as error:
                _log.info("refresh_later", path=self._path, reason=str(error))
            else:
                if self._lists == lists and self._version is not None:  # else the watch begins anew, with its own list
                    self._listener.listed(found, but=told)
            self._told = None

    async def _list(self) -> None:
        """All of it, before there is a watch; a page that came too late (410) begins again."""
        found, version = await self._all(PAGE)
        self._listener.listed(found)
        self._lists += 1
        self._version = version

    async def _all(self, page_size: int) -> tuple[list[Kept], str]:
        found: list[Kept] = []
        version = ""
        async with aclosing(self._api.pages(self._path, self._selector, limit=page_size)) as pages:
            async for objects, page_version in pages:
                found += map(self._listener.read, objects)
                version = page_version
                del objects  # not held while the next page comes
        return found, version

    async def _watch(self, version: str) -> None:
        """One watch, to the end that the server sets; the next goes on from there."""
        lines = self._api.stream(
            self._path,
            silence_s=SILENCE_S,
            watch=True,
            labelSelector=self._selector,
            resourceVersion=version,
            allowWatchBookmarks=True,
            timeoutSeconds=WATCH_S,
        )
        async with aclosing(lines):
            async for line in lines:
                self._take(orjson.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        raw = event["object"]
        if event["type"] == "ERROR":
            raise ClusterError(int(raw.get("code") or 0), raw.get("reason") or "", raw.get("message") or "")
        self._recover()
        if event["type"] != "BOOKMARK":
            if self._told is not None:
                self._told.add(raw["metadata"]["name"])
            self._listener.changed(raw, is_gone=event["type"] == "DELETED")
        self._version = raw["metadata"]["resourceVersion"]
