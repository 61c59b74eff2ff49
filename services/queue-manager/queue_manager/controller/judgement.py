"""How a launch ended: the one place that decides it (contract 6 and 7, commit.md "Judgement"). Pure, no timers.

It is asked when the Job's condition is there (or the Job is gone), no process of it lives, and queue-events were read
to the end that was fetched after both had been seen.
"""

from dataclasses import dataclass
from typing import Literal

from queue_manager.launcher.interface import JobStatus, OrdinalStatus
from queue_manager.model import Launch, Ordinal, Reason, StepSpec, StepStatus, Stopping
from streamforge_utils.contracts.events import EventName

MAX_IDLE_ENDS = 5
CONFIGURATION_EXIT = 78
LONGEST_LINE = 500
"""Characters of a worker's last line that a reason repeats."""

Outcome = Literal["finished", "failed", "interrupted", "again"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``again``: the launch came to nothing final, another one follows; the reason says why."""

    outcome: Outcome
    reason: Reason | None = None
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known beside the events. ``job`` None: it is gone. ``progressed``: ordinals that committed in it."""

    job: JobStatus | None
    progressed: frozenset[int] = frozenset()
    stopping: Stopping | None = None
    is_late: bool = False
    """The start deadline is over and not all of it has started."""


def judge(spec: StepSpec, launch: Launch, step: StepStatus, evidence: Evidence) -> Verdict:
    """All replicas finished = finished; else failed if one failed; else again if one must; else interrupted."""
    trial = _Trial(spec, launch, step, evidence)
    verdicts = [trial.of(ordinal) for ordinal in range(launch.replicas)]
    if all(verdict.outcome == "finished" for verdict in verdicts):
        return Verdict("finished", is_partial=any(verdict.is_partial for verdict in verdicts))
    for outcome in ("failed", "again", "interrupted"):
        for verdict in verdicts:
            if verdict.outcome == outcome:
                return verdict
    raise AssertionError("an ordinal has none of the four outcomes")


def give_up(step: StepStatus, launch: Launch) -> Reason | None:
    """Why a launch whose Job still goes on must be ended as failed; None: it need not."""
    for number, ordinal in sorted(step.ordinals.items()):
        if number < launch.replicas and ordinal.idle_ends >= MAX_IDLE_ENDS:
            text = (
                f"replica {number} left {ordinal.idle_ends} times in a row (exit {ordinal.last_exit}) without a commit"
            )
            return Reason(code="no-progress", message=_with_error(text, ordinal))
    return None


def words(step: StepStatus, launch: Launch, ordinal: int) -> Ordinal | None:
    """What an ordinal said in this launch; None: nothing."""
    found = step.ordinals.get(ordinal)
    return found if found is not None and found.launch == launch.number else None


def has_spoken(step: StepStatus, launch: Launch) -> bool:
    """Whether any ordinal has said anything in this launch."""
    return any(words(step, launch, number) is not None for number in range(launch.replicas))


def all_started(step: StepStatus, launch: Launch) -> bool:
    """Whether every ordinal has said `started` in this launch."""
    said = [words(step, launch, number) for number in range(launch.replicas)]
    return all(ordinal is not None and ordinal.is_started for ordinal in said)


@dataclass(frozen=True, slots=True)
class _Trial:
    spec: StepSpec
    launch: Launch
    step: StepStatus
    evidence: Evidence

    def of(self, number: int) -> Verdict:
        """One ordinal's: its own last words first, then what the platform saw."""
        said = words(self.step, self.launch, number)
        if said is not None and (verdict := self._by_words(said)):
            return verdict
        if reason := give_up(self.step, self.launch):
            return Verdict("failed", reason)
        if self.evidence.job is not None:
            return self._by_job(self.evidence.job, number, said)
        if self.evidence.is_late:
            text = f"a replica did not say `started` within {self.spec.start_deadline_s:g} s"
            if self.step.reason is not None:
                text += f": {self.step.reason.message}"
            return Verdict("failed", Reason(code="start-deadline", message=text))
        return self._without_a_word(said, "its Job vanished")

    def _by_words(self, said: Ordinal) -> Verdict | None:
        if said.is_finished:
            return Verdict("finished", is_partial=said.is_partial)
        if said.last_event is not EventName.INTERRUPTED:
            return None
        stopping = self.evidence.stopping
        if stopping is not None and stopping.drain and not self.spec.reads:
            # a writer stopped so that its readers drain: all it wrote is committed, a retry goes on behind it
            return Verdict("finished", is_partial=True)
        return Verdict("interrupted", stopping.reason if stopping else Reason(code="stopped", message="told to stop"))

    def _by_job(self, job: JobStatus, number: int, said: Ordinal | None) -> Verdict:
        status = next((o for o in job.ordinals if o.ordinal == number), None)
        if status is None:
            return self._without_a_word(said, "its Job does not know the replica")
        if status.phase == "succeeded":
            text = f"replica {number} ended with exit code 0 but said neither `finished` nor `interrupted`"
            return Verdict("failed", Reason(code="ended-without-a-word", message=_with_error(text, said)))
        if status.last_exit == CONFIGURATION_EXIT:
            return Verdict("failed", _misconfigured(status, said))
        if not _is_culprit(job, status):
            return self._without_a_word(said, "another replica took its Job down")
        if number in self.evidence.progressed or self.evidence.stopping is not None:
            return self._without_a_word(said, "its backoff limit was used up, with progress")
        return Verdict("failed", _exhausted(job, status, said))

    def _without_a_word(self, said: Ordinal | None, why: str) -> Verdict:
        stopping = self.evidence.stopping
        if stopping is None:
            return Verdict("again", Reason(code="error", message=why))
        if said is None:
            return Verdict("interrupted", stopping.reason)
        text = f"{stopping.reason.message}; it did not end by itself within its grace"
        return Verdict("interrupted", Reason(code="forced", message=text))


def _is_culprit(job: JobStatus, status: OrdinalStatus) -> bool:
    """Whether this replica took the Job down; when none can be told from the others each is taken for it."""
    if any(o.last_exit == CONFIGURATION_EXIT for o in job.ordinals):
        return False
    return status.phase == "failed" and status.restarts == max(o.restarts for o in job.ordinals)


def _exhausted(job: JobStatus, status: OrdinalStatus, said: Ordinal | None) -> Reason:
    if "oom-killed" in (status.reason, job.reason):
        text = f"replica {status.ordinal} needed more memory than its limit"
        return Reason(code="oom-killed", message=_with_last_words(text, status, None))
    times = {0: "for good", 1: "once"}.get(status.restarts, f"{status.restarts} times")
    text = f"replica {status.ordinal} failed {times} without progress, last with exit {status.last_exit}"
    return Reason(code="backoff-limit-exceeded", message=_with_last_words(text, status, said))


def _misconfigured(status: OrdinalStatus, said: Ordinal | None) -> Reason:
    if said is not None and said.error is not None:
        return said.error
    text = f"replica {status.ordinal} ended with 78: its configuration or input can never work; its log says more"
    return Reason(code="exit-78", message=_with_last_words(text, status, None))


def _with_last_words(text: str, status: OrdinalStatus, said: Ordinal | None) -> str:
    """With what it said itself, or else with the last line of its output."""
    if said is not None and said.error is not None:
        return _with_error(text, said)
    return f"{text}; its last line: {status.last_lines[-1][:LONGEST_LINE]}" if status.last_lines else text


def _with_error(text: str, said: Ordinal | None) -> str:
    return text if said is None or said.error is None else f"{text}; it said: {said.error.message}"
