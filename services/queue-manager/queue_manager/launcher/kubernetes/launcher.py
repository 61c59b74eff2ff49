"""The launcher for a cluster: each launch of a step is a Kubernetes Job (docs/reference/kubernetes.md).

One watch on Jobs and one on pods, by label selector; calls go by name and are never repeated blindly: a create whose
answer was lost is found again as ``AlreadyExists``.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from queue_manager.launcher.interface import (
    JobEvent,
    JobExists,
    JobSpec,
    JobStatus,
    LauncherUnavailable,
    LogLine,
)
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterError
from queue_manager.launcher.kubernetes.archive import Archive
from queue_manager.launcher.kubernetes.complaints import Complaints
from queue_manager.launcher.kubernetes.follow import Follower
from queue_manager.launcher.kubernetes.janitor import Janitor, Patience
from queue_manager.launcher.kubernetes.keeper import Keeper
from queue_manager.launcher.kubernetes.lease import LeaseElection
from queue_manager.launcher.kubernetes.logs import Wanted, read_logs
from queue_manager.launcher.kubernetes.manifest import SecretRef, job_manifest
from queue_manager.launcher.kubernetes.objects import JOB_NAME, Pod, job_of, pod_of
from queue_manager.launcher.kubernetes.pace import Pace
from queue_manager.launcher.kubernetes.refusals import refusal
from queue_manager.launcher.kubernetes.rights import Rights
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from queue_manager.launcher.kubernetes.status import job_status
from queue_manager.launcher.kubernetes.view import View

APP = "app=streamforge"
PATIENCE = Patience()


class KubernetesLauncher:
    """Runs Jobs in one namespace of a cluster. It connects on first use."""

    def __init__(
        self, settings: KubernetesSettings, *, shared: frozenset[str] = frozenset(), patience: Patience = PATIENCE
    ) -> None:
        """A launcher.

        Args:
            settings: Where, and how a Job looks there.
            shared: Names of environment variables that the namespace's ConfigMap gives to every Job.
            patience: How long is waited for sidecars and for pods on nodes that do not answer.
        """
        self._settings = settings
        self._shared = shared
        self._patience = patience
        self._api = ClusterApi(settings)
        # connections of their own: however many logs are followed, no other call waits for one
        self._log_api = ClusterApi(settings, connections=0)
        self._archive = Archive(settings)
        self._keeper: Keeper | None = None
        self._rights = Rights(self._api)
        self._pace = Pace(settings.creates_per_s)
        self._jobs = f"/apis/batch/v1/namespaces/{settings.namespace}/jobs"
        self._core = f"/api/v1/namespaces/{settings.namespace}"

    # -- Launcher ------------------------------------------------------------------------------------------------------

    def election(self) -> LeaseElection:
        """Where the controllers' lease is written in this cluster."""
        return LeaseElection(self._api, self._settings.lease)

    async def check(self) -> None:
        """See Launcher; a right that is missing is named."""
        await self._rights.check()

    async def create(self, spec: JobSpec) -> JobStatus:
        """See Launcher. It waits for its turn (``KUBERNETES_CREATES_PER_S``), and not for a server that is full."""
        refs = {name: SecretRef(*ref) for name, ref in spec.secret_refs.items()}
        manifest = job_manifest(spec, self._settings, secret_refs=refs, shared=self._shared)
        self._must_not_wait()
        await self._pace.turn()
        self._must_not_wait()
        try:
            made = await self._api.create(self._jobs, manifest)
        except ClusterError as error:
            if error.status in (429, 503) and error.retry_after:
                self._pace.hold(error.retry_after)
            if error.status == 409 and error.reason == "AlreadyExists" and (found := await self.get(spec.name)):
                raise JobExists(found) from error
            raise refusal(error) from error
        return job_status(job_of(made), (), now=time.time())

    async def get(self, name: str) -> JobStatus | None:
        """See Launcher."""
        try:
            raw = await self._api.get(f"{self._jobs}/{name}")
            pods = await self._pods(name)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise refusal(error) from error
        return job_status(job_of(raw), pods, now=time.time())

    async def list(self) -> Sequence[JobStatus]:
        """See Launcher."""
        try:
            jobs = [job_of(raw) async for page, _ in self._api.pages(self._jobs, APP) for raw in page]
            pods = [pod_of(raw) async for page, _ in self._api.pages(f"{self._core}/pods", APP) for raw in page]
        except ClusterError as error:
            raise refusal(error) from error
        of: dict[str, list[Pod]] = {}
        for pod in pods:
            of.setdefault(pod.job, []).append(pod)
        now = time.time()
        return [job_status(job, of.get(job.name, ()), now=now) for job in jobs]

    async def watch(self) -> AsyncIterator[JobEvent]:
        """See Launcher."""
        view = View(sidecar_s=self._patience.sidecar_s)
        complaints = Complaints(self._api, view)
        followers = (
            Follower(self._api, self._jobs, APP, view.jobs_told()),
            Follower(self._api, f"{self._core}/pods", f"{APP},{JOB_NAME}", view.pods_told()),
        )
        tasks = [asyncio.create_task(f.run(), name="kubernetes-follow") for f in followers]
        tasks.append(asyncio.create_task(complaints.run(), name="kubernetes-complaints"))
        tasks.append(asyncio.create_task(Janitor(self._api, view, self._patience).run(), name="kubernetes-janitor"))
        keeper = Keeper(self._log_api, self._archive, view, pod_bytes=self._settings.log_pod_max_bytes)
        tasks.append(asyncio.create_task(keeper.run(), name="kubernetes-keeper"))
        self._keeper = keeper
        syncs = 0
        try:
            while True:
                await _moved(view, tasks)
                if view.syncs == 0:
                    continue
                listed, names = view.syncs, view.take()
                if not syncs:
                    names = sorted({*names, *view.jobs}, key=view.turn)
                for name in names:
                    keeper.look(name)
                await complaints.gather(names)  # what was said of a failure is there before anybody acts on it
                for name in names:
                    yield JobEvent(name=name, status=view.status(name))
                if listed > syncs:
                    syncs = listed
                    yield JobEvent(name="", status=None, synced=True)
        finally:
            self._keeper = None
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def delete(self, name: str, *, grace_s: float | None = None) -> None:
        """See Launcher. The Job stays in sight until its pods are gone (foreground deletion).

        Up to 5 s go by until their logs are being kept, if a watch runs.
        """
        try:
            job = job_of(await self._api.get(f"{self._jobs}/{name}"))
            if self._keeper is not None:
                await self._keeper.ready(name)
            if grace_s is not None and grace_s < job.grace_s:
                # first: what ends a pod with the grace it has cannot be shortened (kubernetes issue 113606)
                await self._hurry(name, grace_s)
            options = {"propagationPolicy": "Foreground", "preconditions": {"uid": job.uid}}
            await self._api.delete(f"{self._jobs}/{name}", options)
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
        wanted = Wanted(ordinal, since, tail, follow)
        return read_logs(self._log_api, self._archive, f"{self._jobs}/{name}", wanted)

    async def close(self) -> None:
        """See Launcher."""
        await self._api.close()
        await self._log_api.close()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _must_not_wait(self) -> None:
        if (wait := self._pace.held_s) > 0:
            raise LauncherUnavailable(f"the API server takes no more now and asked to wait; {wait:.0f} s are left")

    async def _pods(self, name: str) -> Sequence[Pod]:
        found = await self._api.get(f"{self._core}/pods", labelSelector=f"{APP},{JOB_NAME}={name}")
        return [pod_of(raw) for raw in found["items"]]

    async def _hurry(self, name: str, grace_s: float) -> None:
        """A Job's deletion cannot shorten the grace of its pods: each is told itself, by uid."""
        for pod in await self._pods(name):
            options = {"gracePeriodSeconds": int(grace_s), "preconditions": {"uid": pod.uid}}
            await self._api.delete(f"{self._core}/pods/{pod.name}", options)


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
