"""Puts the log of each pod into the archive before the pod is gone: of one that is over, or that is being ended.

Fed with the names of Jobs that moved, by the watch of the leading queue-manager; a restart finds what is kept already.
It holds nothing up and raises into nobody: what fails is tried again while the pod is there, and told.
"""

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from queue_manager.launcher.interface import LABELS
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterError
from queue_manager.launcher.kubernetes.archive import Archive, ArchiveError, Kept
from queue_manager.launcher.kubernetes.objects import Job, Pod, pod_of
from queue_manager.launcher.kubernetes.podlog import opened_log
from queue_manager.launcher.kubernetes.spool import Spool
from queue_manager.launcher.kubernetes.view import View
from streamforge_utils.errors import ConfigurationError

FETCHES = 8
"""Logs of ended pods that are fetched at once."""
FOLLOWS = 100
"""Logs that are followed to the end of a pod at once: a mostly idle connection, but there is no later chance."""
READY_S = 5.0
"""What a deletion waits for at most."""
LOOK_S, LONGEST_LOOK_S = 0.5, 5.0
"""Between two looks at a pod that is ending; the longer one while its node does not answer."""
TICK_S = 1.0
FIRST_RETRY_S, LONGEST_RETRY_S, RETRY_FACTOR = 4.0, 600.0, 4.0
"""Pauses before an ended pod's log is asked for again: thousands of pods of a lost node are no load."""
PATIENCE_S = 600.0
"""How long a fetched log waits for an archive that is away."""
PRUNE_S = 600.0
TELL_S = 60.0
"""Failures are told once in so many seconds, the others are counted."""
NOT_STARTED, FORBIDDEN, GONE = 400, 403, 404
"""What the API server answers when a container has no log, when it may not be read, and when there is none any more."""
_NOTHING = (NOT_STARTED, GONE)

