"""List, then watch: one resource of the cluster, for ever, whatever happens to the connection.

The protocol is "Efficient detection of changes" of the Kubernetes API concepts: a paged list gives a resource version,
the watch goes on from it, bookmarks move it on, 410 means that it is too old and the list comes again.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Protocol

import orjson
import structlog

from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterError
from streamforge_utils.errors import ConfigurationError

WATCH_S = 290
"""How long the server keeps a watch; then the list comes again, whatever the watch told."""
SILENCE_S = 90.0
"""A bookmark comes about every minute: a connection that says nothing for longer is a dead one."""
FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 5.0
GONE = 410

_log = structlog.get_logger(component="kubernetes")


class Listener(Protocol):
    """Who is told. Objects are raw JSON."""

    def listed(self, objects: Sequence[dict[str, Any]]) -> None:
        """All that there are."""
        ...

    def changed(self, raw: dict[str, Any], *, is_gone: bool) -> None:
        """One is now as given, or is no more."""
        ...


class Follower:
    """Follows one resource below a selector until cancelled; never raises for what the cluster does."""

    def __init__(
        self,
        api: ClusterApi,
        path: str,
        selector: str,
        listener: Listener,
    ) -> None:
        self._api, self._path, self._selector, self._listener = api, path, selector, listener
        self._version: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        pause, is_told = FIRST_RETRY_S, False
        while True:
            try:
                if self._version is None:
                    await self._list()
                    if is_told:
                        _log.info("follows_again", path=self._path)
                    pause, is_told = FIRST_RETRY_S, False
                await self._watch(self._version or "")
            except (ClusterError, ConfigurationError) as error:
                if isinstance(error, ClusterError) and error.status == GONE:
                    self._version = None
                    continue
                # what the connection has missed is told by the version; only 410 or its age ask for a list
                if not is_told:
                    _log.warning("follow_lost", path=self._path, reason=str(error))
                is_told = True
                await asyncio.sleep(max(pause, getattr(error, "retry_after", None) or 0.0))
                pause = min(2 * pause, LONGEST_RETRY_S)

    async def _list(self) -> None:
        """All of it; a page that came too late (410) begins again."""
        found, version = await self._api.all(self._path, self._selector)
        self._listener.listed(found)
        self._version = version

    async def _watch(self, version: str) -> None:
        """One watch, to the end that the server sets; then a list is due."""
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
        self._version = None

    def _take(self, event: dict[str, Any]) -> None:
        raw = event["object"]
        if event["type"] == "ERROR":
            raise ClusterError(int(raw.get("code") or 0), raw.get("reason") or "", raw.get("message") or "")
        if event["type"] != "BOOKMARK":
            self._listener.changed(raw, is_gone=event["type"] == "DELETED")
        self._version = raw["metadata"]["resourceVersion"]
