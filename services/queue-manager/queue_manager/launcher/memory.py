"""The launcher's double: Jobs without processes, for tests of those who use a launcher. It obeys the same rules.

What a process would do by itself a test does: `start`, `exit`, `say`, and what becomes of a Job from outside: `hang`,
`complain`, `vanish`.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from queue_manager.launcher.interface import (
    Condition,
    JobEvent,
    JobExists,
    JobRefused,
    JobSpec,
    JobStatus,
    LauncherUnavailable,
    LogLine,
    OrdinalStatus,
)
from queue_manager.launcher.output import last_lines


@dataclass
class _Job:
    spec: JobSpec
    created_at: float
    ordinals: list[OrdinalStatus]
    condition: Condition | None = None
    reason: str | None = None
    message: str | None = None
    warnings: tuple[str, ...] = ()
    deleting: bool = False
    lines: list[LogLine] = field(default_factory=list)
    told: dict[int, int] = field(default_factory=dict)
    """Ordinal -> how many lines there were at its latest end."""

    @property
    def live(self) -> int:
        return sum(ordinal.phase == "running" for ordinal in self.ordinals)

    def status(self) -> JobStatus:
        return JobStatus(
            name=self.spec.name,
            labels=self.spec.labels,
            condition=self.condition,
            reason=self.reason,
            message=self.message,
            warnings=self.warnings,
            ordinals=tuple(self.ordinals),
            live=self.live,
            deleting=self.deleting,
            created_at=self.created_at,
        )


class MemoryLauncher:
    """A platform in memory.

    Args:
        auto_start: Ordinals run as soon as they may; otherwise when the test says `start`.
        obedient: Processes that are told to end do so at once, with 143; otherwise when the test says `exit`.
        clock: Epoch seconds.
    """

    def __init__(
        self, *, auto_start: bool = True, obedient: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        self.created: list[JobSpec] = []
        """Every spec that was taken, in order."""
        self.deleted: list[str] = []
        """Every name that a delete was asked for, in order."""
        self.available = True
        """False: every call raises LauncherUnavailable; a watch goes on."""
        self.refusal: JobRefused | None = None
        """What `create` raises, when set."""
        self._auto_start = auto_start
        self._obedient = obedient
        self._clock = clock
        self._jobs: dict[str, _Job] = {}
        self._watchers: set[asyncio.Queue[JobEvent]] = set()

    # -- Launcher ------------------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """See Launcher."""
        self._check()

    async def create(self, spec: JobSpec) -> JobStatus:
        """See Launcher."""
        self._check()
        if self.refusal is not None:
            raise self.refusal
        if spec.name in self._jobs:
            raise JobExists(self._jobs[spec.name].status())
        ordinals = [OrdinalStatus(ordinal=index, phase="pending") for index in range(spec.replicas)]
        self._jobs[spec.name] = job = _Job(spec, self._clock(), ordinals)
        self.created.append(spec)
        self._settle(job)
        return job.status()

    async def get(self, name: str) -> JobStatus | None:
        """See Launcher."""
        self._check()
        job = self._jobs.get(name)
        return job.status() if job else None

    async def list(self) -> Sequence[JobStatus]:
        """See Launcher."""
        self._check()
        return [job.status() for job in self._jobs.values()]

    async def watch(self) -> AsyncIterator[JobEvent]:
        """See Launcher."""
        changes: asyncio.Queue[JobEvent] = asyncio.Queue()
        self._watchers.add(changes)
        try:
            for job in list(self._jobs.values()):
                yield JobEvent(name=job.spec.name, status=job.status())
            yield JobEvent(name="", status=None, synced=True)
            while True:
                yield await changes.get()
        finally:
            self._watchers.discard(changes)

    async def delete(self, name: str, *, grace_s: float | None = None) -> None:
        """See Launcher."""
        self._check()
        self.deleted.append(name)
        job = self._jobs.get(name)
        if job is None:
            return
        job.deleting = True
        if grace_s == 0:
            self._end_all(job, 137)
        self._settle(job)

    async def logs(
        self,
        name: str,
        *,
        ordinal: int | None = None,
        since: float | None = None,
        tail: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogLine]:
        """See Launcher."""
        self._check()
        job = self._jobs.get(name)
        if job is None:
            return
        given = len(job.lines)
        lines = job.lines if tail is None else _last_lines(job.lines, tail)
        while True:
            for line in list(lines):
                if ordinal in (None, line.replica) and (since is None or line.ts >= since):
                    yield line
            lines, given = job.lines[given:], len(job.lines)
            if lines:
                continue
            if not follow or name not in self._jobs or (job.live == 0 and (job.deleting or job.condition)):
                return
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """See Launcher."""

    # -- what a test does ----------------------------------------------------------------------------------------------

    def start(self, name: str, ordinal: int = 0) -> None:
        """The ordinal's process is there."""
        job = self._jobs[name]
        self._update(job, ordinal, phase="running", started_at=self._clock())
        self._settle(job)

    def exit(self, name: str, ordinal: int = 0, code: int = 0) -> None:
        """The ordinal's process ends with this code."""
        job = self._jobs[name]
        assert job.ordinals[ordinal].phase == "running", f"ordinal {ordinal} of {name} does not run"
        self._end(job, ordinal, code)
        self._settle(job)

    def say(self, name: str, line: str, *, ordinal: int = 0, ts: float | None = None) -> None:
        """The ordinal's process prints a line."""
        job = self._jobs[name]
        stamp = self._clock() if ts is None else ts
        job.lines.append(LogLine(ts=stamp, step=job.spec.step, replica=ordinal, launch=job.spec.launch, line=line))

    def hang(self, name: str, reason: str | None, message: str | None = None) -> None:
        """The platform says why the Job does not go on; None: it does."""
        job = self._jobs[name]
        job.reason, job.message = reason, message
        self._settle(job)

    def complain(self, name: str, *warnings: str) -> None:
        """The platform warns of something."""
        job = self._jobs[name]
        job.warnings += warnings
        self._settle(job)

    def vanish(self, name: str) -> None:
        """The Job was removed from outside."""
        del self._jobs[name]
        self._tell(JobEvent(name=name, status=None))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if not self.available:
            raise LauncherUnavailable("the launcher in memory was switched off")

    def _end(self, job: _Job, ordinal: int, code: int) -> None:
        before = job.ordinals[ordinal]
        counted = code not in (0, 75, 78, 143)
        restarts = before.restarts + counted
        disruptions = before.disruptions + (code in (75, 143))
        ended = job.deleting or job.condition is not None
        final = ended or code == 78 or restarts > job.spec.backoff_limit
        phase = "succeeded" if code == 0 else "failed" if final else "pending"
        self._update(job, ordinal, phase=phase, restarts=restarts, disruptions=disruptions)
        reason = None if code == 0 else "terminated" if ended else f"exit-{code}"
        self._update(job, ordinal, last_exit=code, last_exit_at=self._clock(), reason=reason)
        said = [line.line for line in job.lines[job.told.get(ordinal, 0) :] if line.replica == ordinal and code]
        self._update(job, ordinal, last_lines=last_lines("\n".join(said)))
        job.told[ordinal] = len(job.lines)
        if ended:
            return
        if code == 78:
            self._fail(job, "exit-78", f"ordinal {ordinal} ended with 78")
        elif counted and final:
            self._fail(job, "backoff-limit-exceeded", f"ordinal {ordinal} failed {restarts} times")
        elif all(o.phase == "succeeded" for o in job.ordinals):
            job.condition = "complete"

    def _fail(self, job: _Job, reason: str, message: str) -> None:
        job.condition, job.reason, job.message = "failed", reason, message
        for ordinal in job.ordinals:
            if ordinal.phase == "pending":
                self._update(job, ordinal.ordinal, phase="failed", reason="job-failed")

    def _end_all(self, job: _Job, code: int) -> None:
        for ordinal in job.ordinals:
            if ordinal.phase == "running":
                self._end(job, ordinal.ordinal, code)

    def _settle(self, job: _Job) -> None:
        """Do what the platform does by itself, and tell it."""
        ended = job.deleting or job.condition is not None
        if ended and self._obedient:
            self._end_all(job, 143)
        if not ended and self._auto_start:
            for ordinal in job.ordinals:
                if ordinal.phase == "pending":
                    self._update(job, ordinal.ordinal, phase="running", started_at=self._clock())
        if job.deleting and job.live == 0:
            del self._jobs[job.spec.name]
            self._tell(JobEvent(name=job.spec.name, status=None))
        else:
            self._tell(JobEvent(name=job.spec.name, status=job.status()))

    def _tell(self, event: JobEvent) -> None:
        for changes in self._watchers:
            changes.put_nowait(event)

    def _update(self, job: _Job, ordinal: int, **changes: object) -> None:
        job.ordinals[ordinal] = replace(job.ordinals[ordinal], **changes)  # type: ignore[arg-type]


def _last_lines(lines: Sequence[LogLine], tail: int) -> Sequence[LogLine]:
    """The last `tail` lines of each ordinal, in their order."""
    counts: Counter[int] = Counter()
    kept: deque[LogLine] = deque()
    for line in reversed(lines):
        counts[line.replica] += 1
        if counts[line.replica] <= tail:
            kept.appendleft(line)
    return kept
