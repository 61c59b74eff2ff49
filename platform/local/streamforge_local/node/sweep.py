"""Finds and kills what a former node or warm process left behind, by a mark in the environment of every process.

A process keeps the environment it was exec'd with in /proc/<pid>/environ, forks of it too, so the mark cannot be lost.
"""

import asyncio
import hashlib
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "STREAMFORGE_MARK"


class SweepError(Exception):
    """Marked processes survive SIGKILL; the message names them."""


def mark_of(data: Path) -> str:
    """The value of the mark: one per data directory, so that two nodes never touch each other's processes."""
    return hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]


def marked(mark: str) -> Iterator[int]:
    """Ids of the living processes that carry the mark, this one excepted."""
    needle = f"\0{MARK}={mark}\0".encode()
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != os.getpid():
            # Gone meanwhile, or another user's: neither is ours.
            with suppress(OSError), open(f"/proc/{entry}/environ", "rb") as environ:
                if needle in b"\0" + environ.read():
                    yield int(entry)


async def sweep(mark: str, *, timeout_s: float = 10.0) -> int:
    """Kill every marked process and wait until none is left.

    Returns:
        How many were killed.

    Raises:
        SweepError: One did not die in time (it hangs in the kernel).
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    killed: set[int] = set()
    # Two empty looks: one that forked and ended behind the first look's back, or was in the middle of its exec and
    # so without environment, is seen by the second.
    empty = 0
    while empty < 2:
        found = list(marked(mark))
        empty = 0 if found else empty + 1
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(found)
        if found and asyncio.get_running_loop().time() > deadline:
            raise SweepError(f"processes {found} of a former node survive SIGKILL")
        await asyncio.sleep(0.005)
    return len(killed)
