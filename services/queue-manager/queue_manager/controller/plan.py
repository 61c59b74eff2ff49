"""What is to be done next for a workflow: a pure function of its document, its Jobs and the time.

It never asks anybody and never forgets anything: called again with the same arguments it says the same, so a crash at
any point is repaired by the next pass. ``changes`` end up in one write of the document; ``effects`` act on what is
already written, and every one may be done twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from queue_manager.controller.judgement import all_started, give_up, has_spoken
from queue_manager.launcher.interface import JobStatus
from queue_manager.model import Launch, Reason, StepSpec, StepStatus, Stopping, WorkflowDocument

RELAUNCH_PAUSE_S = 2.0
"""Between two launches of a step when the first came to nothing: what fails at once must not spin."""
FORCED_GRACE_S = 5.0
"""What a worker that did not stop within its grace still gets between SIGTERM and SIGKILL."""
HANGS = frozenset({"node-lost", "sidecar-running"})
"""Reasons of a platform that concern a step which has started."""

Change = Literal["launch", "judge", "supersede", "observe", "fix-drain", "drop", "stop", "release"]
Effect = Literal["create", "send-stop", "send-drain", "end-job", "remove"]


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do. ``job``: the Job as it was seen; ``grace_s``: of its end."""

    name: Change | Effect
    step: str = ""
    job: JobStatus | None = None
    reason: Reason | None = None
    grace_s: float | None = None
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """What the plan depends on beside document and Jobs."""

    now: float
    has_room: bool = True
    """A place among the workflows that run is its own."""
    healthy_since: float = 0.0
    """Since when platform and broker answer: before that no deadline runs."""
    sent: frozenset[str] = frozenset()
    """Commands that this process sent already (``sent_key``)."""


@dataclass(slots=True)
class Plan:
    """``wake_at``: when to look again though nothing happens, in seconds since the epoch."""

    changes: list[Action] = field(default_factory=list)
    effects: list[Action] = field(default_factory=list)
    wake_at: float | None = None

    def wake(self, at: float) -> None:
        """Look again then, at the latest."""
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)


def sent_key(launch: Launch, command: str) -> str:
    """Names a command to a launch; a drain has its number in it."""
    return f"{launch.decision_id}/{command}/{launch.drain.drain_id if launch.drain else 0}"


def make_plan(document: WorkflowDocument, jobs: Mapping[str, JobStatus], world: World) -> Plan:
    """The next actions; none: wait for an event, a Job, a request or ``wake_at``."""
    plan = Plan()
    if document.is_ended:
        _plan_ended(document, jobs, plan)
        return plan
    if document.is_waiting and not world.has_room:
        return plan
    scene = _Scene(document, jobs, world, plan)
    for spec in document.spec.steps:
        step = document.step(spec.name)
        if step.end is not None:
            continue
        launch = step.live_launch(document.status.attempt)
        if launch is None:
            scene.look_at_unlaunched(spec)
        else:
            _Step(document, spec, step, launch, world, plan).look(jobs.get(launch.job))
    return plan


def _plan_ended(document: WorkflowDocument, jobs: Mapping[str, JobStatus], plan: Plan) -> None:
    if document.spec.delete is not None:
        names = [launch.job for step in document.status.steps.values() for launch in step.launches]
        found = [jobs[name] for name in names if name in jobs and _is_ours(jobs[name], document)]
        plan.effects += [Action("end-job", job=job) for job in found if not job.deleting]
        if not found:
            plan.effects.append(Action("remove"))
    elif document.status.topics == "kept":
        plan.changes.append(Action("release"))


def _is_ours(job: JobStatus, document: WorkflowDocument) -> bool:
    return job.labels.get("queue_id") == document.queue_id


@dataclass(frozen=True, slots=True)
class _Scene:
    document: WorkflowDocument
    jobs: Mapping[str, JobStatus]
    world: World
    plan: Plan

    def look_at_unlaunched(self, spec: StepSpec) -> None:
        """Drop it when the workflow stops; launch it when no process of a former launch lives."""
        step = self.document.step(spec.name)
        stopping = self.document.status.stopping
        if stopping is not None and not _still_drains(self.document, spec, stopping):
            self.plan.changes.append(Action("drop", spec.name, reason=stopping.reason))
            return
        former = [self.jobs[launch.job] for launch in step.launches if launch.job in self.jobs]
        alive = [job for job in former if job.live and _is_ours(job, self.document)]
        if alive:
            self.plan.effects += [Action("end-job", spec.name, job=job) for job in alive if not job.deleting]
            return
        last = step.launch
        if last is not None and last.attempt == self.document.status.attempt:
            earliest = last.recorded_at + RELAUNCH_PAUSE_S
            if self.world.now < earliest:
                self.plan.wake(earliest)
                return
        self.plan.changes.append(Action("launch", spec.name))


