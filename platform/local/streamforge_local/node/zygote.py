"""The warm process: it has the common imports, forks workers on request and tells how they end.

It runs no loop and no thread, so that a fork copies a process at rest. It is the parent of every worker and adopts
their orphans: nothing of a worker outlives the report of its end. It decides nothing: requests come from the node over
a socket pair (one JSON object a line), and it ends, its workers with it, when the other end is closed.
"""

import argparse
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from streamforge_local.node import life, linux, preload

LINGER_POLL_MS = 5


@dataclass
class _Ended:
    """A worker that is reaped, while processes of its group are still dying."""

    key: str
    code: int
    group: int


class _Zygote:
    def __init__(self, control: socket.socket, umask: int) -> None:
        self._control = control
        self._umask = umask
        self._buffer = b""
        self._workers: dict[int, str] = {}
        self._ended: list[_Ended] = []
        self._failed = preload.preload()
        self._stamps = preload.stamps()
        self._wakeup = self._wake_on_child()

    def serve(self) -> None:
        """Fork and reap until the node is gone."""
        threads = threading.active_count()
        self._tell(event="ready", failed=self._failed, threads=threads)
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._wakeup, select.POLLIN)
        while True:
            ready = poller.poll(LINGER_POLL_MS if self._ended else None)
            self._reap()
            if any(fd == self._control.fileno() for fd, _ in ready) and not self._receive():
                return

    @staticmethod
    def _wake_on_child() -> int:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return reader

    def _receive(self) -> bool:
        data = self._control.recv(1 << 18)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return bool(data)

    def _obey(self, request: dict[str, Any]) -> None:
        if request["op"] == "start":
            self._start(request)
        else:
            self._signal(request["key"], request["signum"])

    def _start(self, request: dict[str, Any]) -> None:
        parent = os.getpid()
        try:
            output = _open_log(request["log"])
        except OSError as error:
            self._tell(event="failed", key=request["key"], why=f"cannot open the log file: {error}")
            return
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(event="failed", key=request["key"], why=f"cannot fork: {error.strerror}")
            return
        if pid == 0:
            become = life.Life(tuple(request["command"]), request["env"], request["cwd"], self._umask)
            _live(become, parent, output, self._stamps)
        os.close(output)
        self._workers[pid] = request["key"]
        self._tell(event="started", key=request["key"], pid=pid)

    def _signal(self, key: str, signum: int) -> None:
        for pid, owner in self._workers.items():
            if owner == key:
                try:
                    os.killpg(pid, signum)
                except ProcessLookupError:
                    os.kill(pid, signum)  # it has not made its group yet

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wakeup, 4096)
        while (found := self._next_dead()) is not None:
            pid, code = found
            key = self._workers.get(pid)
            if key is not None:
                # Before the reaping, while the id cannot belong to anybody else.
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                del self._workers[pid]
                self._ended.append(_Ended(key, code, pid))
            os.waitpid(pid, 0)
        if self._ended:
            self._report()

    @staticmethod
    def _next_dead() -> tuple[int, int] | None:
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:
            return None
        if info is None:
            return None
        exited = info.si_code == os.CLD_EXITED
        return info.si_pid, info.si_status if exited else 128 + info.si_status

    def _report(self) -> None:
        """Tell the ends of those workers of which nothing is left; kill what is."""
        strays = _children() - self._workers.keys()
        for pid in strays:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        still: list[_Ended] = []
        for ended in self._ended:
            if strays or _group_lives(ended.group):
                still.append(ended)
            else:
                self._tell(event="exited", key=ended.key, code=ended.code)
        self._ended = still

    def _tell(self, **event: object) -> None:
        # The node is gone when this fails; the next read says so too.
        with suppress(OSError):
            self._control.sendall(json.dumps(event).encode() + b"\n")


def _live(become: life.Life, parent: int, output: int, stamps: dict[str, preload.Stamp]) -> NoReturn:
    try:
        life.live(become, parent=parent, output=output, stamps=stamps)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(life.EXIT_CANNOT_EXEC)  # a child must never come back into the warm process' loop


def _open_log(path: str) -> int:
    """Open for appending, on a line of its own: a killed life may have left half of one."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        os.write(fd, b"\n")
    return fd


def _children() -> set[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return {int(pid) for pid in file.read().split()}


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """Serve the node at the other end of the descriptor."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--umask", type=int, required=True)
    arguments = parser.parse_args()
    linux.die_with_parent(arguments.parent)
    linux.adopt_orphans()
    gc.disable()
    zygote = _Zygote(socket.socket(fileno=arguments.fd), arguments.umask)
    gc.collect()
    gc.freeze()
    sys.stdout.flush()
    zygote.serve()


if __name__ == "__main__":
    main()
