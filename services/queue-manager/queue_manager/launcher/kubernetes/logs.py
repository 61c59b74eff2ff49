"""The output of a Job's pods, line by line, each line once: of pods that are there and of those whose log was kept.

A log never holds anything up: a connection that breaks is made again behind the last line that came, and an archive
that is away hides no pod that is there.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import structlog

from queue_manager.launcher.interface import LogLine
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterError
from queue_manager.launcher.kubernetes.archive import Archive, ArchiveError, Kept
from queue_manager.launcher.kubernetes.keeper import Source, has_begun, has_ended, source_of
from queue_manager.launcher.kubernetes.objects import JOB_NAME, Job, job_of
from queue_manager.launcher.kubernetes.podlog import opened_log
from queue_manager.launcher.kubernetes.refusals import refusal

LOOK_S = 1.0
"""Between two looks for the next pod of an ordinal."""
ARCHIVE_S = 5.0
"""What the archive may take to say what it has; and between two looks for the log of a pod that went meanwhile."""
MAX_LOOKS = 12
"""How often such a log is looked for."""
MAX_WAITING = 1000
"""Lines that a slow reader may be behind."""
FORBIDDEN, NO_LOG = 403, (400, 404)
"""What the API server answers when a log may not be read, and when there is none yet or any more."""

_log = structlog.get_logger(component="kubernetes")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the log is asked for; see Launcher.logs."""

    ordinal: int | None
    since: float | None
    tail: int | None
    follow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One pod of an ordinal: it is there, its log was kept, or both."""

    ordinal: int
    created_at: float
    uid: str
    source: Source | None = None
    kept: Kept | None = None

    @property
    def is_running(self) -> bool:
        """Whether more lines may come."""
        return self.source is not None and not has_ended(self.source.pod)


def lives_of(pods: Iterable[dict[str, Any]], kept: Iterable[Kept]) -> list[Life]:
    """Each pod that may have written something, oldest first; ``pods``: raw, ``kept``: what the archive has."""
    found = {one.uid: Life(ordinal=one.ordinal, created_at=one.created_at, uid=one.uid, kept=one) for one in kept}
    for source in map(source_of, pods):
        pod = source.pod
        if has_begun(pod):
            known = found.get(pod.uid) or Life(ordinal=pod.ordinal, created_at=pod.created_at, uid=pod.uid)
            found[pod.uid] = replace(known, source=source)
    return sorted(found.values(), key=lambda life: life.created_at)


@dataclass(frozen=True, slots=True)
class Seen:
    """What there was at one moment."""

    job: Job | None
    lives: Sequence[Life]

    @property
    def is_final(self) -> bool:
        """Whether nothing of the Job will run again."""
        return self.job is None or bool(self.job.conditions.keys() & {"Complete", "Failed"})

    @property
    def ordinals(self) -> list[int]:
        """All that have, had or may have a log."""
        return sorted({*range(self.job.replicas if self.job else 0), *(life.ordinal for life in self.lives)})

    def of(self, ordinal: int) -> list[Life]:
        """The lives of one."""
        return [life for life in self.lives if life.ordinal == ordinal]


async def read_logs(api: ClusterApi, archive: Archive, job: str, wanted: Wanted) -> AsyncGenerator[LogLine]:
    """See Launcher.logs; ``job``: the Job's path."""
    reader = _Reader(api, archive, job, wanted)
    seen = await reader.look()
    ordinals = seen.ordinals if wanted.ordinal is None else [wanted.ordinal]
    lines = _merged(reader, ordinals) if wanted.follow else _one_by_one(reader, seen, ordinals)
    async with aclosing(lines):
        async for line in lines:
            yield line


async def _one_by_one(reader: "_Reader", seen: Seen, ordinals: Iterable[int]) -> AsyncGenerator[LogLine]:
    count = 0
    for ordinal in ordinals:
        async with aclosing(reader.once(seen.of(ordinal))) as lines:
            async for line in lines:
                count += 1
                yield line
    if reader.fault is not None:
        if not count:
            raise refusal(reader.fault) from reader.fault
        _log.warning("log_incomplete", job=reader.name, reason=str(reader.fault))


