"""`python -m streamforge_local.node --socket PATH --data DIR`: the node as a process of its own.

It prints {"event":"ready"} once it takes Jobs and can start them.
It ends with 0 after SIGTERM or SIGINT, with 78 and one line when it cannot work in this directory or on this socket.
"""

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from pydantic_settings import CliApp

from streamforge_local.node.journal import Journal, JournalError
from streamforge_local.node.node import Node
from streamforge_local.node.server import MAX_REQUEST_BYTES, Server
from streamforge_local.node.settings import NodeSettings

EXIT_CONFIG = 78
MAX_SOCKET_PATH_BYTES = 107
_STANDARD = frozenset(vars(logging.makeLogRecord({})))


class CannotStartError(Exception):
    """The node cannot work here; the message is the one line that its user sees."""


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"timestamp": record.created, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def lock(data: Path) -> int:
    """Make the data directory, and it ours until this process ends.

    Returns:
        The descriptor that holds it.

    Raises:
        CannotStartError: Another node has it, or it cannot be written.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStartError(f"cannot use the data directory {data}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise CannotStartError(f"another node runs on the data directory {data}") from None
    return fd


def bind(path: Path) -> socket.socket:
    """Listen on the path, for this user alone; the file of a node that died is replaced.

    Raises:
        CannotStartError: The path is too long, in use or not writable.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise CannotStartError(f"the socket path {path} is longer than {MAX_SOCKET_PATH_BYTES} bytes")
    listener = socket.socket(socket.AF_UNIX)
    umask = os.umask(0o177)
    try:
        with suppress(FileNotFoundError):
            if path.exists() and _answers(path):
                raise CannotStartError(f"another process listens on {path}")
            path.unlink()
        listener.bind(os.fspath(path))
    except OSError as error:
        raise CannotStartError(f"cannot listen on {path}: {error.strerror}") from error
    finally:
        os.umask(umask)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
    return True


async def serve(settings: NodeSettings, journal: Journal, listener: socket.socket) -> None:
    """Run the node until SIGTERM or SIGINT."""
    umask = os.umask(0o077)
    node = Node(settings, journal, env=os.environ, umask=umask)
    node.load()
    server = Server(node, max_processes=settings.max_processes, beat_s=settings.beat_s)
    told = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, told.set)
    running = asyncio.create_task(node.run(), name="warm process")
    helpers = [asyncio.create_task(node.trim_logs(), name="logs"), asyncio.create_task(_say_ready(node), name="ready")]
    sockets = await asyncio.start_unix_server(server.handle, sock=listener, limit=MAX_REQUEST_BYTES)
    waiting = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await node.stop()
    finally:
        sockets.close()
        await server.close()
        for task in (running, waiting, *helpers):
            task.cancel()
        (fault, *_) = await asyncio.gather(running, waiting, *helpers, return_exceptions=True)
    if isinstance(fault, Exception):
        raise fault


async def _say_ready(node: Node) -> None:
    await node.ready.wait()
    print(json.dumps({"event": "ready"}), flush=True)


def main() -> None:
    """Run a node as the command line says."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    settings = CliApp.run(NodeSettings)
    try:
        held = lock(settings.data)
        journal = Journal(settings.data / "journal.sqlite")
        listener = bind(settings.socket)
        try:
            asyncio.run(serve(settings, journal, listener))
        finally:
            settings.socket.unlink(missing_ok=True)
            journal.close()
            os.close(held)
    except (CannotStartError, JournalError) as error:
        print(f"local node: {error}", file=sys.stderr)
        raise SystemExit(EXIT_CONFIG) from None


if __name__ == "__main__":
    main()
