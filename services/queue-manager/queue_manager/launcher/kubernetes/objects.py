"""What is kept of a Job and of a pod: some fifteen fields of objects that are a hundred times as large. Pure.

The fields are those of the API reference (batch/v1 Job, v1 Pod).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from queue_manager.launcher.interface import labels_of

Json = Mapping[str, Any]

INDEX = "batch.kubernetes.io/job-completion-index"
"""Annotation in which the Job controller tells a pod of an Indexed Job which one it is."""
JOB_NAME = "batch.kubernetes.io/job-name"
DISRUPTION = "DisruptionTarget"


@dataclass(frozen=True, slots=True)
class Told:
    """A condition or a state as the cluster words it."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A Job of ours. ``conditions``: those that are true, by type."""

    name: str
    uid: str
    labels: Mapping[str, str]
    container: str
    """Name of the worker's container."""
    replicas: int
    grace_s: float
    created_at: float
    is_deleting: bool
    conditions: Mapping[str, Told]
    succeeded: frozenset[int]
    """Ordinals that have ended well for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a container ended. ``at`` in epoch seconds."""

    code: int
    reason: str
    message: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of a Job. Times are epoch seconds."""

    name: str
    uid: str
    job: str
    ordinal: int
    phase: str
    created_at: float
    deleted_at: float | None
    """When it was asked to go; None: it was not."""
    kill_at: float | None
    """When its node has to have ended it by force; None: it was not asked to go."""
    node: str
    started_at: float | None
    """Start of the worker's container."""
    end: End | None
    """End of the worker's container."""
    others: tuple[str, ...]
    """Names of containers that run beside the worker's."""
    waiting: Told | None
    """Why a container has not started."""
    unscheduled: Told | None
    """Why it has no node."""
    disruption: Told | None
    """Who took it away (eviction, taint, preemption), if somebody did."""
    told: Told
    """The pod's own reason and message (``Evicted``, ``NodeLost``...)."""

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs or will."""
        return self.phase in ("Succeeded", "Failed")


def job_of(raw: Json) -> Job:
    """The Job that a JSON object of batch/v1 describes."""
    meta, spec, status = raw["metadata"], raw["spec"], raw.get("status", {})
    pod = spec["template"]["spec"]
    replicas = spec.get("completions") or 1
    is_indexed = spec.get("completionMode") == "Indexed"
    done = _indexes(status.get("completedIndexes", "")) if is_indexed else range(min(1, status.get("succeeded") or 0))
    return Job(
        name=meta["name"],
        uid=meta["uid"],
        labels=labels_of(meta.get("labels", {})),
        container=pod["containers"][0]["name"],
        replicas=replicas,
        grace_s=float(pod.get("terminationGracePeriodSeconds") or 30),
        created_at=seconds(meta["creationTimestamp"]),
        is_deleting="deletionTimestamp" in meta,
        conditions={c["type"]: _told(c) for c in status.get("conditions") or () if c["status"] == "True"},
        succeeded=frozenset(done),
    )


def pod_of(raw: Json) -> Pod:
    """The pod that a JSON object of v1 describes."""
    meta, status = raw["metadata"], raw.get("status", {})
    labels, conditions = meta.get("labels", {}), {c["type"]: c for c in status.get("conditions") or ()}
    worker = labels.get("target") or raw["spec"]["containers"][0]["name"]
    state = next((s.get("state") or {} for s in status.get("containerStatuses") or () if s["name"] == worker), {})
    waiting = [s["state"]["waiting"] for s in _statuses(status) if "waiting" in (s.get("state") or {})]
    scheduled, disrupted = conditions.get("PodScheduled", {}), conditions.get(DISRUPTION, {})
    running = state.get("running") or state.get("terminated") or {}
    deleted = seconds(meta["deletionTimestamp"]) if "deletionTimestamp" in meta else None
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        job=labels.get(JOB_NAME) or labels.get("job-name", ""),
        ordinal=int(meta.get("annotations", {}).get(INDEX) or labels.get(INDEX) or 0),
        phase=status.get("phase", "Pending"),
        created_at=seconds(meta["creationTimestamp"]),
        # the API shows when its grace is over
        deleted_at=None if deleted is None else deleted - float(meta.get("deletionGracePeriodSeconds") or 0),
        kill_at=deleted,
        node=raw["spec"].get("nodeName", ""),
        started_at=seconds(running["startedAt"]) if running.get("startedAt") else None,
        end=_end(state.get("terminated")),
        others=_running(status, but=worker),
        waiting=_told(waiting[0]) if waiting else None,
        unscheduled=_told(scheduled) if scheduled.get("status") == "False" else None,
        disruption=_told(disrupted) if disrupted.get("status") == "True" else None,
        told=_told(status),
    )


def seconds(timestamp: str) -> float:
    """Epoch seconds of an RFC 3339 time."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def _statuses(status: Json) -> list[Json]:
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _running(status: Json, *, but: str) -> tuple[str, ...]:
    return tuple(s["name"] for s in _statuses(status) if "running" in (s.get("state") or {}) and s["name"] != but)


def _told(raw: Json) -> Told:
    return Told(raw.get("reason") or "", raw.get("message") or "")


def _end(raw: Json | None) -> End | None:
    if raw is None:
        return None
    finished = raw.get("finishedAt")
    return End(
        code=int(raw["exitCode"]),
        reason=raw.get("reason") or "",
        message=raw.get("message") or "",
        at=seconds(finished) if finished else 0.0,
    )


def _indexes(text: str) -> set[int]:
    """``1,3-5,7`` as Indexed Jobs write their indexes."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
