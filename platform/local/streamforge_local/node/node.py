"""The node itself: makes the processes be as the Jobs say, and records what came of it.

All state changes go through `_advance`: ask the Job, record, act, tell the watchers. It must never start what is not
recorded.
"""

import asyncio
import errno
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from streamforge_local.node import linux
from streamforge_local.node.job import Job, JobSpec, RestartPolicy, Signal, Start
from streamforge_local.node.journal import Journal, JournalError
from streamforge_local.node.log import Logs
from streamforge_local.node.settings import NodeSettings
from streamforge_local.node.sweep import MARK, mark_of, sweep
from streamforge_local.node.warm import Launch, WarmProcess, WarmProcessError

LOG = logging.getLogger(__name__)

INHERITED = (
    "PATH HOME USER LOGNAME LANG LANGUAGE LC_ALL LC_CTYPE TZ TMPDIR VIRTUAL_ENV SSL_CERT_FILE SSL_CERT_DIR "
    "HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy"
).split()
"""What a worker has of the node's own environment; its Job's comes on top."""

JOURNAL_RETRY_S = 1.0
KILL_MARGIN_S = 5.0


class NodeFullError(Exception):
    """There is no room, or no disk, for a Job now."""


class JobTakenError(Exception):
    """A Job of that name is there."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"Job {job.spec.name} exists already")
        self.job = job


class Clock:
    """Epoch seconds that never jump: set once, then counted by a clock that also runs while the machine sleeps."""

    def __init__(self) -> None:
        self._offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def __call__(self) -> float:
        """The time now."""
        return self._offset + time.clock_gettime(time.CLOCK_BOOTTIME)


class Node:
    """Jobs by name, the warm process that runs them, and those who watch."""

    def __init__(self, settings: NodeSettings, journal: Journal, *, env: Mapping[str, str], umask: int) -> None:
        self.clock = Clock()
        self.jobs: dict[str, Job] = {}
        self.logs = Logs(settings.data / "logs", keep_bytes=settings.log_bytes)
        self.ready = asyncio.Event()
        self.warm_pid: int | None = None
        self._settings = settings
        self._policy = RestartPolicy(settings.first_delay_s, settings.longest_delay_s, settings.ttl_s)
        self._journal = journal
        self._umask = umask
        self._mark = mark_of(settings.data)
        self._env = {name: env[name] for name in INHERITED if name in env} | {MARK: self._mark}
        self._warm: WarmProcess | None = None
        self._stopping = False
        self._oom_kills = linux.oom_kills()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._listeners: set[Callable[[str], None]] = set()

    # -- what clients ask for ------------------------------------------------------------------------------------------

    def create(self, spec: JobSpec) -> Job:
        """Take a Job over.

        Raises:
            JobTakenError: The name is taken.
            NodeFullError: No room now, or the journal cannot be written.
        """
        if spec.name in self.jobs:
            raise JobTakenError(self.jobs[spec.name])
        if self._stopping:
            raise NodeFullError("the node is stopping")
        taken = sum(job.unfinished for job in self.jobs.values())
        if taken + spec.replicas > self._settings.max_processes:
            raise NodeFullError(
                f"{taken} of {self._settings.max_processes} processes are taken, {spec.name} needs more"
            )
        job = Job(spec, self._policy, created_at=self.clock())
        try:
            self.logs.prepare(spec.name)
            self._journal.add(job)
        except (JournalError, OSError) as error:
            raise NodeFullError(f"Job {spec.name} cannot be recorded: {error}") from error
        self.jobs[spec.name] = job
        self._advance(job)
        return job

    def delete(self, name: str, grace_s: float | None) -> None:
        """End and forget a Job; nothing happens when there is none.

        Raises:
            NodeFullError: The journal cannot be written; nothing was done.
        """
        job = self.jobs.get(name)
        if job is None:
            return
        before = job.deleting
        job.delete(self.clock(), grace_s)
        try:
            self._journal.save(job)
        except JournalError as error:
            job.deleting = before
            raise NodeFullError(f"the end of Job {name} cannot be recorded: {error}") from error
        self._advance(job)

    def listen(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with a Job's name after every change of it. Returns what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    # -- running -------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take over what the former node recorded.

        Raises:
            JournalError: The journal is damaged.
        """
        self.jobs = {job.spec.name: job for job in self._journal.load(self._policy)}
        for name in set(self.logs.jobs()) - self.jobs.keys():
            self.logs.remove(name)

    async def run(self) -> None:
        """Keep a warm process and the Jobs on it, until the node stops."""
        failures = 0
        while True:
            await self._clear()
            if self._stopping:
                return
            try:
                await self._run_on(await WarmProcess.spawn(self._env | self._python_env(), umask=self._umask))
            except WarmProcessError:
                LOG.exception("no warm process")
            failures = 1 if self.ready.is_set() else failures + 1
            self.ready.clear()
            await asyncio.sleep(self._policy.delay(failures))

    async def stop(self) -> None:
        """End every worker, gracefully if it obeys; their Jobs go on with the next node."""
        self._stopping = True
        idle = asyncio.Event()

        def check(_name: str = "") -> None:
            if not any(job.live for job in self.jobs.values()):
                idle.set()

        forget = self.listen(check)
        for job in list(self.jobs.values()):
            job.evict(self._settings.stop_grace_s)
            self._advance(job)
        check()
        try:
            async with asyncio.timeout(self._settings.stop_grace_s + KILL_MARGIN_S):
                await idle.wait()
        except TimeoutError:
            LOG.warning("workers outlive SIGKILL")
        finally:
            forget()

    async def trim_logs(self) -> None:
        """Hold the size of the log files of running ordinals, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.log_check_s)
            for job in list(self.jobs.values()):
                for ordinal in job.ordinals:
                    if ordinal.phase == "running" and not self._trim(job.spec.name, ordinal.ordinal):
                        return

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _clear(self) -> None:
        """Kill what a former warm process left, and have its workers' Jobs know."""
        killed = await sweep(self._mark)
        now = self.clock()
        lost = [name for name, job in self.jobs.items() if job.lost(now)]
        if killed or lost:
            LOG.warning("former processes are gone", extra={"killed": killed, "jobs": lost})
        for job in list(self.jobs.values()):
            self._advance(job)

    def _python_env(self) -> dict[str, str]:
        # The warm process must find what the node found.
        return {"PYTHONPATH": path} if (path := os.environ.get("PYTHONPATH")) else {}

    async def _run_on(self, warm: WarmProcess) -> None:
        self.warm_pid = warm.pid
        try:
            async for event in warm.events():
                self._hear(event, warm)
        finally:
            self._warm = self.warm_pid = None
            code = await warm.close()
            LOG.log(logging.INFO if self._stopping else logging.ERROR, "warm process ended", extra={"code": code})

    def _hear(self, event: dict[str, Any], warm: WarmProcess) -> None:
        if event["event"] == "ready":
            if event["failed"] or event["threads"] > 1:
                LOG.warning(
                    "warm process lacks imports", extra={"failed": event["failed"], "threads": event["threads"]}
                )
            self._warm = warm
            self.ready.set()
            for job in list(self.jobs.values()):
                self._advance(job)
            return
        name, _, index = event["key"].rpartition("/")
        job = self.jobs[name]
        if event["event"] == "started":
            job.running_as(int(index), event["pid"])
        elif event["event"] == "failed":
            LOG.error("worker not started", extra={"job": name, "ordinal": int(index), "why": event["why"]})
            job.not_started(int(index), event["why"], self.clock())
        else:
            oom = event["code"] == 128 + signal.SIGKILL and self._out_of_memory()
            LOG.info("worker ended", extra={"job": name, "ordinal": int(index), "code": event["code"], "oom": oom})
            output = self._last_output(job, int(index)) if event["code"] else ""
            job.exited(int(index), event["code"], self.clock(), oom=oom, output=output)
        self._advance(job)

    def _last_output(self, job: Job, index: int) -> str:
        try:
            return self.logs.end(job.spec.name, index, behind=job.ordinals[index].log_start)
        except OSError:
            LOG.exception("log not read", extra={"job": job.spec.name, "ordinal": index})
            return ""

    def _out_of_memory(self) -> bool:
        """Whether the kernel has killed somebody for want of memory since this was asked last."""
        before, self._oom_kills = self._oom_kills, linux.oom_kills()
        return self._oom_kills > before

    def _advance(self, job: Job) -> None:
        actions = job.step(self.clock(), can_start=self._can_start())
        if job.gone:
            self._forget(job)
            return
        recorded = self._record(job)
        for action in actions:
            if isinstance(action, Signal):
                self._signal(job, action)
            elif recorded:
                self._start(job, action)
            else:
                job.not_started(action.ordinal, "the journal cannot be written", self.clock())
        job.forget_environment()
        self._tell(job.spec.name)
        self._arm(job, retry=not recorded)

    def _can_start(self) -> bool:
        return self._warm is not None and not self._stopping

    def _record(self, job: Job) -> bool:
        try:
            self._journal.save(job)
        except JournalError:
            LOG.exception("change not recorded", extra={"job": job.spec.name})
            return False
        return True

    def _start(self, job: Job, action: Start) -> None:
        assert self._warm is not None
        spec = job.spec
        job.ordinals[action.ordinal].log_start = self.logs.size(spec.name, action.ordinal)
        secrets = {name: value.get_secret_value() for name, value in spec.secret_env.items()}
        # The mark last: without it the process could not be found again.
        env = {**self._env, **spec.env, **secrets, "ORDINAL": str(action.ordinal), MARK: self._mark}
        self._warm.start(
            Launch(
                key=f"{spec.name}/{action.ordinal}",
                command=spec.command,
                env=env,
                cwd=spec.cwd or "/",
                log=str(self.logs.path(spec.name, action.ordinal).absolute()),
            )
        )

    def _signal(self, job: Job, action: Signal) -> None:
        if self._warm is not None:
            self._warm.signal(f"{job.spec.name}/{action.ordinal}", action.signum)

    def _forget(self, job: Job) -> None:
        name = job.spec.name
        try:
            self._journal.remove(name)
        except JournalError:
            LOG.exception("removal not recorded", extra={"job": name})
            self._arm(job, retry=True)
            return
        del self.jobs[name]
        self._disarm(name)
        self.logs.remove(name)
        self._tell(name)

    def _tell(self, name: str) -> None:
        for listener in self._listeners:
            listener(name)

    def _arm(self, job: Job, *, retry: bool) -> None:
        name = job.spec.name
        self._disarm(name)
        wake_at = job.wake_at(can_start=self._can_start())
        delay = JOURNAL_RETRY_S if retry else None
        if wake_at is not None:
            delay = min(max(0.0, wake_at - self.clock()), delay if delay is not None else float("inf"))
        if delay is not None:
            self._timers[name] = asyncio.get_running_loop().call_later(delay, self._advance, job)

    def _disarm(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _trim(self, job: str, ordinal: int) -> bool:
        try:
            self.logs.trim(job, ordinal)
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                LOG.warning(
                    "this filesystem cannot free the head of a file: logs grow without limit until their Job ends"
                )
                return False
            LOG.exception("log not trimmed", extra={"job": job, "ordinal": ordinal})
        return True
