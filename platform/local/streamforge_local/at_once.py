"""``python -m streamforge_local.at_once COMMAND...``: shell commands at the same time, each one's output in one piece.

The first one's is seen as it comes, another's when all that stand before it have ended. The exit status is the first
that is not 0. Ctrl-C and SIGTERM let every command clean up: it gets what a terminal's Ctrl-C would give it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from types import FrameType
from typing import IO


class _Running:
    """A command that runs, in a session of its own: a terminal's Ctrl-C must not reach it twice."""

    def __init__(self, command: str, *, is_seen: bool) -> None:
        self._output: IO[bytes] | None = None if is_seen else tempfile.TemporaryFile()
        self._process = subprocess.Popen(  # noqa: S602 - the commands are the caller's own
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT if self._output else None,
            start_new_session=True,
        )

    def interrupt(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)

    def end(self) -> int:
        """Wait, then show what was not seen."""
        status = self._process.wait()
        if self._output is not None:
            with self._output:
                self._output.seek(0)
                shutil.copyfileobj(self._output, sys.stdout.buffer)
            sys.stdout.flush()
        return status


def main(commands: Sequence[str]) -> int:
    """Run them.

    Returns:
        The first exit status that is not 0; 0: all went well.
    """
    running = [_Running(command, is_seen=number == 0) for number, command in enumerate(commands)]

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for one in running:
            one.interrupt()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    return next((status for status in [one.end() for one in running] if status), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
