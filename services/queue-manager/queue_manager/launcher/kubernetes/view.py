"""The Jobs and pods of the installation as the two watches tell them, and which Jobs changed since somebody looked.

A Job that changes ten times before it is looked at is looked at once: nothing here grows with the number of events.
"""

import asyncio
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

from queue_manager.launcher.interface import JobStatus
from queue_manager.launcher.kubernetes.objects import Job, Pod, Told, job_of, pod_of
from queue_manager.launcher.kubernetes.status import job_status


class View:
    """Both watches write into it; ``take`` gives the names of Jobs that changed, each once."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.pods: dict[str, dict[str, Pod]] = {}
        """Name of the Job -> name of the pod -> pod."""
        self.past: dict[str, dict[str, Pod]] = {}
        """Name of the Job -> uid -> pod that is no more: an eviction is to be counted although its pod is gone."""
        self.told: dict[str, Told] = {}
        """Name of a Job without pods -> what the cluster said of it."""
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
        pods = [*self.past.get(name, {}).values(), *self.pods.get(name, {}).values()]
        return job_status(job, pods, told=self.told.get(name))

    def bury(self, pod: Pod) -> None:
        """Remember a pod that is no more for as long as its Job is there."""
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

    def listed(self, objects: Sequence[dict[str, Any]]) -> None:
        """See Listener."""
        found = {job.name: job for job in map(job_of, objects)}
        view = self._view
        for name in {*view.jobs, *found}:
            if view.jobs.get(name) != found.get(name):
                view.touch(name)
        view.jobs = found
        for kept in (view.told, view.past):
            _forget(kept, found)
        view.mark_listed("jobs")

    def changed(self, raw: dict[str, Any], *, is_gone: bool) -> None:
        """See Listener."""
        job, view = job_of(raw), self._view
        if is_gone:
            for known in (view.jobs, view.told, view.past):
                known.pop(job.name, None)
        else:
            view.jobs[job.name] = job
        view.touch(job.name)


class Pods:
    """What the watch on pods tells."""

    def __init__(self, view: View) -> None:
        self._view = view

    def listed(self, objects: Sequence[dict[str, Any]]) -> None:
        """See Listener."""
        found: dict[str, dict[str, Pod]] = {}
        for pod in map(pod_of, objects):
            found.setdefault(pod.job, {})[pod.name] = pod
        view = self._view
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
