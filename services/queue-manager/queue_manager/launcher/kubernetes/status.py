"""What a Job and its pods mean: the JobStatus that the controller decides on. Pure.

Decided on the Job's conditions alone; ``status.failed`` of a Job that still retries means nothing (a failure shows at
the condition FailureTarget already). The pods tell why, and what each ordinal does. A worker that has ended in a pod
that goes on for its sidecar's sake has ended: its exit counts after ``SIDECAR_S``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from queue_manager.launcher.interface import Condition, JobStatus, OrdinalStatus, Phase
from queue_manager.launcher.kubernetes.manifest import NEVER_RETRIED, NOT_COUNTED
from queue_manager.launcher.kubernetes.objects import Job, Pod, Told
from queue_manager.launcher.kubernetes.pending import NODE_LOST, pending
from queue_manager.launcher.output import last_lines

OOM_KILLED = "OOMKilled"
SIDECAR_S = 60.0
"""Seconds that the containers beside a worker get to end after it."""
SIDECAR_RUNNING = "sidecar-running"

_COMPLETE = ("SuccessCriteriaMet", "Complete")
_FAILED = ("FailureTarget", "Failed")


def job_status(
    job: Job, pods: Iterable[Pod], *, now: float, told: Told | None = None, sidecar_s: float = SIDECAR_S
) -> JobStatus:
    """The Job as the controller knows it.

    Args:
        job: The Job.
        pods: All its pods, those that are no more among them.
        now: Epoch seconds.
        told: What the cluster said of a Job that has no pod.
        sidecar_s: After how many seconds the end of a worker counts in a pod that goes on.
    """
    settled = (_settled(job, pod, now, sidecar_s) for pod in pods)
    ordered = sorted(settled, key=lambda pod: pod.created_at)
    condition = _condition(job)
    of = [[pod for pod in ordered if pod.ordinal == number] for number in range(job.replicas)]
    ordinals = tuple(_ordinal(job, number, mine, condition) for number, mine in enumerate(of))
    if condition is None and job.is_deleting and all(ordinal.phase == "succeeded" for ordinal in ordinals):
        # taken away between its last worker's end and its condition, as for a sidecar that does not end
        condition = "complete"
    code, message = _reason(job, of, told, condition)
    return JobStatus(
        name=job.name,
        labels=job.labels,
        condition=condition,
        ordinals=ordinals,
        live=sum(not pod.is_over for pod in ordered),
        created_at=job.created_at,
        deleting=job.is_deleting,
        reason=code,
        message=message,
    )


def is_outlived(pod: Pod, now: float, sidecar_s: float) -> bool:
    """Whether its worker ended so long ago that nothing else of the pod is waited for."""
    return not pod.is_over and pod.end is not None and 0 < pod.end.at <= now - sidecar_s


def is_disrupted(pod: Pod) -> bool:
    """Whether its end does not count: taken away by the cluster, or an exit that means "again"."""
    if pod.phase != "Failed":
        return False
    return pod.disruption is not None or (pod.end is not None and pod.end.code in NOT_COUNTED)


def _settled(job: Job, pod: Pod, now: float, sidecar_s: float) -> Pod:
    """The pod as its worker's end makes it, when that counts already; ``told`` says what goes on in it."""
    if pod.end is None:
        return pod
    if is_outlived(pod, now, sidecar_s):
        others = ", ".join(pod.others) or "its pod"
        words = f"the worker of replica {pod.ordinal} has ended with {pod.end.code}, but {others} goes on beside it"
        phase = "Succeeded" if pod.end.code == 0 else "Failed"
        return replace(pod, phase=phase, told=Told(SIDECAR_RUNNING, words))
    # what becomes of the sidecars of a Job that goes says nothing about its worker
    return replace(pod, phase="Succeeded") if job.is_deleting and pod.end.code == 0 else pod


