"""What the cluster complains of about Jobs: its warning events, asked for when they matter and never watched.

A cluster writes thousands of events a minute and keeps them for an hour; those of a Job that fails or waits are what
says why, and they are needed before the Job is taken away.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence, Set
from typing import Any

import structlog

from queue_manager.launcher.interface import JobStatus
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterAway, ClusterError
from queue_manager.launcher.kubernetes.objects import Job, Pod, Told
from queue_manager.launcher.kubernetes.view import View

LOOK_S = 3.0
"""How often Jobs that have no pod are looked for: the Job controller tells why as an event. After so long it is asked
once more about what waits, if nothing was said: an event may be written after what it explains."""
WITHIN_S = 2.0
"""How long the news of a failure is kept back for what was said of it."""
AT_ONCE = 16
PODS = 3
"""The latest pods of a Job that are asked about."""
MOST = 10
LONGEST = 500

_log = structlog.get_logger(component="kubernetes")


class Complaints:
    """Writes what was said into a view."""

    def __init__(self, api: ClusterApi, view: View) -> None:
        self._api, self._view = api, view
        self._events = f"/api/v1/namespaces/{api.namespace}/events"
        self._asked: dict[str, str] = {}
        """Name of a Job -> the reason for which it was asked about."""
        self._unanswered: dict[str, float] = {}
        """Name of a Job that waits and of which nothing was said -> when it was asked (the loop's time)."""
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._is_told = False

    async def run(self) -> None:
        """Until cancelled: why Jobs have no pod, and what was said late."""
        known: set[str] = set()
        while True:
            await asyncio.sleep(LOOK_S)
            for name in self._asked.keys() - self._view.jobs.keys():
                del self._asked[name]
            known = await self.look(known)
            await self._ask_again()

    async def look(self, known: Set[str]) -> set[str]:
        """Ask about Jobs that have no pod and are ``known`` to have had none before; the uids of all that have none."""
        view = self._view
        podless = {
            job.uid: job
            for job in view.jobs.values()
            if not job.conditions and not job.is_deleting and not view.pods.get(job.name)
        }
        if waiting := {uid: job for uid, job in podless.items() if uid in known}:
            await self._ask_podless(waiting)
        return set(podless)

    async def gather(self, names: Iterable[str]) -> None:
        """Ask about those that have failed or wait with a complaint, once for each reason; an answer may be missing."""
        due: list[Job] = []
        for name in names:
            status = self._view.status(name)
            if status is not None and (why := _why(status)) and self._asked.get(name) != why:
                self._asked[name] = why
                due.append(self._view.jobs[name])
                if status.condition is None:
                    self._unanswered[name] = asyncio.get_running_loop().time()
        if not due:
            return
        try:
            async with asyncio.timeout(WITHIN_S):
                await asyncio.gather(*(self._ask(job) for job in due))
        except TimeoutError:
            _log.warning("events_late", jobs=len(due), within_s=WITHIN_S)

    async def _ask_again(self) -> None:
        before = asyncio.get_running_loop().time() - LOOK_S
        for name in [name for name, at in self._unanswered.items() if at <= before]:
            self._unanswered.pop(name, None)
            if (job := self._view.jobs.get(name)) is not None:
                await self._ask(job)
                self._view.touch(name)

    async def _ask(self, job: Job) -> None:
        known = (self._view.past, self._view.pods)
        pods = sorted((pod for of in known for pod in of.get(job.name, {}).values()), key=_age)
        answers = await asyncio.gather(*map(self._about, [job.uid, *(pod.uid for pod in pods[-PODS:])]))
        words = _words([event for events in answers for event in events])
        if words and job.name in self._view.jobs:
            self._view.warnings[job.name] = words
            self._unanswered.pop(job.name, None)

    async def _ask_podless(self, waiting: Mapping[str, Job]) -> None:
        """All with one list: whatever is selected, the server reads every event of the namespace for it."""
        said: dict[str, list[dict[str, Any]]] = {}
        for event in await self._read(self._all_about_jobs()):
            said.setdefault(event["involvedObject"].get("uid", ""), []).append(event)
        for uid in said.keys() & waiting.keys():
            self._tell(waiting[uid], said[uid])

    def _tell(self, job: Job, events: Sequence[dict[str, Any]]) -> None:
        view = self._view
        if job.name not in view.jobs:
            return
        last = max(events, key=_when)
        told = Told(last.get("reason") or "", last.get("message") or "")
        if view.told.get(job.name) != told:
            view.told[job.name], view.warnings[job.name] = told, _words(events)
            view.touch(job.name)

    async def _about(self, uid: str) -> list[dict[str, Any]]:
        """The warnings about one object."""
        query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning", "limit": 50}
        async with self._turns:
            return await self._read(self._page(query))

    async def _page(self, query: Mapping[str, object]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._api.get(self._events, **query))["items"]
        return found

    async def _all_about_jobs(self) -> list[dict[str, Any]]:
        pages = self._api.pages(self._events, fieldSelector="involvedObject.kind=Job,type=Warning")
        return [event async for page, _ in pages for event in page]

    async def _read(self, asked: Awaitable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """What is asked for; nothing when it cannot be read, for it explains and decides nothing."""
        try:
            events = await asked
        except ClusterError as error:
            if not isinstance(error, ClusterAway) and not self._is_told:
                self._is_told = True
                _log.warning("events_unreadable", reason=str(error))
            return []
        self._is_told = False
        return events


def _why(status: JobStatus) -> str | None:
    if status.condition == "failed":
        return "failed"
    return status.reason if status.condition is None else None


def _age(pod: Pod) -> float:
    return pod.created_at


def _when(event: dict[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _words(events: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """``Reason: message`` of the latest, oldest first, each once."""
    texts = [f"{e.get('reason') or 'Warning'}: {e.get('message') or ''}"[:LONGEST] for e in sorted(events, key=_when)]
    return tuple(reversed(list(dict.fromkeys(reversed(texts)))[:MOST]))
