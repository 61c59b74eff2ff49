"""The log file of a part: appended, rotated by size. Knows lines, not their meaning."""

import threading
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 10 << 20
KEPT = 3
"""Files of one part: the current one and two older."""
SHOWN = 300


class RotatingLog:
    """Takes a process's output; ``last_line`` is what an error message quotes. Thread-safe."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._last = b""
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab")

    def write(self, data: bytes) -> None:
        """Append; what the disk refuses is dropped, for a full disk must not stop the part."""
        with self._lock:
            self._last = next((line for line in reversed(data.splitlines()) if line.strip()), self._last)
            try:
                if self._file.closed:  # it could not be opened again at the last rotation
                    self._file = self.path.open("ab")
                self._file.write(data)
                self._file.flush()
                if self._file.tell() > self._max_bytes:
                    self._rotate()
            except OSError:
                return

    @property
    def last_line(self) -> str:
        """The last line that is not empty, cut."""
        with self._lock:
            return self._last.decode(errors="replace").strip()[:SHOWN]

    def forget(self) -> None:
        """Before a new life of the process: the last line of the former one explains nothing any more."""
        with self._lock:
            self._last = b""

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        try:
            for number in range(KEPT - 1, 0, -1):
                older = self.path if number == 1 else self._numbered(number - 1)
                if older.exists():
                    older.replace(self._numbered(number))
        finally:
            self._file = self.path.open("ab")

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
