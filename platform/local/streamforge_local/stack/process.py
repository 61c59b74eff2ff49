"""One part as a process: start, signals, output, end. Synchronous; restarts are the supervisor's.

Each process has a thread that starts it, takes its output and lives as long as it does: the kernel's "parent died"
signal (``lifeline``) is sent when the starting thread ends, so a caller's thread must not be that one.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from streamforge_local.failures import StackError
from streamforge_local.stack import lifeline
from streamforge_local.stack.logfile import RotatingLog
from streamforge_local.stack.parts import Part

MARK = "STREAMFORGE_STACK"
"""Environment variable of every process of a stack: the path of its home."""
STOP_TIMEOUT_S = 20.0
_FOREIGN = re.compile("KAFKA_|ARANGO_(?!LOCAL_)")
POLL_S = 0.02


class PartProcess:
    """A part of the stack and the process that it is at the moment, if any."""

    def __init__(self, part: Part, *, log: Path, mark: str) -> None:
        self.part = part
        self.log = RotatingLog(log)
        self._mark = mark
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def is_running(self) -> bool:
        """Whether the process is there (a paused one is)."""
        return self.pid is not None

    def start(self) -> None:
        """Prepare the part and start its process; does nothing when it runs.

        Raises:
            StackError: the part cannot be prepared.
        """
        if self.is_running:
            return
        launch = self.part.prepare()
        command = [sys.executable, "-I", "-S", lifeline.__file__, str(os.getpid()), *launch.command]
        self.log.forget()
        started: Future[subprocess.Popen[bytes]] = Future()
        environment = {**inherited(os.environ), **launch.env, MARK: self._mark}
        self._thread = threading.Thread(target=_live, args=(command, environment, self.log, started), daemon=True)
        self._thread.start()
        self._process = started.result()

    def failure(self, what: str) -> StackError:
        """The one line about this part: what happened, its last words, its log."""
        if self._thread is not None and not self.is_running:
            self._thread.join(timeout=1)  # The last words may still be on their way.
        words = f": {line}" if (line := self.log.last_line) else ""
        return StackError(f"{self.part.name}: {what}{words} (log: {self.log.path})")

    def check(self) -> bool:
        """Whether the part is ready.

        Raises:
            StackError: it has ended, or it can never be ready.
        """
        if not self.is_running:
            raise self.end()
        return self.part.is_ready()

    def end(self) -> StackError:
        """How the process, which does not run, ended."""
        code = None if self._process is None else self._process.poll()
        return self.failure("was not started" if code is None else f"ended with {_described(code)}")

    def wait_ready(self, timeout: float | None = None) -> None:
        """Block until the part is ready.

        Raises:
            StackError: it has ended or is not ready after ``timeout`` seconds (by default the part's deadline).
        """
        limit = self.part.deadline_s if timeout is None else timeout
        deadline = time.monotonic() + limit
        while not self.check():
            if time.monotonic() > deadline:
                raise self.failure(f"is not ready after {limit:g} s")
            time.sleep(POLL_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process; none when it does not run."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the process and its group; returns when it is gone."""
        # What the names mean now: whoever watches the process may start its successor at once.
        process, thread = self._process, self._thread
        if process is None:
            return
        if process.poll() is None:
            _signal_group(process.pid, signal.SIGKILL)
        _reap(process, thread)

    def pause(self) -> None:
        """SIGSTOP: it is there and does not answer."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def request_stop(self) -> None:
        """SIGTERM (and SIGCONT, for a paused process cannot end)."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def stop(self, timeout: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM, after ``timeout`` seconds SIGKILL; returns when it is gone."""
        process, thread = self._process, self._thread
        self.request_stop()
        if process is not None:
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                _signal_group(process.pid, signal.SIGKILL)
            _reap(process, thread)

    def close(self) -> None:
        """Stop and close the log."""
        self.stop()
        self.log.close()


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What a part gets of the caller's environment: a shell's log-in to some other cluster is no part of it."""
    return {name: value for name, value in environ.items() if not _FOREIGN.match(name)}


def _live(
    command: Sequence[str], environment: Mapping[str, str], log: RotatingLog, started: Future[subprocess.Popen[bytes]]
) -> None:
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        started.set_exception(StackError(f"{command[0]} cannot be run: {error}"))
        return
    started.set_result(process)
    if process.stdout is not None:
        with process.stdout as output:
            while data := os.read(output.fileno(), 1 << 16):
                log.write(data)
    process.wait()


def _reap(process: subprocess.Popen[bytes], thread: threading.Thread | None) -> None:
    process.wait()
    # What it left in its group (children of its own) goes too.
    _signal_group(process.pid, signal.SIGKILL)
    if thread is not None:
        thread.join(timeout=1)


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def _described(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
