"""The name under which a controller holds the lease; it tells whether its process is certainly no more."""

import os
import socket
from pathlib import Path

from ulid import ULID


def new_owner() -> str:
    """``<host>/<process>/<where its number counts>/<ULID>``: of this process, and of no other ever."""
    return f"{socket.gethostname()}/{os.getpid()}/{_process_space()}/{ULID()}"


def is_dead(owner: str) -> bool:
    """Whether an owner was a process that could be seen from here and is no more: nobody has to wait for it."""
    host, _, rest = owner.partition("/")
    pid, _, rest = rest.partition("/")
    if host != socket.gethostname() or rest.partition("/")[0] != _process_space() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, as another user's
        pass
    return False


def _process_space() -> str:
    """This boot of this machine and the container's own numbers (pid_namespaces(7)): the same host name is not enough.

    Containers with the host's network have its name, too, and begin to count at 1 each.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return "-"  # no Linux: a process number counts for the whole machine
