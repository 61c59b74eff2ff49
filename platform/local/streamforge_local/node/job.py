"""One Job as a pure state machine: which ordinal to start, signal or give up, given exits and the time.

It owns every rule about restarts. It does no I/O and reads no clock: times are epoch seconds that its caller passes in.
"""

import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

Phase = Literal["pending", "running", "succeeded", "failed"]

EXIT_NEVER_WORKS = 78
"""sysexits.h EX_CONFIG: starting again cannot help."""
UNCOUNTED_EXITS = frozenset({75, 128 + signal.SIGTERM})
"""EX_TEMPFAIL and an end by SIGTERM: the process was disturbed, it did not fail."""
STEADY_FACTOR = 2
"""A life longer than this many times the longest delay starts the delays over."""

# Interned: a thousand finished Jobs have the same names and mostly the same values.
Label = Annotated[str, AfterValidator(sys.intern)]
EnvName = Annotated[str, Field(pattern=r"^[^=\x00]+$"), AfterValidator(sys.intern)]
CText = Annotated[str, Field(pattern=r"^[^\x00]*$"), AfterValidator(sys.intern)]
CSecret = Annotated[SecretStr, Field(max_length=131_072)]


class JobSpec(BaseModel):
    """A Job as its client describes it. `labels` are kept and given back, never read for a decision."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    labels: dict[Label, Label] = {}
    command: Annotated[tuple[CText, ...], Field(min_length=1)]
    env: dict[EnvName, CText] = {}
    secret_env: dict[EnvName, CSecret] = {}
    replicas: Annotated[int, Field(ge=1)] = 1
    backoff_limit: Annotated[int, Field(ge=0)] = 0
    grace_s: Annotated[float, Field(ge=0)] = 30.0
    cwd: Annotated[CText, Field(pattern=r"^/")] | None = None


@dataclass(frozen=True)
class RestartPolicy:
    """How long an ordinal waits for its next start, and a finished Job for its removal; all in seconds."""

    first_delay_s: float = 0.1
    longest_delay_s: float = 5.0
    ttl_s: float = 3600.0

    def delay(self, ends: int) -> float:
        """The wait after so many ends in a row."""
        return min(self.first_delay_s * 2.0 ** min(ends - 1, 30), self.longest_delay_s)


@dataclass(slots=True)
class Ordinal:
    """One replica. Its first ten fields are what clients see."""

    ordinal: int
    phase: Phase = "pending"
    restarts: int = 0
    disruptions: int = 0
    last_exit: int | None = None
    last_exit_at: float | None = None
    started_at: float | None = None
    reason: str | None = None
    pid: int | None = None
    last_output: str = ""
    """The end of what it wrote before its latest end, if that was not 0 nor its node's."""
    log_start: int = 0
    """Where in its log its latest life begins."""
    uncounted_in_a_row: int = 0
    not_before: float = 0.0
    kill_at: float | None = None
    """Set when SIGTERM is sent: the time for SIGKILL."""
    killed: bool = False


@dataclass(frozen=True)
class Start:
    """Start this ordinal; the Job holds it for running from now on."""

    ordinal: int


@dataclass(frozen=True)
class Signal:
    """Send this signal to the ordinal's process group."""

    ordinal: int
    signum: int


