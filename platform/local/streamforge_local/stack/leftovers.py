"""Finds and ends processes of a stack whose supervisor died. They carry the home's path in their environment."""

import os
import signal
import time
from pathlib import Path

from streamforge_local.paths import Home
from streamforge_local.stack.process import MARK

WAIT_S = 5.0


def leftovers(home: Home) -> list[int]:
    """Process ids that carry the home's mark. Empty where there is no /proc."""
    mark = f"{MARK}={home.root}".encode()
    own = os.getpid()
    return [pid for pid in _process_ids() if pid != own and mark in _environment(pid)]


def sweep(home: Home) -> int:
    """Kill what is left of a former stack of this home; the number of processes.

    Call it only while holding the home's lock: a running stack's processes carry the same mark.
    """
    deadline = time.monotonic() + WAIT_S
    swept: set[int] = set()
    while (found := leftovers(home)) and time.monotonic() < deadline:
        for pid in found:
            swept.add(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    return len(swept)


def _process_ids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _environment(pid: int) -> list[bytes]:
    try:
        # A zombie's is empty, another user's unreadable.
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