_log = structlog.get_logger(component="kubernetes")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a log comes from."""

    pod: Pod
    labels: Mapping[str, str]
    """Of the pod or of its Job, which are the same."""
    container: str


@dataclass(slots=True, eq=False)
class _Case:
    """One pod whose log is to be kept."""

    pod: Pod
    is_tried: bool = False
    """Its log is being read, so that nothing that it writes from now on is missed; or it cannot be read now."""
    is_kept: bool = False
    """Nothing is left to do."""
    is_at_work: bool = False
    failures: int = 0


class Keeper:
    """Of one watch. ``run`` works until it is cancelled."""

    def __init__(self, api: ClusterApi, archive: Archive, view: View, *, pod_bytes: int) -> None:
        """A keeper.

        Args:
            api: The cluster; its connections are used for nothing that may not wait.
            archive: Where logs go.
            view: What is there.
            pod_bytes: What is kept of one log.
        """
        self._api, self._archive, self._view, self._pod_bytes = api, archive, view, pod_bytes
        self._pods = f"/api/v1/namespaces/{api.namespace}/pods"
        self._cases: dict[str, dict[str, _Case]] = {}
        """Job -> uid -> case, as long as the pod is there."""
        self._ended: asyncio.Queue[_Case] = asyncio.Queue()
        self._ending: asyncio.Queue[_Case] = asyncio.Queue()
        self._later: list[tuple[float, int, _Case]] = []
        self._count = itertools.count()
        self._moved = asyncio.Condition()
        self._untold, self._told_at = 0, 0.0

    def look(self, name: str) -> None:
        """A Job or its pods are not what they were."""
        if not self._archive.is_on:
            return
        job, pods = self._view.jobs.get(name), self._view.pods.get(name, {})
        for pod in pods.values():
            if is_due(pod, job):
                self._take(pod)
        cases = self._cases.get(name, {})
        there = {pod.uid for pod in pods.values()}
        for case in [case for uid, case in cases.items() if uid not in there and not case.is_at_work]:
            self._forget(case)

    async def ready(self, name: str) -> None:
        """Before a Job is deleted: its ended pods' logs are kept, the others' are being read, or 5 s are over."""
        if not self._archive.is_on:
            return
        for pod in self._view.pods.get(name, {}).values():
            if has_begun(pod):
                self._take(pod)
        cases = list(self._cases.get(name, {}).values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S), self._moved:
                await self._moved.wait_for(lambda: all(map(self._is_ready, cases)))

    async def run(self) -> None:
        """Until cancelled."""
        if not self._archive.is_on:
            await asyncio.Event().wait()
        queues = [*[self._ended] * FETCHES, *[self._ending] * FOLLOWS]
        async with asyncio.TaskGroup() as group:
            for queue in queues:
                group.create_task(self._work(queue), name="kubernetes-keep")
            group.create_task(self._prune(), name="kubernetes-prune")
            while True:
                await asyncio.sleep(TICK_S)
                for case in self._due(time.monotonic()):
                    self._ended.put_nowait(case)

    # -- cases ---------------------------------------------------------------------------------------------------------

    def _take(self, pod: Pod) -> None:
        cases = self._cases.setdefault(pod.job, {})
        if pod.uid not in cases:
            case = cases[pod.uid] = _Case(pod)
            (self._ended if has_ended(pod) else self._ending).put_nowait(case)

    def _forget(self, case: _Case) -> None:
        cases = self._cases.get(case.pod.job, {})
        cases.pop(case.pod.uid, None)
        if not cases:
            self._cases.pop(case.pod.job, None)

    def _is_there(self, case: _Case) -> bool:
        pod = self._view.pods.get(case.pod.job, {}).get(case.pod.name)
        return pod is not None and pod.uid == case.pod.uid

    def _is_ready(self, case: _Case) -> bool:
        if case.is_kept or case.failures:
            return True
        return self._archive.is_away if has_ended(case.pod) else case.is_tried

    def _due(self, now: float) -> Iterator[_Case]:
        while self._later and self._later[0][0] <= now:
            yield heapq.heappop(self._later)[2]

    # -- work ----------------------------------------------------------------------------------------------------------

    async def _work(self, queue: "asyncio.Queue[_Case]") -> None:
        while True:
            case = await queue.get()
            if case.failures and not self._is_there(case):
                self._tell("log_lost", case, reason="its pod was gone before it could be read")
                self._forget(case)
                continue
            case.is_at_work = True
            try:
                await self._keep(case)
                case.is_kept = True
            except (ClusterError, ConfigurationError, ArchiveError, OSError) as error:
                self._fail(case, str(error))
            except Exception as error:
                _log.exception("keep_failed", pod=case.pod.name)
                self._fail(case, str(error))
            finally:
                case.is_at_work = False
            if not self._is_there(case):
                self._forget(case)
            await self._tell_moved()

    def _fail(self, case: _Case, reason: str) -> None:
        pause = min(FIRST_RETRY_S * RETRY_FACTOR**case.failures, LONGEST_RETRY_S)
        case.failures += 1
        is_there = self._is_there(case)
        if is_there:
            heapq.heappush(self._later, (time.monotonic() + pause, next(self._count), case))
        if case.failures == 1 or not is_there:
            self._tell("log_not_kept", case, reason=reason, again_s=pause if is_there else None)

    def _tell(self, event: str, case: _Case, **words: object) -> None:
        now = time.monotonic()
        if self._told_at and now - self._told_at < TELL_S:
            self._untold += 1
            return
        _log.warning(event, job=case.pod.job, pod=case.pod.name, others=self._untold, **words)
        self._told_at, self._untold = now, 0

    async def _mark_tried(self, case: _Case) -> None:
        if not case.is_tried:
            case.is_tried = True
            await self._tell_moved()

    async def _tell_moved(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    async def _keep(self, case: _Case) -> None:
        """Fetch it and store it, if that has not been done; raises what went wrong."""
        pod = case.pod
        kept = Kept(job=pod.job, created_at=pod.created_at, ordinal=pod.ordinal, uid=pod.uid)
        if has_ended(pod):
            with contextlib.suppress(ArchiveError):  # it is fetched in any case: the archive may be back by then
                if await self._archive.has(kept):
                    return
        source = await self._source(pod)
        if source is None:
            self._tell("log_lost", case, reason="its pod was gone before it was asked for")
            return
        with Spool(self._pod_bytes) as spool:
            source, is_whole = await self._read(case, source, spool)
            if not is_whole:
                self._tell("log_lost", case, reason="its pod was gone before it was read to its end")
            if not spool.is_empty:
                await self._store(kept, {**header_of(source), "is_whole": is_whole}, spool)

    async def _read(self, case: _Case, source: Source, spool: Spool) -> tuple[Source, bool]:
        """All that the pod writes until its end; the pod as it was seen last, and whether nothing is missing."""
        behind: float | None = None
        is_clean, failures = False, 0
        while True:
            pod, is_over = source.pod, has_ended(source.pod)
            try:
                opened = opened_log(self._api, pod.name, source.container, behind=behind, follow=not is_over)
                async with opened as lines:
                    failures = 0
                    await self._mark_tried(case)
                    async for line in lines:
                        await spool.add(line.ts, line.text)
                        behind = line.ts
                is_clean = True
            except ClusterError as error:
                if is_over and error.status in _NOTHING:
                    return source, is_clean or error.status == NOT_STARTED
                if is_over or error.status == FORBIDDEN:
                    raise
                is_clean, failures = False, failures + 1
                await self._mark_tried(case)
            if is_clean and is_over:
                return source, True
            # one that was silent for long is followed again soon: its end is what it is followed for
            await asyncio.sleep(min(LOOK_S * 2 ** max(0, failures - 1), LONGEST_LOOK_S))
            newer = await self._patient_source(pod)
            if newer is None:
                return source, is_clean
            source = newer

    async def _source(self, pod: Pod) -> Source | None:
        """What is known of an ended pod whose Job is there needs no call."""
        job = self._view.jobs.get(pod.job)
        if has_ended(pod) and job is not None and self._view.pods.get(pod.job, {}).get(pod.name) == pod:
            return Source(pod, job.labels, job.container)
        return await self._fresh_source(pod)

    async def _patient_source(self, pod: Pod) -> Source | None:
        """The pod, however long the API server is away: what was read of its log is not thrown away."""
        while True:
            try:
                return await self._fresh_source(pod)
            except ClusterError as error:
                await asyncio.sleep(max(2 * LOOK_S, error.retry_after or 0.0))

    async def _fresh_source(self, pod: Pod) -> Source | None:
        try:
            raw = await self._api.get(f"{self._pods}/{pod.name}")
        except ClusterError as error:
            if error.status == GONE:
                return None
            raise
        return source_of(raw) if raw["metadata"]["uid"] == pod.uid else None

    async def _store(self, kept: Kept, header: dict[str, Any], spool: Spool) -> None:
        began, pause = time.monotonic(), FIRST_RETRY_S
        while True:
            with await spool.packed(header) as packed:
                try:
                    return await self._archive.put(kept, packed)
                except ArchiveError:
                    if time.monotonic() - began > PATIENCE_S:
                        raise
            await self._tell_moved()
            await asyncio.sleep(pause)
            pause = min(2 * pause, 30.0)

    async def _prune(self) -> None:
        while True:
            try:
                old, much = await self._archive.prune(time.time())
            except ArchiveError:
                pass  # the archive has told it
            except Exception:
                _log.exception("prune_failed")
            else:
                if old or much:
                    _log.info("logs_pruned", too_old=old, too_much=much)
            await asyncio.sleep(PRUNE_S)


def has_begun(pod: Pod) -> bool:
    """Whether the worker's container may have written something."""
    return pod.started_at is not None or has_ended(pod)