def _condition(job: Job) -> Condition | None:
    if any(name in job.conditions for name in _FAILED):
        return "failed"
    return "complete" if any(name in job.conditions for name in _COMPLETE) else None


def _ordinal(job: Job, number: int, pods: Sequence[Pod], condition: Condition | None) -> OrdinalStatus:
    over = [pod for pod in pods if pod.is_over]
    disruptions = sum(is_disrupted(pod) for pod in over)
    # 78 ends the Job and is no restart
    counted = sum(pod.phase == "Failed" and _exit(pod) not in NEVER_RETRIED for pod in over) - disruptions
    last = max(over, key=lambda pod: pod.end.at if pod.end else pod.created_at, default=None)
    latest = pods[-1] if pods else None
    why = pending(latest) if latest is not None and not latest.is_over else None
    return OrdinalStatus(
        ordinal=number,
        phase=_phase(job, number, latest, condition),
        restarts=max(0, counted),
        disruptions=disruptions,
        last_exit=_exit(last),
        last_exit_at=last.end.at if last is not None and last.end is not None else None,
        started_at=latest.started_at if latest is not None else None,
        reason=why.code if why is not None else _end_reason(last),
        last_lines=last_lines(last.end.message) if last is not None and last.end is not None and last.end.code else (),
    )


def _phase(job: Job, number: int, latest: Pod | None, condition: Condition | None) -> Phase:
    if number in job.succeeded or (latest is not None and latest.phase == "Succeeded"):
        return "succeeded"
    if latest is not None and not latest.is_over:
        return "running" if latest.started_at is not None else "pending"
    if condition == "failed" or (condition is None and latest is not None and _exit(latest) in NEVER_RETRIED):
        return "failed"
    return "succeeded" if condition == "complete" else "pending"


def _exit(pod: Pod | None) -> int | None:
    return pod.end.code if pod is not None and pod.end is not None else None


def _end_reason(pod: Pod | None) -> str | None:
    """Stable code of an end that has a name."""
    if pod is None:
        return None
    if pod.end is not None and pod.end.reason == OOM_KILLED:
        return "oom-killed"
    if pod.disruption is not None:
        return "node-lost" if pod.disruption.reason == NODE_LOST else "disrupted"
    return SIDECAR_RUNNING if pod.told.reason == SIDECAR_RUNNING else None


def _reason(
    job: Job, of: Sequence[Sequence[Pod]], told: Told | None, condition: Condition | None
) -> tuple[str | None, str | None]:
    """Why it failed, has not started or does not end; nothing of a Job that runs as it should."""
    if condition == "failed":
        return _failure(job, [pod for pods in of for pod in pods])
    if condition is not None:
        return None, None
    latest = [pods[-1] for pods in of if pods]
    for pod in latest:
        if not pod.is_over and (why := pending(pod)) is not None:
            return why.code, why.message
    for pod in latest:
        if pod.told.reason == SIDECAR_RUNNING:
            return pod.told.reason, pod.told.message
    if told is not None and not latest:
        return "pod-refused", f"the cluster cannot make its pod: {told.message or told.reason}"
    return None, None


def _failure(job: Job, pods: Sequence[Pod]) -> tuple[str, str]:
    words = next(job.conditions[name] for name in _FAILED if name in job.conditions)
    ended = [pod for pod in pods if pod.end is not None and pod.phase == "Failed" and not is_disrupted(pod)]
    last = max(ended, key=lambda pod: pod.end.at if pod.end else 0.0, default=None)
    if last is not None and last.end is not None:
        if last.end.reason == OOM_KILLED:
            return "oom-killed", f"replica {last.ordinal} needed more memory than its limit"
        if last.end.code in NEVER_RETRIED:
            said = last_lines(last.end.message) or ("see its log",)
            return "exit-78", f"replica {last.ordinal} ended with 78: {said[-1]}"
    code = "exit-78" if words.reason == "PodFailurePolicy" else "backoff-limit-exceeded"
    return code, words.message or words.reason
