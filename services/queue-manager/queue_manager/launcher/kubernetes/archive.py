"""Logs of pods that are gone: an object for each pod, in a folder or a bucket of S3.

``<job>/<created_at ms>-<ordinal>-<pod uid>.ndjson.gz``: lines of JSON, first what the pod was (queue_id, step, launch,
end), then its output as ``{"ts": epoch seconds, "line": text}``. ``obstore`` is imported here alone and on first use;
for S3 it reads the AWS_* variables. Nobody waits for an archive that is away: what fails is told once.
"""

import re
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson
import structlog

from queue_manager.launcher.kubernetes.settings import KubernetesSettings

if TYPE_CHECKING:
    from obstore.store import ObjectStore

LIST = 1000
"""Objects of one page of a list."""
PIECE = 64 * 1024
"""Bytes that are read at once."""
LEAST_BYTES = 4096
"""What an object counts at least against the cap: a file takes a block of its disk."""
_CONNECT, _TIMEOUT, _RETRY_S = "3s", "30s", 10
_KEY = re.compile(r"^(?P<job>[^/]+)/(?P<ms>\d+)-(?P<ordinal>\d+)-(?P<uid>[^/]+)\.ndjson\.gz$")

_log = structlog.get_logger(component="kubernetes")


class ArchiveError(Exception):
    """The archive does not answer, refuses, or is full; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The log of one pod in the archive. ``created_at``: the pod's, in epoch seconds."""

    job: str
    created_at: float
    ordinal: int
    uid: str

    @property
    def key(self) -> str:
        """Where it lies."""
        return f"{self.job}/{round(self.created_at * 1000)}-{self.ordinal}-{self.uid}.ndjson.gz"


def kept_at(key: str) -> Kept | None:
    """What lies there; None: nothing of ours."""
    found = _KEY.match(key)
    if found is None:
        return None
    return Kept(job=found["job"], created_at=int(found["ms"]) / 1000, ordinal=int(found["ordinal"]), uid=found["uid"])


