"""What the controller asks of a platform that runs Jobs, and the words in which the platform answers.

A Job is one launch of one step: `replicas` ordinals that are restarted until each has succeeded, one has failed for
good, or the Job is deleted. The fields follow Kubernetes' Indexed Job, so that every launcher can fill them. Nothing
here knows a platform.

LauncherError
 +- LauncherUnavailable   the platform does not answer or is full: the same call may succeed later
 +- JobExists             the name is taken; `status` is the Job that has it
 +- JobRefused            the platform will never take this Job; `code` and the message say why
"""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import SecretStr

Phase = Literal["pending", "running", "succeeded", "failed"]
Condition = Literal["complete", "failed"]

LABELS = ("queue_id", "step", "target", "launch", "installation", "decision_id")
"""Names of the labels that every Job carries; `JobSpec.labels` gives the values."""


def labels_of(found: Mapping[str, str]) -> dict[str, str]:
    """Those of a Job's labels; of thousands of Jobs most values are equal, and then they are one object."""
    return {name: sys.intern(found[name]) for name in LABELS if name in found}


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What lies at ``mount`` in a worker's file system: a claim for storage or a ConfigMap, by its name."""

    claim: str | None
    config_map: str | None
    mount: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One launch of one step, complete: nothing is looked up afterwards. Its repr shows no secret."""

    name: str
    queue_id: str
    step: str
    target: str
    launch: int
    installation: str
    decision_id: str
    command: tuple[str, ...]
    image: str
    """Image reference with digest; the local launcher runs the code of the checkout and ignores it."""
    env: Mapping[str, str]
    """Environment of every ordinal; the launcher adds `ORDINAL`."""
    secret_env: Mapping[str, SecretStr]
    """Further environment, never shown or logged."""
    secret_refs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Further environment by name: a Secret of the platform and its key, for a platform that has such."""
    replicas: int
    epoch: int = 0
    """Of the lease under which the launch was decided; for a person who asks who started it."""
    backoff_limit: int
    """Counted failures that each ordinal may have before the Job fails."""
    grace_s: float
    """Seconds between SIGTERM and SIGKILL when the Job is ended."""
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Requests and limits as in a Kubernetes container; the local launcher does not enforce them."""
    volumes: tuple[Volume, ...] = ()
    """For a platform that has such; the local launcher leaves them out."""
    cwd: str | None = None
    """Working directory of a local process; None = `/`. A container has the one of its image."""

    @property
    def labels(self) -> dict[str, str]:
        """The labels by which the Job is found and adopted."""
        return {name: str(getattr(self, name)) for name in LABELS}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdinalStatus:
    """One replica of a Job. Times are epoch seconds."""

    ordinal: int
    phase: Phase
    """`pending`: not started yet, or waiting for its next start."""
    restarts: int = 0
    """Ends that count against `backoff_limit`."""
    disruptions: int = 0
    """Ends that do not: 143, 75, or dead with its node."""
    last_exit: int | None = None
    """Exit code of the latest end; a death by signal n is 128 + n."""
    last_exit_at: float | None = None
    started_at: float | None = None
    """Start of the latest life."""
    reason: str | None = None
    """Stable code for the latest end or for why it is pending, such as `oom-killed`."""
    last_lines: tuple[str, ...] = ()
    """The last lines of its output before its latest end, if that was a fault: at most ten and 2 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What the platform says about one Job.

    The condition is final. It may be there while processes are still being ended: nothing of the Job runs once `live`
    is 0.
    """

    name: str
    labels: Mapping[str, str]
    condition: Condition | None
    ordinals: tuple[OrdinalStatus, ...]
    live: int
    """Processes or pods that are not terminal."""
    created_at: float
    """Epoch seconds."""
    deleting: bool = False
    """Asked to go; it leaves the list when no process of it lives."""
    reason: str | None = None
    """Stable code: why it failed or has not started (`exit-78`, `backoff-limit-exceeded`, `image-pull`, ...)."""
    message: str | None = None
    """The same in a sentence for a person."""
    warnings: tuple[str, ...] = ()
    """What the platform complained of while it failed or waited, at most ten `Reason: message`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """A Job is now as `status` says; without one it is gone. `synced` marks the end of a full list and names no Job."""

    name: str
    status: JobStatus | None
    synced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of one ordinal's output, without its line end. `ts` is in epoch seconds."""

    ts: float
    step: str
    replica: int
    launch: int
    line: str


class LauncherError(Exception):
    """A call to the platform failed; the subclass says what to do about it."""


class LauncherUnavailable(LauncherError):
    """The platform does not answer, or has no room now. Nothing is known of the call's effect: ask again.

    ``code`` is the reason that a workflow shows while it waits.
    """

    def __init__(self, message: str, *, code: str = "launcher-unreachable") -> None:
        super().__init__(message)
        self.code = code


class JobExists(LauncherError):
    """The name is taken. `status` is the Job that has it, to be adopted only if its labels are the recorded ones."""

    def __init__(self, status: JobStatus) -> None:
        super().__init__(f"Job {status.name} exists already (decision {status.labels.get('decision_id')})")
        self.status = status


class JobRefused(LauncherError):
    """The platform will not take this Job however often it is asked."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Launcher(Protocol):
    """A platform that runs Jobs. Every call may raise LauncherUnavailable, unless it says otherwise."""

    async def check(self) -> None:
        """Return when the platform can serve; called every few seconds, so it asks little.

        Raises:
            LauncherUnavailable: it cannot; the message names what is missing.
        """
        ...

    async def create(self, spec: JobSpec) -> JobStatus:
        """Take a Job over; on return it is recorded and will be started, whoever dies in between.

        Raises:
            JobExists: The name is taken, whatever the spec.
            JobRefused: The Job can never be started.
        """
        ...

    async def get(self, name: str) -> JobStatus | None:
        """The Job as it is now; None when there is none of that name."""
        ...

    async def list(self) -> Sequence[JobStatus]:
        """All Jobs, finished ones included until their time to live is over."""
        ...

    def watch(self) -> AsyncIterator[JobEvent]:
        """Every Job as it is, one event with `synced`, then every change.

        It never ends and never raises LauncherUnavailable: when the platform is lost it connects again, gives the full
        list, an event without status for each Job that went meanwhile, and `synced` once more. Changes of one Job may
        be merged.
        """
        ...

    async def delete(self, name: str, *, grace_s: float | None = None) -> None:
        """End every process of the Job (SIGTERM, after the grace SIGKILL), then forget it; no error when there is none.

        It returns when this is recorded, not when it is done: the Job is listed with `deleting` while a process of it
        lives. A later call may shorten the grace. None = the spec's.
        """
        ...

    def logs(
        self,
        name: str,
        *,
        ordinal: int | None = None,
        since: float | None = None,
        tail: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogLine]:
        """Output of the Job's ordinals, each one's lines in order; nothing when there is no such Job.

        Args:
            name: The Job.
            ordinal: Only this one; None = all.
            since: Only lines at or after this epoch second.
            tail: Only so many last lines of each ordinal.
            follow: Go on with new lines, across restarts, until the Job is gone or nothing of it will run again.
        """
        ...

    async def close(self) -> None:
        """Drop connections; Jobs go on. Safe to call twice."""
        ...
