"""The launcher for a cluster: each launch of a step is a Kubernetes Job (docs/reference/kubernetes.md).

One watch on Jobs and one on pods, by label selector; calls go by name and are never repeated blindly: a create whose
answer was lost is found again as ``AlreadyExists``.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

import structlog

from queue_manager.launcher.interface import (
    JobEvent,
    JobExists,
    JobSpec,
    JobStatus,
    LogLine,
)
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterAway, ClusterError
from queue_manager.launcher.kubernetes.follow import Follower
from queue_manager.launcher.kubernetes.logs import Wanted, read_logs
from queue_manager.launcher.kubernetes.manifest import SecretRef, job_manifest
from queue_manager.launcher.kubernetes.objects import JOB_NAME, Pod, Told, job_of, pod_of
from queue_manager.launcher.kubernetes.refusals import refusal
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from queue_manager.launcher.kubernetes.status import job_status
from queue_manager.launcher.kubernetes.view import View

APP = "app=streamforge"
PODLESS_EVERY_S = 5.0
"""How often Jobs that have no pod are asked about: the Job controller tells why as an event."""

_log = structlog.get_logger(component="kubernetes")


class KubernetesLauncher:
    """Runs Jobs in one namespace of a cluster. It connects on first use."""

    def __init__(self, settings: KubernetesSettings, *, shared: frozenset[str] = frozenset()) -> None:
        """A launcher.

        Args:
            settings: Where, and how a Job looks there.
            shared: Names of environment variables that the namespace's ConfigMap gives to every Job.
        """
        self._settings = settings
        self._shared = shared
        self._api = ClusterApi(settings)
        self._jobs = f"/apis/batch/v1/namespaces/{settings.namespace}/jobs"
        self._core = f"/api/v1/namespaces/{settings.namespace}"

    # -- Launcher ------------------------------------------------------------------------------------------------------

    async def create(self, spec: JobSpec) -> JobStatus:
        """See Launcher."""
        refs = {name: SecretRef(*ref) for name, ref in spec.secret_refs.items()}
        manifest = job_manifest(spec, self._settings, secret_refs=refs, shared=self._shared)
        try:
            made = await self._api.create(self._jobs, manifest)
        except ClusterError as error:
            if error.status == 409 and error.reason == "AlreadyExists" and (found := await self.get(spec.name)):
                raise JobExists(found) from error
            raise refusal(error) from error
        return job_status(job_of(made), ())

    async def get(self, name: str) -> JobStatus | None:
        """See Launcher."""
        try:
            raw = await self._api.get(f"{self._jobs}/{name}")
            pods = await self._pods(name)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise refusal(error) from error
        return job_status(job_of(raw), pods)

    async def list(self) -> Sequence[JobStatus]:
        """See Launcher."""
        try:
            jobs, _ = await self._api.all(self._jobs, APP)
            pods, _ = await self._api.all(f"{self._core}/pods", APP)
        except ClusterError as error:
            raise refusal(error) from error
        of: dict[str, list[Pod]] = {}
        for pod in map(pod_of, pods):
            of.setdefault(pod.job, []).append(pod)
        return [job_status(job, of.get(job.name, ())) for job in map(job_of, jobs)]

    async def watch(self) -> AsyncIterator[JobEvent]:
        """See Launcher."""
        view = View()
        followers = (
            Follower(self._api, self._jobs, APP, view.jobs_told()),
            Follower(self._api, f"{self._core}/pods", f"{APP},{JOB_NAME}", view.pods_told()),
        )
        tasks = [asyncio.create_task(f.run(), name="kubernetes-follow") for f in followers]
        tasks.append(asyncio.create_task(self._ask_podless(view), name="kubernetes-podless"))
        syncs = 0
        try:
            while True:
                await _moved(view, tasks)
                if view.syncs == 0:
                    continue
                names = view.take()
                for name in names if syncs else [*names, *(view.jobs.keys() - set(names))]:
                    yield JobEvent(name=name, status=view.status(name))
                if view.syncs > syncs:
                    syncs = view.syncs
                    yield JobEvent(name="", status=None, synced=True)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def delete(self, name: str, *, grace_s: float | None = None) -> None:
        """See Launcher. The Job stays in sight until its pods are gone (foreground deletion)."""
        try:
            job = job_of(await self._api.get(f"{self._jobs}/{name}"))
            options = {"propagationPolicy": "Foreground", "preconditions": {"uid": job.uid}}
            await self._api.delete(f"{self._jobs}/{name}", options)
            if grace_s is not None and grace_s < job.grace_s:
                await self._hurry(name, grace_s)
        except ClusterError as error:
            if error.status != 404:
                raise refusal(error) from error

    def logs(
        self,
        name: str,
        *,
        ordinal: int | None = None,
        since: float | None = None,
        tail: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogLine]:
        """See Launcher."""
        return read_logs(self._api, self._jobs, name, Wanted(ordinal, since, tail, follow))

    async def close(self) -> None:
        """See Launcher."""
        await self._api.close()

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def _pods(self, name: str) -> Sequence[Pod]:
        found = await self._api.get(f"{self._core}/pods", labelSelector=f"{APP},{JOB_NAME}={name}")
        return [pod_of(raw) for raw in found["items"]]

    async def _hurry(self, name: str, grace_s: float) -> None:
        """A Job's deletion cannot shorten the grace of its pods: each is told itself, by uid."""
        for pod in await self._pods(name):
            options = {"gracePeriodSeconds": int(grace_s), "preconditions": {"uid": pod.uid}}
            await self._api.delete(f"{self._core}/pods/{pod.name}", options)

    async def _ask_podless(self, view: View) -> None:
        """Why a Job has no pod (quota, admission, a missing service account) is told by an event alone."""
        while True:
            await asyncio.sleep(PODLESS_EVERY_S)
            for job in list(view.jobs.values()):
                if not job.conditions and not job.is_deleting and not view.pods.get(job.name):
                    await self._ask_about(view, job.name, job.uid)

    async def _ask_about(self, view: View, name: str, uid: str) -> None:
        query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning"}
        try:
            events = (await self._api.get(f"{self._core}/events", **query))["items"]
        except ClusterError as error:
            if not isinstance(error, ClusterAway):
                _log.warning("events_unreadable", job=name, reason=str(error))
            return
        if events and name in view.jobs:
            last = max(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
            told = Told(last.get("reason") or "", last.get("message") or "")
            if view.told.get(name) != told:
                view.told[name] = told
                view.touch(name)


async def _moved(view: View, tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Wait for the view; the tasks that fill it never end, so one that did is a fault of ours and is raised."""
    moved = asyncio.ensure_future(view.moved())
    try:
        await asyncio.wait([moved, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        moved.cancel()
