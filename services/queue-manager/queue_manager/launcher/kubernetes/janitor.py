"""Takes away what keeps a Job from its end: a sidecar that outlives its worker, a pod on a node that is lost.

It looks at the view alone and calls the API only when something is wrong. What it finds it tells first and mends at its
next look, so that the reason is seen; whatever it deletes it deletes by uid.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterAway, ClusterError
from queue_manager.launcher.kubernetes.objects import DISRUPTION, Job, Pod, Told
from queue_manager.launcher.kubernetes.pending import NODE_LOST
from queue_manager.launcher.kubernetes.status import SIDECAR_S, is_outlived
from queue_manager.launcher.kubernetes.view import View

_log = structlog.get_logger(component="kubernetes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the janitor waits, in seconds."""

    look_s: float = 5.0
    """Between two looks."""
    sidecar_s: float = SIDECAR_S
    """For the containers beside a worker that has ended."""
    node_s: float = 60.0
    """For a pod beyond its grace."""


class Janitor:
    """One for a watch, so that only the controller that acts has one."""

    def __init__(
        self, api: ClusterApi, view: View, patience: Patience, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._api, self._view, self._patience, self._clock = api, view, patience, clock
        self._jobs = f"/apis/batch/v1/namespaces/{api.namespace}/jobs"
        self._pods = f"/api/v1/namespaces/{api.namespace}/pods"
        self._outlived: set[str] = set()
        """Uids of pods of which it was told that their sidecars go on."""
        self._refused: set[tuple[str, str]] = set()
        """What could not be done was told once."""

    async def run(self) -> None:
        """Until cancelled; never raises for what the cluster does."""
        while True:
            await asyncio.sleep(self._patience.look_s)
            try:
                await self.look()
            except ClusterAway as error:
                _log.info("cleanup_later", reason=str(error))

    async def look(self) -> None:
        """Look once at every pod that is not over; raises ClusterAway."""
        now, present = self._clock(), set()
        for name, pods in list(self._view.pods.items()):
            job = self._view.jobs.get(name)
            for pod in list(pods.values()) if job is not None else ():
                present.add(pod.uid)
                if job is not None and not pod.is_over:
                    await self._look_at(job, pod, now)
        self._outlived &= present
        for uid in self._view.lost.keys() - present:
            del self._view.lost[uid]
        self._refused = {told for told in self._refused if told[0] in present}

    async def _look_at(self, job: Job, pod: Pod, now: float) -> None:
        try:
            if is_outlived(pod, now, self._patience.sidecar_s) and pod.deleted_at is None:
                await self._end_sidecars(job, pod)
            elif pod.kill_at is not None and pod.node and now >= pod.kill_at + self._patience.node_s:
                await self._leave_node(job, pod)
        except ClusterAway:
            raise
        except ClusterError as error:
            told = (pod.uid, error.reason)
            if told not in self._refused:
                self._refused.add(told)
                _log.warning("cleanup_refused", job=job.name, pod=pod.name, reason=str(error))

    # -- a sidecar that goes on ----------------------------------------------------------------------------------------

    async def _end_sidecars(self, job: Job, pod: Pod) -> None:
        if job.conditions or job.is_deleting or pod.end is None:
            return
        if pod.uid not in self._outlived:
            self._outlived.add(pod.uid)
            self._view.touch(job.name)
            return
        if pod.end.code != 0:
            # it ends as failed then, and the Job counts it by its worker's exit code
            await self._delete_pod(pod)
        elif self._is_done(job):
            # a pod that is deleted has failed: only without its Job is it not begun again
            _log.info("sidecar_ended", job=job.name, pod=pod.name, containers=pod.others)
            options = {"propagationPolicy": "Foreground", "preconditions": {"uid": job.uid}}
            await self._api.delete(f"{self._jobs}/{job.name}", options)

    def _is_done(self, job: Job) -> bool:
        status = self._view.status(job.name)
        return status is not None and all(ordinal.phase == "succeeded" for ordinal in status.ordinals)

    async def _delete_pod(self, pod: Pod) -> None:
        _log.info("sidecar_ended", job=pod.job, pod=pod.name, containers=pod.others)
        await self._api.delete(f"{self._pods}/{pod.name}", {"preconditions": {"uid": pod.uid}})

    # -- a node that is lost -------------------------------------------------------------------------------------------

    async def _leave_node(self, job: Job, pod: Pod) -> None:
        why, told = await self._why_lost(pod.node), self._view.lost.get(pod.uid)
        if why is None:
            if self._view.lost.pop(pod.uid, None) is not None:
                self._view.touch(job.name)
            return
        if told is None:
            words = f"{why}; its pod {pod.name} should have ended at {_iso(pod.kill_at or 0.0)} and is given up"
            self._view.lost[pod.uid] = Told(NODE_LOST, words)
            self._view.touch(job.name)
            return
        _log.warning("node_lost", job=job.name, pod=pod.name, node=pod.node, reason=told.message)
        # with podReplacementPolicy Failed the Job waits for the phase, which only the node would have written
        await self._mark_failed(pod, told)
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
        await self._api.delete(f"{self._pods}/{pod.name}", options)

    async def _why_lost(self, node: str) -> str | None:
        """Why the node cannot end its pods; None: it can, so something else holds the pod."""
        try:
            raw = await self._api.get(f"/api/v1/nodes/{node}")
        except ClusterError as error:
            if error.status != 404:
                raise
            return f"node {node} is gone"
        ready = next((c for c in raw["status"].get("conditions") or () if c["type"] == "Ready"), None)
        if ready is None:
            return f"node {node} has never been ready"
        if ready["status"] == "True":
            return None
        said = ready.get("message") or ready.get("reason") or "it says nothing"
        return f"node {node} is not ready since {ready.get('lastTransitionTime')} ({said})"

    async def _mark_failed(self, pod: Pod, told: Told) -> None:
        path = f"{self._pods}/{pod.name}"
        try:
            raw = await self._api.get(path)
            if raw["metadata"]["uid"] == pod.uid:
                await self._api.patch(f"{path}/status", _failed(raw, told))
        except ClusterError as error:
            if error.status not in (404, 409):
                raise


def _failed(raw: dict[str, Any], told: Told) -> dict[str, Any]:
    """A merge patch: a disruption, which does not count against the Job's limit."""
    disrupted = {
        "type": DISRUPTION,
        "status": "True",
        "reason": told.reason,
        "message": told.message,
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    others = [condition for condition in raw["status"].get("conditions") or () if condition["type"] != DISRUPTION]
    status = {"phase": "Failed", "reason": told.reason, "message": told.message, "conditions": [*others, disrupted]}
    return {"metadata": {"uid": raw["metadata"]["uid"]}, "status": status}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
