"""The node's hold on its warm process: starts it, asks it for workers, hears how they end."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson


class WarmProcessError(Exception):
    """The warm process could not be started."""


@dataclass(frozen=True)
class Launch:
    """One life of one ordinal."""

    key: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    log: str


class WarmProcess:
    """One warm process. When it ends, all workers that it started end with it, and `events` does."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @classmethod
    async def spawn(cls, env: Mapping[str, str], *, umask: int) -> "WarmProcess":
        """Start one. It has not imported anything yet: the first event says when it has.

        Raises:
            WarmProcessError: The interpreter could not be started.
        """
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "streamforge_local.node.zygote"]
        command += ["--fd", str(theirs.fileno()), "--parent", str(os.getpid()), "--umask", str(umask)]
        try:
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - its end shows at the socket, and it is ours alone
                command,
                stdin=subprocess.DEVNULL,
                stdout=2,  # the node's own log; its stdout is for its supervisor
                pass_fds=(theirs.fileno(),),
                env=dict(env),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise WarmProcessError(f"cannot start {sys.executable}: {error.strerror}") from error
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer)

    def start(self, launch: Launch) -> None:
        """Ask for a worker; `started` or `failed` follows, and `exited` after `started`."""
        self._send(op="start", key=launch.key, command=launch.command, env=launch.env, cwd=launch.cwd, log=launch.log)

    def signal(self, key: str, signum: int) -> None:
        """Send a signal to a worker's process group, if it is still there."""
        self._send(op="signal", key=key, signum=signum)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """What happens to the workers, until the warm process is gone."""
        while True:
            try:
                line = await self._reader.readline()
            except (ConnectionError, ValueError):
                return
            if not line.endswith(b"\n"):
                return
            yield orjson.loads(line)

    async def close(self) -> int:
        """End it, and with it every worker that is left.

        Returns:
            Its exit code, negative for a signal.
        """
        self._writer.close()
        self._process.kill()
        return await asyncio.to_thread(self._process.wait)

    def _send(self, **request: object) -> None:
        self._writer.write(orjson.dumps(request) + b"\n")
