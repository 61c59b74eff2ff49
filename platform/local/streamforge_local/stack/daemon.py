"""The commands behind ``make up``, ``down``, ``clean``: a supervisor in the background and how others talk to it.

Who holds the lock file is the supervisor; it tells its state in a file and obeys SIGTERM. Nothing else is shared.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from streamforge_local.failures import StackError
from streamforge_local.kafka.broker import Security
from streamforge_local.kafka.jars import provision_jars
from streamforge_local.kafka.security import write_secret
from streamforge_local.kafka.start_cache import cache_options
from streamforge_local.paths import Home, repository_root
from streamforge_local.stack.leftovers import sweep
from streamforge_local.stack.parts import PARTS, build_parts
from streamforge_local.stack.supervisor import Stack, check_room

UP_TIMEOUT_S = 120.0
DOWN_TIMEOUT_S = 90.0
POLL_S = 0.03
Phase = Literal["starting", "ready", "failed", "stopping"]
Launcher = Literal["process", "kubernetes"]


@dataclass(frozen=True, slots=True)
class PartState:
    """What the supervisor says of one part."""

    name: str
    state: str
    address: str
    pid: int | None
    restarts: int
    reason: str | None
    log: str


@dataclass(frozen=True, slots=True)
class StackState:
    """What the supervisor says of the stack; ``error`` is the one line of a start that failed."""

    pid: int
    phase: Phase
    error: str | None
    parts: list[PartState]
    advertised: str | None = None
    """Address at which the pods of a cluster find this machine; None: workflows run as processes here."""

    @property
    def launcher(self) -> Launcher:
        """How workflows run."""
        return "process" if self.advertised is None else "kubernetes"


def supervisor_pid(home: Home) -> int | None:
    """The process id of the supervisor that runs on this home, None when there is none."""
    try:
        with home.lock.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0)
    except FileNotFoundError:
        return None
    return None


def read_state(home: Home) -> StackState | None:
    """The running supervisor's state; None when none runs or it has not said anything yet."""
    pid = supervisor_pid(home)
    if not pid or not home.state.exists():
        return None
    said: dict[str, Any] = json.loads(home.state.read_text())
    if said["pid"] != pid:
        return None
    return StackState(**{**said, "parts": [PartState(**part) for part in said["parts"]]})


def up(
    home: Home, *, security: Security, parts: Sequence[str] = PARTS, advertised: str | None = None
) -> tuple[StackState, bool]:
    """Start the stack in the background and wait until it is ready; its state, and whether it ran already.

    ``advertised``: see ``build_parts``; what is in a cluster is not touched here (``start`` does that).

    Raises:
        StackError: a part that cannot start, in one line.
    """
    if ran := bool(supervisor_pid(home)):
        return _await_ready(home, None), ran
    check_room(home)
    if "kafka" in parts:
        # Here and not in the background, for it shows its progress.
        cache_options(provision_jars())
    home.logs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "streamforge_local", "supervise", "--security", security, "--parts", *parts]
    if advertised is not None:
        command += ["--advertised", advertised]
    with (home.logs / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=repository_root(),
            env={**os.environ, "STREAMFORGE_HOME": str(home.root)},
            start_new_session=True,
        )
    return _await_ready(home, process), False


def _await_ready(home: Home, process: "subprocess.Popen[bytes] | None") -> StackState:
    deadline = time.monotonic() + UP_TIMEOUT_S
    while time.monotonic() < deadline:
        state = read_state(home)
        if state is not None and state.phase == "ready":
            return state
        gone = process.poll() is not None if process is not None else not supervisor_pid(home)
        # A second `up` at the same moment: the other one's supervisor has the lock, ours has left.
        if gone and not supervisor_pid(home):
            raise StackError(_last_error(home))
        time.sleep(POLL_S)
    raise StackError(f"stack: not ready after {UP_TIMEOUT_S:g} s (log: {home.logs / 'supervisor.log'})")


def _last_error(home: Home) -> str:
    with contextlib.suppress(OSError, ValueError):
        if error := json.loads(home.state.read_text())["error"]:
            return str(error)
    return f"stack: its supervisor ended (log: {home.logs / 'supervisor.log'})"


def down(home: Home) -> bool:
    """Stop the stack and wait for its end; whether one ran.

    Raises:
        StackError: it does not end.
    """
    pid = supervisor_pid(home)
    if not pid:
        _sweep_if_alone(home)
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while supervisor_pid(home) == pid:
        if time.monotonic() > deadline:
            raise StackError(f"stack: its supervisor {pid} does not end (log: {home.logs / 'supervisor.log'})")
        time.sleep(POLL_S)
    return True


def clean(home: Home) -> None:
    """Stop the stack and remove all that it made; the user's own files in the folder stay."""
    down(home)
    for path in (home.data, home.logs, home.state, home.local_env, home.node_socket, home.lock):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        home.root.rmdir()


def supervise(home: Home, *, security: Security, parts: Sequence[str], advertised: str | None = None) -> int:
    """Be the supervisor: hold the lock, run the stack until SIGTERM; the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    home.root.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(home):
            return asyncio.run(_supervise(home, security, parts, advertised))
    except BlockingIOError:
        logging.getLogger(__name__).warning("another supervisor runs already")
        return 1


async def _supervise(home: Home, security: Security, names: Sequence[str], advertised: str | None) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    phase: Phase = "starting"
    stack: Stack | None = None

    def tell(error: str | None = None) -> None:
        _write_state(home, stack, StackState(os.getpid(), phase, error, [], advertised))

    tell()
    try:
        if swept := sweep(home):
            logging.getLogger(__name__).warning("ended %d processes of a former stack", swept)
        parts = build_parts(home, names, security=security, advertised=advertised)
        stack = Stack(home, parts, on_change=tell)
        if not await _opened(stack, stop):
            return 0
        write_secret(home.local_env, "".join(f"{name}={value}\n" for name, value in stack.env().items()))
        phase = "ready"
        tell()
        await stop.wait()
        phase = "stopping"
        await stack.close()
    except (StackError, OSError) as error:
        phase = "failed"
        tell(str(error) if isinstance(error, StackError) else f"stack: {error}")
        return 1
    finally:
        home.local_env.unlink(missing_ok=True)
    return 0


async def _opened(stack: Stack, stop: asyncio.Event) -> bool:
    """Open the stack unless it is told to stop meanwhile."""
    opening = asyncio.create_task(stack.open())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not opening.done():
        opening.cancel()
        await asyncio.wait({opening})
        return False
    opening.result()
    return True


def _write_state(home: Home, stack: Stack | None, state: StackState) -> None:
    members = stack.members.values() if stack is not None else ()
    parts = [
        PartState(m.part.name, m.state, m.part.address, m.process.pid, m.restarts, m.reason, str(m.process.log.path))
        for m in members
    ]
    new = home.state.with_suffix(".new")
    try:
        new.write_text(json.dumps(asdict(replace(state, parts=parts))))
        new.replace(home.state)
    except OSError as failure:
        # A full disk must not end the supervisor.
        logging.getLogger(__name__).warning("cannot tell the state: %s", failure)


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    with home.lock.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _sweep_if_alone(home: Home) -> None:
    if home.root.is_dir():
        with contextlib.suppress(BlockingIOError), _locked(home):
            sweep(home)
            home.local_env.unlink(missing_ok=True)
