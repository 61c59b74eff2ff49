"""The Jobs and pods of the installation as the two watches tell them, and which Jobs changed since somebody looked.

A Job that changes ten times before it is looked at is looked at once: nothing here grows with the number of events.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence, Set
from dataclasses import replace
from typing import Any

from queue_manager.launcher.interface import JobStatus
from queue_manager.launcher.kubernetes.objects import Job, Pod, Told, job_of, pod_of
from queue_manager.launcher.kubernetes.status import SIDECAR_S, job_status


class View:
    """Both watches write into it; ``take`` gives the names of Jobs that changed, each once."""

    def __init__(self, *, sidecar_s: float = SIDECAR_S, clock: Callable[[], float] = time.time) -> None:
        self.jobs: dict[str, Job] = {}
        self.pods: dict[str, dict[str, Pod]] = {}
        """Name of the Job -> name of the pod -> pod."""
        self.past: dict[str, dict[str, Pod]] = {}
        """Name of the Job -> uid -> pod that is no more: an eviction is to be counted although its pod is gone."""
        self.told: dict[str, Told] = {}
        """Name of a Job without pods -> what the cluster said of it."""
        self.warnings: dict[str, tuple[str, ...]] = {}
        """Name of the Job -> what the cluster complained of about it."""
        self.lost: dict[str, Told] = {}
        """Uid of a pod -> why its node is taken for lost."""
        self._sidecar_s, self._clock = sidecar_s, clock
        self._listed = {"jobs": 0, "pods": 0}
        self._dirty: dict[str, None] = {}
        self._filled = asyncio.Event()

    @property
    def syncs(self) -> int:
        """How often both lists were complete."""
        return min(self._listed.values())

    def status(self, name: str) -> JobStatus | None:
        """The Job as it is known; None: there is none."""
        job = self.jobs.get(name)
        if job is None:
            return None
        pods = map(self._marked, [*self.past.get(name, {}).values(), *self.pods.get(name, {}).values()])
        status = job_status(job, pods, now=self._clock(), told=self.told.get(name), sidecar_s=self._sidecar_s)
        return replace(status, warnings=self.warnings.get(name, ()))

    def _marked(self, pod: Pod) -> Pod:
        return replace(pod, disruption=self.lost[pod.uid]) if pod.uid in self.lost else pod

    def bury(self, pod: Pod) -> None:
        """Remember a pod that is no more for as long as its Job is there."""
        pod = self._marked(pod)
        if not pod.is_over:
            gone = Told("Deleted", "its pod was deleted")
            pod = replace(pod, phase="Failed", disruption=pod.disruption or gone)
        self.past.setdefault(pod.job, {})[pod.uid] = pod

    def touch(self, name: str) -> None:
        """It is to be looked at."""
        self._dirty[name] = None
        self._filled.set()

    async def moved(self) -> None:
        """Wait until something is to be looked at, or a list was completed."""
        await self._filled.wait()
        self._filled.clear()

    def take(self) -> list[str]:
        """Names of the Jobs that are to be looked at, each once."""
        names, self._dirty = list(self._dirty), {}
        return names

    def turn(self, name: str) -> tuple[bool, float]:
        """Orders the Jobs of a first list: those that have ended before all others, the oldest first."""
        job = self.jobs.get(name)
        return (False, 0.0) if job is None else (not job.conditions, job.created_at)

    def jobs_told(self) -> "Jobs":
        """The listener of the watch on Jobs."""
        return Jobs(self)

    def pods_told(self) -> "Pods":
        """The listener of the watch on pods."""
        return Pods(self)

    def mark_listed(self, what: str) -> None:
        """One of the two lists is complete."""
        self._listed[what] += 1
        self._filled.set()


class Jobs:
    """What the watch on Jobs tells."""

    def __init__(self, view: View) -> None:
        self._view = view

    def read(self, raw: dict[str, Any]) -> Job:
        """See Listener; one that is as it was known is not held twice while a list of thousands is read."""
        job = job_of(raw)
        known = self._view.jobs.get(job.name)
        return known if known == job else job

    def listed(self, objects: Sequence[Job], *, but: Set[str] = frozenset()) -> None:
        """See Listener."""
        view = self._view
        found = {job.name: job for job in objects if job.name not in but}
        found |= {name: view.jobs[name] for name in but if name in view.jobs}
        for name in {*view.jobs, *found}:
            if view.jobs.get(name) != found.get(name):
                view.touch(name)
        view.jobs = found
        for kept in (view.told, view.past, view.warnings):
            _forget(kept, found)
        view.mark_listed("jobs")

    def changed(self, raw: dict[str, Any], *, is_gone: bool) -> None:
        """See Listener."""
        job, view = job_of(raw), self._view
        if is_gone:
            for known in (view.jobs, view.told, view.past, view.warnings):
                known.pop(job.name, None)
        else:
            view.jobs[job.name] = job
        view.touch(job.name)


class Pods:
    """What the watch on pods tells."""

    def __init__(self, view: View) -> None:
        self._view = view

    def read(self, raw: dict[str, Any]) -> Pod:
        """See Listener; as that of Jobs."""
        pod = pod_of(raw)
        known = self._view.pods.get(pod.job, {}).get(pod.name)
        return known if known == pod else pod

    def listed(self, objects: Sequence[Pod], *, but: Set[str] = frozenset()) -> None:
        """See Listener."""
        view = self._view
        told = [pod for pods in view.pods.values() for pod in pods.values() if pod.name in but]
        found: dict[str, dict[str, Pod]] = {}
        for pod in (*(pod for pod in objects if pod.name not in but), *told):
            found.setdefault(pod.job, {})[pod.name] = pod
        for name in {*view.pods, *found}:
            if view.pods.get(name) != found.get(name):
                view.touch(name)
        for name, pods in view.pods.items():
            for pod in pods.values():
                if name in view.jobs and pod.name not in found.get(name, {}):
                    view.bury(pod)
        view.pods = found
        view.mark_listed("pods")

    def changed(self, raw: dict[str, Any], *, is_gone: bool) -> None:
        """See Listener."""
        pod, view = pod_of(raw), self._view
        mine = view.pods.setdefault(pod.job, {})
        if is_gone:
            mine.pop(pod.name, None)
            if pod.job in view.jobs:
                view.bury(pod)
            if not mine:
                del view.pods[pod.job]
        else:
            mine[pod.name] = pod
        view.touch(pod.job)


def _forget(kept: MutableMapping[str, Any], known: Iterable[str]) -> None:
    for name in kept.keys() - set(known):
        del kept[name]