class Job:
    """A Job and its ordinals. After a change the caller asks `step` what to do and `wake_at` when to ask again."""

    def __init__(self, spec: JobSpec, policy: RestartPolicy, *, created_at: float) -> None:
        self.spec = spec
        self.ordinals = [Ordinal(index) for index in range(spec.replicas)]
        self.condition: Literal["complete", "failed"] | None = None
        self.reason: str | None = None
        self.message: str | None = None
        self.deleting = False
        self._policy = policy
        self._created_at = created_at
        self._ended_at: float | None = None
        self._grace_s = spec.grace_s
        self._evicted = False

    @property
    def live(self) -> int:
        """How many ordinals have a process, or may have one."""
        return sum(ordinal.phase == "running" for ordinal in self.ordinals)

    @property
    def unfinished(self) -> int:
        """How many ordinals have, or will again have, a process."""
        return self.live if self.ended else sum(o.phase in ("pending", "running") for o in self.ordinals)

    def forget_environment(self) -> None:
        """Nothing of it will start any more: what only a start needs goes, secrets too."""
        if self.ended and not self.live:
            self.spec = self.spec.model_copy(update={"env": {}, "secret_env": {}})

    @property
    def ended(self) -> bool:
        """Whether no ordinal will be started any more."""
        return self.deleting or self.condition is not None

    @property
    def gone(self) -> bool:
        """Whether it was asked to go and nothing of it lives: to be forgotten."""
        return self.deleting and self.live == 0

    def step(self, now: float, *, can_start: bool = True) -> list[Start | Signal]:
        """What to do now; starts and signals are taken for done."""
        if self.condition is not None and now >= self._expires_at():
            self.deleting = True
        actions: list[Start | Signal] = []
        if self.ended or self._evicted:
            actions += (action for ordinal in self._running() for action in self._end(ordinal, now))
        elif can_start:
            for ordinal in self.ordinals:
                if ordinal.phase == "pending" and ordinal.not_before <= now:
                    ordinal.phase, ordinal.started_at, ordinal.killed = "running", now, False
                    actions.append(Start(ordinal.ordinal))
        return actions

    def wake_at(self, *, can_start: bool = True) -> float | None:
        """When `step` will have something new to do; None = only after a change."""
        times = [ordinal.kill_at for ordinal in self._running() if ordinal.kill_at is not None and not ordinal.killed]
        if self.condition is not None and not self.deleting:
            times.append(self._expires_at())
        if can_start and not self.ended and not self._evicted:
            times += [ordinal.not_before for ordinal in self.ordinals if ordinal.phase == "pending"]
        return min(times, default=None)

    def exited(self, index: int, code: int, now: float, *, oom: bool = False, output: str = "") -> None:
        """The ordinal's process ended, `output` were its last words.

        A death by signal n is code 128 + n, `oom` one for want of memory.
        """
        ordinal = self.ordinals[index]
        evicted = self._evicted and ordinal.killed
        lived = now - (ordinal.started_at or now)
        self._end_life(ordinal, code, now, output if code else "")
        if oom:
            ordinal.reason = "oom-killed"
        if code == 0:
            ordinal.phase = "succeeded"
            ordinal.reason = None
            if self.condition is None and all(o.phase == "succeeded" for o in self.ordinals):
                self.condition, self._ended_at = "complete", now
        elif self.ended:
            ordinal.phase, ordinal.reason = "failed", "terminated"
        elif code == EXIT_NEVER_WORKS:
            ordinal.phase = "failed"
            self._fail("exit-78", f"ordinal {index} ended with 78: its configuration or input can never work", now)
        elif code in UNCOUNTED_EXITS or evicted:
            self._disrupted(ordinal, now, lived=lived)
        else:
            self._failed(ordinal, code, now)

    def lost(self, now: float) -> bool:
        """All processes died with their parent, which is nobody's failure. True when there was one."""
        running = list(self._running())
        for ordinal in running:
            self._end_life(ordinal, 128 + signal.SIGKILL, now)
            ordinal.reason = "node-lost"
            ordinal.phase = "failed" if self.ended else "pending"
            ordinal.disruptions += 1
            ordinal.not_before = now
        return bool(running)

    def not_started(self, index: int, why: str, now: float) -> None:
        """The ordinal could not be started for a reason that lies in this machine; it is tried again."""
        ordinal = self.ordinals[index]
        ordinal.pid = None
        ordinal.reason, self.reason, self.message = "start-failed", "start-failed", why
        if self.ended:
            ordinal.phase = "failed"
        else:
            self._disrupted(ordinal, now, lived=0.0)
            ordinal.reason = "start-failed"

    def running_as(self, index: int, pid: int) -> None:
        """The ordinal's process exists; an earlier trouble with starting is over."""
        self.ordinals[index].pid = pid
        if self.reason == "start-failed":
            self.reason = self.message = None

    def delete(self, now: float, grace_s: float | None) -> None:
        """End and forget the Job; a later call may shorten the grace."""
        self.deleting = True
        if grace_s is not None:
            self._grace_s = grace_s
            for ordinal in self._running():
                if ordinal.kill_at is not None:
                    ordinal.kill_at = min(ordinal.kill_at, now + grace_s)

    def evict(self, longest_grace_s: float) -> None:
        """The node stops: end the processes, to be started again by the next node."""
        self._evicted = True
        self._grace_s = min(self._grace_s, longest_grace_s)

    def state(self) -> dict[str, Any]:
        """All that a new node must know beside the spec, as JSON values."""
        return {
            "created_at": self._created_at,
            "ended_at": self._ended_at,
            "condition": self.condition,
            "reason": self.reason,
            "message": self.message,
            "deleting": self.deleting,
            "ordinals": [asdict(ordinal) for ordinal in self.ordinals],
        }

    @classmethod
    def restore(cls, spec: JobSpec, policy: RestartPolicy, state: dict[str, Any]) -> "Job":
        """The Job as `state` gave it."""
        job = cls(spec, policy, created_at=state["created_at"])
        job.condition, job.reason, job.message = state["condition"], state["reason"], state["message"]
        job.deleting, job._ended_at = state["deleting"], state["ended_at"]
        job.ordinals = [Ordinal(**ordinal) for ordinal in state["ordinals"]]
        return job

    def status(self) -> dict[str, Any]:
        """The Job as clients see it, as JSON values."""
        hidden = ("log_start", "uncounted_in_a_row", "not_before", "kill_at", "killed")
        ordinals = [{k: v for k, v in asdict(ordinal).items() if k not in hidden} for ordinal in self.ordinals]
        return {
            "name": self.spec.name,
            "labels": self.spec.labels,
            "condition": self.condition,
            "reason": self.reason,
            "message": self.message,
            "ordinals": ordinals,
            "live": self.live,
            "deleting": self.deleting,
            "created_at": self._created_at,
        }

    def _running(self) -> Iterator[Ordinal]:
        return (ordinal for ordinal in self.ordinals if ordinal.phase == "running")

    def _expires_at(self) -> float:
        return (self._ended_at or 0.0) + self._policy.ttl_s

    def _end(self, ordinal: Ordinal, now: float) -> Iterator[Signal]:
        if ordinal.kill_at is None:
            ordinal.kill_at = now + self._grace_s
            yield Signal(ordinal.ordinal, signal.SIGTERM)
        if now >= ordinal.kill_at and not ordinal.killed:
            ordinal.killed = True
            yield Signal(ordinal.ordinal, signal.SIGKILL)

    def _end_life(self, ordinal: Ordinal, code: int, now: float, output: str = "") -> None:
        ordinal.last_exit, ordinal.last_exit_at, ordinal.last_output = code, now, output
        ordinal.reason = f"exit-{code}"
        ordinal.pid = ordinal.kill_at = None

    def _disrupted(self, ordinal: Ordinal, now: float, *, lived: float) -> None:
        steady = lived > STEADY_FACTOR * self._policy.longest_delay_s
        ordinal.phase = "pending"
        ordinal.disruptions += 1
        ordinal.uncounted_in_a_row = 1 if steady else ordinal.uncounted_in_a_row + 1
        ordinal.not_before = now + self._policy.delay(ordinal.uncounted_in_a_row)

    def _failed(self, ordinal: Ordinal, code: int, now: float) -> None:
        ordinal.restarts += 1
        ordinal.uncounted_in_a_row = 0
        if ordinal.restarts <= self.spec.backoff_limit:
            ordinal.phase = "pending"
            ordinal.not_before = now + self._policy.delay(ordinal.restarts)
            return
        ordinal.phase = "failed"
        how = f"with exit code {code}" if ordinal.reason != "oom-killed" else "for want of memory"
        message = f"ordinal {ordinal.ordinal} failed {ordinal.restarts} times, the last time {how}"
        self._fail("backoff-limit-exceeded", message, now)

    def _fail(self, reason: str, message: str, now: float) -> None:
        self.condition, self.reason, self.message, self._ended_at = "failed", reason, message, now
        for ordinal in self.ordinals:
            if ordinal.phase == "pending":
                ordinal.phase, ordinal.reason = "failed", "job-failed"
