"""What a forked child does to become a worker: the same world that a fresh `python -m` or exec would give it.

It runs in the child only, after the fork, in a process of one thread and no loop.
"""

import atexit
import gc
import importlib
import os
import runpy
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from streamforge_local.node import linux, preload

EXIT_CANNOT_EXEC = 126
EXIT_NOT_FOUND = 127

PYTHONS = ("python", "python3", f"python{sys.version_info.major}.{sys.version_info.minor}")


@dataclass(frozen=True)
class Life:
    """One process to be: what to run, and in which world."""

    command: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    umask: int


def is_module(command: tuple[str, ...]) -> bool:
    """Whether the command is `python -m MODULE ...` by this interpreter, which a fork of the warm process can run."""
    return len(command) >= 3 and command[0] in PYTHONS and command[1] == "-m"


def live(life: Life, *, parent: int, output: int, stamps: Mapping[str, preload.Stamp]) -> NoReturn:
    """Become the worker; never returns.

    Args:
        life: What to run.
        parent: Id of the process that forked this one.
        output: Descriptor of the log file.
        stamps: State of the preloaded files when they were imported.
    """
    os.setsid()
    linux.die_with_parent(parent)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    _close_inherited()
    os.umask(life.umask)
    os.environ.clear()
    os.environ.update(life.env)
    try:
        os.chdir(life.cwd)
    except OSError as error:
        _leave_with(EXIT_CANNOT_EXEC, f"cannot enter the working directory {life.cwd}: {error.strerror}")
    if is_module(life.command):
        _run_module(life.command[2], life.command[3:], stamps)
    _run_program(life.command)


def _close_inherited() -> None:
    # By name: closerange over a limit of millions takes longer than the whole start where close_range(2) is missing.
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > 2:
            with suppress(OSError):
                os.close(fd)


def _run_program(command: tuple[str, ...]) -> NoReturn:
    # Python ignores SIGPIPE; other programs count on it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except FileNotFoundError:
        _leave_with(EXIT_NOT_FOUND, f"cannot run {command[0]}: no such program in PATH")
    except OSError as error:
        _leave_with(EXIT_CANNOT_EXEC, f"cannot run {command[0]}: {error.strerror}")


def _run_module(module: str, arguments: tuple[str, ...], stamps: Mapping[str, preload.Stamp]) -> NoReturn:
    linux.name_process(module)
    # As an interpreter started with PYTHONUNBUFFERED: a line is in the log when it was printed.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = [module, *arguments]
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    importlib.invalidate_caches()
    preload.forget_edited(stamps)
    gc.enable()
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = _exit_status(end)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    _leave(code)


def _exit_status(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def _leave(code: int) -> NoReturn:
    """End as the interpreter does, but for the teardown of modules, which would touch every page that is shared."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing ends its children
        atexit._run_exitfuncs()  # noqa: SLF001 - the same
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = code or 120  # as Python itself does when a last flush fails
    os._exit(code)


def _leave_with(code: int, sentence: str) -> NoReturn:
    os.write(2, f"streamforge node: {sentence}\n".encode())
    os._exit(code)