def _still_drains(document: WorkflowDocument, spec: StepSpec, stopping: Stopping) -> bool:
    """Whether a step that does not run now has to read what was written before the stop."""
    return stopping.drain and bool(spec.reads) and document.status.has_place


@dataclass(frozen=True, slots=True)
class _Step:
    """A step with a launch under way."""

    document: WorkflowDocument
    spec: StepSpec
    step: StepStatus
    launch: Launch
    world: World
    plan: Plan

    def look(self, job: JobStatus | None) -> None:
        """At the Job first, then at what is to be told to it."""
        if job is not None and job.labels.get("decision_id") != self.launch.decision_id:
            self.plan.changes.append(Action("supersede", self.spec.name, job=job))
            return
        is_late = self._is_late()
        if job is None:
            if has_spoken(self.step, self.launch) or is_late or self.document.status.stopping is not None:
                self.plan.changes.append(Action("judge", self.spec.name, is_late=is_late))
            else:
                self.plan.effects.append(Action("create", self.spec.name))
            return
        if (job.condition is not None or job.deleting) and job.live == 0:
            self.plan.changes.append(Action("judge", self.spec.name, job=job, is_late=is_late))
            return
        if _has_news(self.step, self.launch, job):
            self.plan.changes.append(Action("observe", self.spec.name, job=job))
        self._steer(job, is_late=is_late)

    def _steer(self, job: JobStatus, *, is_late: bool) -> None:
        """A Job that goes on: give it up, stop it, drain it, or leave it alone."""
        if job.deleting:
            return
        if is_late or give_up(self.step, self.launch) is not None:
            self.plan.effects.append(Action("end-job", self.spec.name, job=job))
            return
        stopping = self.document.status.stopping
        if stopping is not None and not (stopping.drain and self.spec.reads):
            self._stop(job, stopping)
            return
        self._limit_run()
        if self.spec.reads:
            self._drain()

    def _stop(self, job: JobStatus, stopping: Stopping) -> None:
        if sent_key(self.launch, "stop") not in self.world.sent:
            self.plan.effects.append(Action("send-stop", self.spec.name))
        if self._cannot_begin(job):
            # nobody is there to hear it; a process that begins meanwhile still gets its grace
            self.plan.effects.append(Action("end-job", self.spec.name, job=job))
            return
        over = max(stopping.at, self.world.healthy_since) + self.spec.grace_s
        if self.world.now >= over:
            self.plan.effects.append(Action("end-job", self.spec.name, job=job, grace_s=FORCED_GRACE_S))
        else:
            self.plan.wake(over)

    def _cannot_begin(self, job: JobStatus) -> bool:
        """Whether nothing of this launch has run and the platform says what is in its way."""
        is_held = job.reason is not None and all(status.phase == "pending" for status in job.ordinals)
        return is_held and not has_spoken(self.step, self.launch)

    def _drain(self) -> None:
        if self.launch.drain is None:
            ends = [self.document.step(writer.name).end for writer in self.document.spec.upstream(self.spec)]
            if all(end is not None for end in ends):
                self.plan.changes.append(Action("fix-drain", self.spec.name))
        elif sent_key(self.launch, "drain") not in self.world.sent:
            self.plan.effects.append(Action("send-drain", self.spec.name))

    def _is_late(self) -> bool:
        """Whether not all have started by the deadline; says when to look again."""
        if all_started(self.step, self.launch):
            return False
        deadline = max(self.launch.recorded_at, self.world.healthy_since) + self.spec.start_deadline_s
        if self.world.now >= deadline:
            return True
        self.plan.wake(deadline)
        return False

    def _limit_run(self) -> None:
        if self.spec.max_run_s is None or self.document.status.stopping is not None:
            return
        attempt = self.document.status.attempt
        began = min(launch.recorded_at for launch in self.step.launches if launch.attempt == attempt)
        over = began + self.spec.max_run_s
        if self.world.now < over:
            self.plan.wake(over)
            return
        text = f"{self.spec.name} ran longer than its {self.spec.max_run_s:g} s"
        self.plan.changes.append(Action("stop", reason=Reason(code="max-run", message=text)))


def _has_news(step: StepStatus, launch: Launch, job: JobStatus) -> bool:
    """Whether the platform counts ends that the document does not know, says why it does not go on, or complains."""
    for status in job.ordinals:
        known = step.ordinals.get(status.ordinal)
        counted = (known.restarts, known.disruptions) if known else (0, 0)
        if counted != (status.restarts, status.disruptions):
            return True
    reason = pending_reason(step, launch, job)
    return (reason is not None and reason != step.reason) or job.warnings not in ((), step.warnings)


def pending_reason(step: StepStatus, launch: Launch, job: JobStatus) -> Reason | None:
    """Why a Job has not started or hangs, in the platform's words; None: it has, or the platform does not say."""
    if job.reason is None or (has_spoken(step, launch) and job.reason not in HANGS):
        return None
    return Reason(code=job.reason, message=job.message or job.reason)
