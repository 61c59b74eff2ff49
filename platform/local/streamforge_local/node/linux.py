"""The Linux calls that Python does not offer: ties between processes, and freeing the head of a file."""

import ctypes
import os
import signal
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

# include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
# include/uapi/linux/falloc.h
_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; leave at once if `parent` has died already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def name_process(name: str) -> None:
    """Show `name` (cut to 15 bytes) in ps and top."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def free_head(fd: int, length: int) -> None:
    """Give the first `length` bytes of a file back to the disk; offsets stay, the bytes read as NUL.

    Raises:
        OSError: ENOTSUP or EOPNOTSUPP where the filesystem cannot.
    """
    if _LIBC.fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, 0, length) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it was booted, in all control groups."""
    for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return 0  # kernels before 4.13 do not count


def _prctl(option: int, argument: "int | ctypes.c_char_p") -> None:
    if _LIBC.prctl(option, argument, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
