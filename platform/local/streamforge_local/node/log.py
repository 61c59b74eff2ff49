"""The log files of ordinals: their names, their size and reading them back as lines with times.

A worker writes its file itself, so a line is safe when it is written, whoever dies. The size is held by freeing the
head of the file on the disk while offsets stay as they are: no copy and no rename by which a line could be missed.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from streamforge_local.node import linux

MAX_LINE_BYTES = 65_536
END_BYTES = 2048
"""How much of a life's end is told with its exit; as much as a Kubernetes node tells."""
_READ_BYTES = 262_144
_STAMP = re.compile(rb'"timestamp"\s*:\s*(?:"([^"]{1,40})"|([0-9]+(?:\.[0-9]+)?))')


class Logs:
    """The folder with one file for each ordinal of each Job."""

    def __init__(self, folder: Path, *, keep_bytes: int) -> None:
        self._folder = folder
        self._keep_bytes = keep_bytes

    def path(self, job: str, ordinal: int) -> Path:
        """The ordinal's file."""
        return self._folder / job / f"{ordinal}.log"

    def prepare(self, job: str) -> None:
        """Make the Job's folder."""
        (self._folder / job).mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove(self, job: str) -> None:
        """Remove the Job's files."""
        shutil.rmtree(self._folder / job, ignore_errors=True)

    def jobs(self) -> list[str]:
        """Names of the Jobs that have files."""
        return [entry.name for entry in self._folder.iterdir()] if self._folder.is_dir() else []

    def size(self, job: str, ordinal: int) -> int:
        """The offset at which the ordinal's next life begins to write; 0 while there is no file."""
        try:
            return self.path(job, ordinal).stat().st_size
        except OSError:
            return 0

    def end(self, job: str, ordinal: int, *, behind: int) -> str:
        """What was written last, at most ``END_BYTES`` of it and nothing before the offset ``behind``.

        Raises:
            OSError: The file cannot be read.
        """
        with self.path(job, ordinal).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(min(behind, size), size - END_BYTES))
            return file.read(END_BYTES).lstrip(b"\0").decode(errors="ignore")

    def trim(self, job: str, ordinal: int) -> int:
        """Free the older lines of a file that holds more than twice of what is kept.

        Returns:
            Bytes freed.

        Raises:
            OSError: ENOTSUP or EOPNOTSUPP where the filesystem cannot free a part of a file.
        """
        try:
            fd = os.open(self.path(job, ordinal), os.O_RDWR)
        except FileNotFoundError:
            return 0
        try:
            size, first = os.fstat(fd).st_size, _first_byte(fd)
            if size - first <= 2 * self._keep_bytes:
                return 0
            cut = size - self._keep_bytes
            line_end = os.pread(fd, MAX_LINE_BYTES, cut).find(b"\n")
            cut += line_end + 1  # nothing found: cut where we are
            linux.free_head(fd, cut)
            return cut - first
        finally:
            os.close(fd)


class Tail:
    """Reads one ordinal's lines from where it is to the end of the file, as often as it is asked."""

    def __init__(self, path: Path, *, fallback_ts: float) -> None:
        self._path = path
        self._fd = -1
        self._offset = 0
        self._rest = b""
        self._ts = fallback_ts

    def open(self, *, last: int | None = None) -> bool:
        """Begin at the file's start, or at its `last` lines. False while there is no file."""
        try:
            self._fd = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        self._offset = _first_byte(self._fd)
        if last is not None:
            self._offset = _line_start(self._fd, self._offset, last)
        return True

    @property
    def is_open(self) -> bool:
        """Whether there is a file to read."""
        return self._fd >= 0

    def read(self, *, now: float | None = None) -> list[tuple[float, str]] | None:
        """The next lines with their times; None at the end of the file.

        Args:
            now: The time of lines that carry none; None = that of the line before.
        """
        data = os.pread(self._fd, _READ_BYTES, self._offset)
        if not data:
            return None
        self._offset += len(data)
        *lines, self._rest = (self._rest + data.lstrip(b"\0")).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        return list(self._stamped(lines, now))

    def rest(self) -> list[tuple[float, str]]:
        """The last line, if its writer died before its end."""
        rest, self._rest = self._rest, b""
        return list(self._stamped([rest], None)) if rest else []

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _stamped(self, lines: list[bytes], now: float | None) -> Iterator[tuple[float, str]]:
        for line in lines:
            self._ts = timestamp(line) or now or self._ts
            yield self._ts, line.decode(errors="replace")


def timestamp(line: bytes) -> float | None:
    """The time in a JSON line's `timestamp` (epoch seconds or ISO 8601); None if it has none."""
    found = _STAMP.search(line) if line.startswith(b"{") else None
    if found is None:
        return None
    text, number = found.groups()
    if number is not None:
        return float(number)
    try:
        stamp = datetime.fromisoformat(text.decode())
    except ValueError:
        return None
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()


def _first_byte(fd: int) -> int:
    """Where the file's kept part begins (its first bytes may be NULs: the disk frees whole blocks)."""
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # empty, or nothing but a hole
            return os.fstat(fd).st_size
        raise


def _line_start(fd: int, first: int, lines: int) -> int:
    """Offset at which the last `lines` lines of the file begin."""
    end = offset = os.fstat(fd).st_size
    found = 0
    while offset > first:
        begin = max(first, offset - 65_536)
        block = os.pread(fd, offset - begin, begin)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            # The newline at the very end closes the last line; it does not begin another.
            found += begin + at + 1 < end
            if found == lines:
                return begin + at + 1
        offset = begin
    return first if lines else end