async def _merged(reader: "_Reader", ordinals: Collection[int]) -> AsyncGenerator[LogLine]:
    """All ordinals at once, as the lines come."""
    waiting: asyncio.Queue[LogLine | None] = asyncio.Queue(MAX_WAITING)

    async def feed(ordinal: int) -> None:
        try:
            async with aclosing(reader.followed(ordinal)) as lines:
                async for line in lines:
                    await waiting.put(line)
        finally:
            with contextlib.suppress(asyncio.QueueFull):
                waiting.put_nowait(None)

    if not ordinals:
        return
    tasks = [asyncio.create_task(feed(ordinal), name="kubernetes-logs") for ordinal in ordinals]
    try:
        while not (all(task.done() for task in tasks) and waiting.empty()):
            line = await waiting.get()
            if line is not None:
                yield line
        for task in tasks:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class _Reader:
    """One request for a Job's log."""

    def __init__(self, api: ClusterApi, archive: Archive, job: str, wanted: Wanted) -> None:
        self._api, self._archive, self._wanted = api, archive, wanted
        self._job, self.name = job, job.rpartition("/")[2]
        self._pods = f"/api/v1/namespaces/{api.namespace}/pods"
        self._behind: dict[str, float] = {}
        """uid -> epoch seconds of the last line that was given of it."""
        self._done: set[str] = set()
        """uids of which nothing more is to be given."""
        self._ended: set[str] = set()
        """uids whose followed log has come to its end."""
        self._searched: dict[str, int] = {}
        """uid of a pod that went before its log was read to the end -> how often the archive was asked since."""
        self._looking = asyncio.Lock()
        self._seen: Seen | None = None
        self._seen_at = 0.0
        self._kept: Sequence[Kept] | None = None
        self._kept_at = 0.0
        self.fault: ClusterError | None = None
        """Why a pod's log could not be read."""

    # -- what there is -------------------------------------------------------------------------------------------------

    async def look(self) -> Seen:
        """The Job and its lives, not older than ``LOOK_S``: the ordinals look together."""
        async with self._looking:
            if self._seen is None or time.monotonic() - self._seen_at >= LOOK_S:
                # the Job first: what ran when it was over already is in the list of pods
                job = await self._find_job()
                self._seen = Seen(job, lives_of(await self._find_pods(), await self._find_kept()))
                self._seen_at = time.monotonic()
            return self._seen

    async def _find_job(self) -> Job | None:
        try:
            return job_of(await self._api.get(self._job))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise refusal(error) from error

    async def _find_pods(self) -> list[dict[str, Any]]:
        try:
            pods = (await self._api.get(self._pods, labelSelector=f"{JOB_NAME}={self.name}"))["items"]
        except ClusterError as error:
            raise refusal(error) from error
        there = {raw["metadata"]["uid"] for raw in pods}
        gone = self._behind.keys() - there - self._done
        self._done |= gone & self._ended
        for uid in gone - self._ended:
            self._searched.setdefault(uid, 0)
        return list(pods)

    async def _find_kept(self) -> Sequence[Kept]:
        """What the archive has; asked again only for pods that went while they were read."""
        is_due = time.monotonic() - self._kept_at >= ARCHIVE_S
        searched = [uid for uid, count in self._searched.items() if count < MAX_LOOKS and uid not in self._done]
        if self._archive.is_on and (self._kept is None or (searched and is_due)):
            for uid in searched:
                self._searched[uid] += 1
            self._kept_at = time.monotonic()
            try:
                async with asyncio.timeout(ARCHIVE_S):
                    self._kept = await self._archive.of(self.name)
            except ArchiveError:
                self._kept = self._kept or ()  # it was told by the archive
            except TimeoutError:
                self._kept = self._kept or ()
                _log.warning("log_archive_slow", job=self.name, after_s=ARCHIVE_S)
        return self._kept or ()

    # -- lines ---------------------------------------------------------------------------------------------------------

    async def once(self, lives: Sequence[Life]) -> AsyncGenerator[LogLine]:
        """What there is; ``tail`` lines of all lives together."""
        tail = self._wanted.tail
        if tail is None:
            for life in lives:
                async with aclosing(self._lines(life)) as lines:
                    async for line in lines:
                        yield line
            return
        found: list[LogLine] = []
        unread = list(lives)
        while unread and (len(found) < tail or not found):
            # of none at all one is read: it tells where to go on from
            found = [line async for line in self._lines(unread.pop(), tail=max(tail - len(found), 1))] + found
        self._done.update(life.uid for life in unread)
        for line in found[len(found) - min(tail, len(found)) :]:
            yield line

    async def followed(self, ordinal: int) -> AsyncGenerator[LogLine]:
        """What there is, then what comes, until nothing of the ordinal will run again."""
        async with aclosing(self.once((await self.look()).of(ordinal))) as begins:
            async for line in begins:
                yield line
        while True:
            seen = await self.look()
            for life in seen.of(ordinal):
                if life.uid in self._done or self._searched.get(life.uid, 0) >= MAX_LOOKS:
                    continue
                async with aclosing(self._lines(life, follow=life.is_running)) as lines:
                    async for line in lines:
                        yield line
            if seen.is_final and not self._may_come:
                return
            await asyncio.sleep(LOOK_S)

    @property
    def _may_come(self) -> bool:
        """Whether the end of a log that was read may still come into the archive: asked twice, it had time enough."""
        counts = [count for uid, count in self._searched.items() if uid not in self._done]
        return self._archive.is_on and any(count < 2 for count in counts)

    async def _lines(self, life: Life, *, tail: int | None = None, follow: bool = False) -> AsyncGenerator[LogLine]:
        """Lines of one life behind those that were given; ends early when the connection breaks."""
        is_read, source = False, life.source
        if source is not None:
            self._ended.discard(life.uid)
            step, launch = source.labels.get("step", ""), int(source.labels.get("launch", 0))
            behind = self._from(life)
            opened = opened_log(self._api, source.pod.name, source.container, behind=behind, tail=tail, follow=follow)
            try:
                async with opened as lines:
                    async for line in lines:
                        self._behind[life.uid] = line.ts
                        yield LogLine(ts=line.ts, step=step, replica=life.ordinal, launch=launch, line=line.text)
                is_read = True
            except ClusterError as error:
                self._take_fault(life, error)
        if is_read:
            if follow or not life.is_running:
                (self._ended if life.is_running else self._done).add(life.uid)
        elif life.kept is not None:
            async with aclosing(self._kept_lines(life.kept, self._from(life), tail)) as kept:
                async for kept_line in kept:
                    self._behind[life.uid] = kept_line.ts
                    yield kept_line
            self._done.add(life.uid)

    def _from(self, life: Life) -> float | None:
        """Lines of it are given that are later than this."""
        if life.uid in self._behind:
            return self._behind[life.uid]
        return None if self._wanted.since is None else math.nextafter(self._wanted.since, -math.inf)

    def _take_fault(self, life: Life, error: ClusterError) -> None:
        if error.status == FORBIDDEN:
            raise refusal(error) from error
        if error.status not in NO_LOG:
            self.fault = self.fault if life.kept else error
        elif not life.is_running:
            self._searched.setdefault(life.uid, 0)

    async def _kept_lines(self, kept: Kept, behind: float | None, tail: int | None) -> AsyncGenerator[LogLine]:
        """A broken object ends where it breaks, which is told in the log."""
        ends: deque[LogLine] = deque(maxlen=tail)
        try:
            async with aclosing(self._archive.read(kept)) as objects:
                header = await anext(objects)
                step, launch = header["step"] or "", int(header["launch"] or 0)
                async for given in objects:
                    if behind is not None and given["ts"] <= behind:
                        continue
                    line = LogLine(ts=given["ts"], step=step, replica=kept.ordinal, launch=launch, line=given["line"])
                    if tail is None:
                        yield line
                    else:
                        ends.append(line)
        except (ArchiveError, StopAsyncIteration, KeyError, TypeError, ValueError) as error:
            _log.warning("kept_log_unreadable", job=self.name, key=kept.key, reason=str(error))
        for line in ends:
            yield line