def has_ended(pod: Pod) -> bool:
    """Whether the worker's container will write nothing more; another container may still run."""
    return pod.is_over or pod.end is not None


def is_due(pod: Pod, job: Job | None) -> bool:
    """Whether the log is to be kept now: the pod has ended, or it or its Job is being ended."""
    is_ending = pod.deleted_at is not None or (job is not None and job.is_deleting)
    return has_ended(pod) or (is_ending and has_begun(pod))


def source_of(raw: dict[str, Any]) -> Source:
    """Out of a pod's JSON; the worker's container is named after the target."""
    labels = raw["metadata"].get("labels", {})
    return Source(pod_of(raw), labels, labels.get("target") or raw["spec"]["containers"][0]["name"])


def header_of(source: Source) -> dict[str, Any]:
    """What the pod was; times in epoch seconds."""
    pod = source.pod
    return {
        "format": 1,
        **{name: source.labels.get(name) for name in LABELS},
        "job": pod.job,
        "ordinal": pod.ordinal,
        "pod": pod.name,
        "uid": pod.uid,
        "container": source.container,
        "node": pod.node,
        "created_at": pod.created_at,
        "started_at": pod.started_at,
        "ended_at": pod.end.at if pod.end else None,
        "code": pod.end.code if pod.end else None,
        "reason": (pod.end.reason if pod.end else "") or pod.told.reason or None,
        "disruption": pod.disruption.reason if pod.disruption else None,
    }