class Archive:
    """Opened on first use; ``is_on`` is false when the settings name none, and nothing may be asked of it then."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._place = settings.log_archive
        self._days = settings.log_days
        self._cap = int(settings.log_max_bytes)
        self._opened: ObjectStore | None = None
        self._is_away = False

    @property
    def is_on(self) -> bool:
        """Whether logs are kept at all."""
        return bool(self._place)

    @property
    def is_away(self) -> bool:
        """Whether the last call failed."""
        return self._is_away

    async def has(self, kept: Kept) -> bool:
        """Whether the pod's log is there; raises ArchiveError."""
        import obstore  # noqa: PLC0415 - see the module

        with self._asking():
            try:
                await obstore.head_async(self._store(), kept.key)
            except FileNotFoundError:
                return False
        return True

    async def put(self, kept: Kept, content: IO[bytes]) -> None:
        """Store the whole object, or nothing of it; raises ArchiveError."""
        import obstore  # noqa: PLC0415 - see the module

        with self._asking():
            await obstore.put_async(self._store(), kept.key, content)

    async def of(self, job: str) -> list[Kept]:
        """What there is of a Job, oldest first; raises ArchiveError."""
        found = [kept async for kept, _, _ in self._listed(job)]
        return sorted(found, key=lambda kept: (kept.created_at, kept.ordinal))

    async def read(self, kept: Kept) -> AsyncGenerator[dict[str, Any]]:
        """The object's lines, the first being what the pod was; raises ArchiveError, also when it is broken."""
        import obstore  # noqa: PLC0415 - see the module

        with self._asking():
            answer = await obstore.get_async(self._store(), kept.key)
        unzip, rest = zlib.decompressobj(wbits=31), b""
        pieces = aiter(answer.stream(min_chunk_size=PIECE))
        while True:
            with self._asking():
                piece = await anext(pieces, None)
            if piece is None:
                break
            try:
                *lines, rest = (rest + unzip.decompress(bytes(piece))).split(b"\n")
                for line in lines:
                    yield orjson.loads(line)
            except (zlib.error, orjson.JSONDecodeError) as error:
                raise ArchiveError(f"{kept.key} in {self._place} is broken: {error}") from error
        if not unzip.eof or rest:
            raise ArchiveError(f"{kept.key} in {self._place} is cut")

    async def prune(self, now: float) -> tuple[int, int]:
        """Remove what is too old, then the oldest above the cap; of a long list only each minute's size is remembered.

        Returns:
            How many objects were too old, and how many too much.

        Raises:
            ArchiveError: it was not finished.
        """
        limit = now - self._days * 86_400
        old = await self._remove(kept.key async for kept, modified, _ in self._listed() if modified < limit)
        sizes: Counter[int] = Counter()
        async for _, modified, size in self._listed():
            sizes[int(modified // 60)] += size
        over = sum(sizes.values()) - self._cap
        return old, await self._remove(self._oldest(sizes, over)) if over > 0 else 0

    # -- pieces --------------------------------------------------------------------------------------------------------

    async def _oldest(self, sizes: "Counter[int]", over: int) -> AsyncGenerator[str]:
        """The oldest objects that are together at least so large."""
        before, last = 0, 0
        for last in sorted(sizes):
            if before + sizes[last] >= over:
                break
            before += sizes[last]
        partly: list[tuple[float, int, str]] = []
        async for kept, modified, size in self._listed():
            if modified // 60 < last:
                yield kept.key
            elif modified // 60 == last:
                partly.append((modified, size, kept.key))
        for _, size, key in sorted(partly):
            if before >= over:
                return
            before += size
            yield key

    async def _listed(self, job: str | None = None) -> AsyncGenerator[tuple[Kept, float, int]]:
        """Object, epoch seconds of its last change, and what it counts in bytes."""
        import obstore  # noqa: PLC0415 - see the module

        with self._asking():
            pages = aiter(obstore.list(self._store(), job, chunk_size=LIST))
        while True:
            with self._asking():
                page = await anext(pages, None)
            if page is None:
                return
            for meta in page:
                kept = kept_at(meta["path"])
                if kept is not None:
                    yield kept, meta["last_modified"].timestamp(), max(meta["size"], LEAST_BYTES)

    async def _remove(self, keys: AsyncIterator[str]) -> int:
        removed, batch = 0, [key async for key in _first(keys)]
        while batch:
            removed += await self._remove_these(batch)
            batch = [key async for key in _first(keys)]
        return removed

    async def _remove_these(self, keys: list[str]) -> int:
        import obstore  # noqa: PLC0415 - see the module

        with self._asking():
            try:
                await obstore.delete_async(self._store(), keys)
            except FileNotFoundError:
                return 0  # somebody else removes too; what is left of them is found next time
        return len(keys)

    def _store(self) -> "ObjectStore":
        if self._opened is None:
            self._opened = _opened(self._place)
        return self._opened

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """One call, whose outcome is told when it is another one than the last."""
        from obstore.exceptions import BaseError  # noqa: PLC0415 - see the module

        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            words = str(error).partition("\n")[0]
            if not self._is_away:
                _log.warning("log_archive_away", archive=self._place, reason=words)
            self._is_away = True
            raise ArchiveError(
                f"the logs in {self._place} cannot be had: {words}; check KUBERNETES_LOG_ARCHIVE"
            ) from error
        if self._is_away:
            _log.info("log_archive_back", archive=self._place)
        self._is_away = False


async def _first(keys: AsyncIterator[str]) -> AsyncGenerator[str]:
    """The next so many that are removed with one call."""
    count = 0
    async for key in keys:
        yield key
        count += 1
        if count == LIST:
            return


def _opened(place: str) -> "ObjectStore":
    from obstore.store import LocalStore, S3Store  # noqa: PLC0415 - see the module

    if place.startswith("s3://"):
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        return S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            # a server without TLS is used when AWS_ENDPOINT_URL names one: the library's own is https
            client_options={"connect_timeout": _CONNECT, "timeout": _TIMEOUT, "allow_http": True},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=_RETRY_S)},
        )
    folder = Path(place)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return LocalStore(folder.absolute(), automatic_cleanup=True)
