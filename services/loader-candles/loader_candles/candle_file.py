"""One CSV file of candles, read forward in pieces with bounded memory: plain, gz or zip; header or none.

Blocking: the caller runs ``take`` and ``close`` in a thread. Knows nothing of where the file came from.
"""

import errno
import gzip
import lzma
import threading
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from io import BufferedIOBase
from typing import Any, cast

from loader_candles import klines
from loader_candles.series import Series
from streamforge_utils.errors import ConfigurationError, shown

_CHUNK = 256 * 1024
_MAX_LINE = 64 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BROKEN = (
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    ValueError,
    IndexError,
    RuntimeError,
    NotImplementedError,
    OSError,
)
"""What the standard library raises for files that are truncated, damaged, encrypted, of an unknown method, not ours."""
_MEDIUM = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN, errno.ECONNRESET})
"""Errors of a disk or file server that may pass."""


def bad_input(name: str, line: int | None, what: str) -> ConfigurationError:
    """The error for input that can never be read, naming the file and the line (1-based, of the decompressed text)."""
    where = name if line is None else f"{name}, line {line}"
    return ConfigurationError(f"{where}: {what}", code="bad-input")


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a file was read: ``line`` lines, which end at ``offset`` bytes of the decompressed text.

    ``last`` is the open time of the last row, also of earlier files: order is verified across files and restarts.
    """

    file: str
    line: int = 0
    offset: int = 0
    last: int = 0

    def position(self) -> dict[str, Any]:
        """As JSON, for ``Delivery.position``."""
        return asdict(self)


@dataclass(slots=True)
class Taken:
    """What one ``take`` gave; ``rows`` counts the dropped ones, too."""

    mark: Mark
    values: list[dict[str, Any]] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    is_end: bool = False

    @property
    def rows(self) -> int:
        """Input records: taken or dropped."""
        return len(self.values) + sum(self.dropped.values())


class CandleFile:
    """Reads the rows of one file behind ``mark``. ``opener`` gives the raw file, when the first row is taken."""

    def __init__(self, opener: Callable[[], BufferedIOBase], series: Series, mark: Mark) -> None:
        self._opener = opener
        self._series = series
        self._mark = mark
        self._lock = threading.Lock()  # a close waits for a take whose caller was cancelled
        self._open: list[BufferedIOBase] = []
        self._pick: Callable[[klines.Cells], klines.Cells] | None = None
        self._first_row = 1
        self._lines: list[bytes] = []
        self._rest = b""
        self._error: Exception | None = None

    def take(self, max_rows: int) -> Taken:
        """The next rows, at most ``max_rows``. Rows before a bad one are given first, the error by the next call.

        Raises:
            ConfigurationError: the file is not what it should be (code ``bad-input``).
            OSError: the medium fails; a new CandleFile behind the last mark may work.
        """
        with self._lock:
            taken = Taken(self._mark)
            try:
                if self._error:
                    raise self._error
                self._take(taken, max_rows)
            except (ConfigurationError, OSError) as error:
                if not taken.rows:
                    raise
                self._error = error
            self._mark = taken.mark
            return taken

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            while self._open:
                self._open.pop().close()

    def _take(self, taken: Taken, max_rows: int) -> None:
        if not self._open:
            self._start(taken)
        while (room := max_rows - taken.rows) > 0:
            if not self._lines and not self._fill(taken.mark):
                if taken.mark.line < self._first_row:
                    raise self._bad(taken.mark.line, "a header, but no rows")
                taken.is_end = True
                return
            piece, self._lines = self._lines[:room], self._lines[room:]
            self._parse(piece, taken)

    def _start(self, taken: Taken) -> None:
        """Open, learn the layout from the first line, go behind the mark."""
        try:
            self._open.append(self._opener())
            self._decompress()
            first = self._open[-1].readline(_MAX_LINE)
        except _BROKEN as error:
            raise self._unreadable(1, error) from error
        if not first.strip():
            raise self._bad(1, "the file is empty" if not first else "the first line is blank")
        if klines.is_header(first.removeprefix(_BYTE_ORDER_MARK)):
            try:
                self._pick = klines.columns_of(first.removeprefix(_BYTE_ORDER_MARK))
            except ValueError as error:
                raise self._bad(1, str(error)) from error
            self._first_row = 2
        if taken.mark.line < self._first_row - 1:
            taken.mark = Mark(self._mark.file, 1, len(first), self._mark.last)
        try:
            self._open[-1].seek(taken.mark.offset)
        except _BROKEN as error:
            raise self._unreadable(taken.mark.line, error) from error

    def _decompress(self) -> None:
        raw, name = self._open[0], self._mark.file.lower()
        if name.endswith(".gz"):
            self._open.append(gzip.GzipFile(fileobj=raw))
        elif name.endswith(".zip"):
            archive = zipfile.ZipFile(raw)
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) != 1:
                raise self._bad(None, f"a zip of {len(members)} files, one was expected")
            self._open.append(cast(BufferedIOBase, archive.open(members[0])))

    def _fill(self, mark: Mark) -> bool:
        """Read on until there are whole lines; False at the end."""
        while True:
            try:
                chunk = self._open[-1].read1(_CHUNK)
            except _BROKEN as error:
                raise self._unreadable(mark.line + 1, error) from error
            if not chunk:
                self._lines, self._rest = [self._rest] if self._rest else [], b""
                return bool(self._lines)
            *self._lines, self._rest = (self._rest + chunk).split(b"\n")
            if self._lines:
                return True
            if len(self._rest) > _MAX_LINE:
                raise self._bad(mark.line + 1, f"longer than {_MAX_LINE} bytes: this is no CSV file")

    def _parse(self, lines: list[bytes], taken: Taken) -> None:
        series, pick, values = self._series, self._pick, taken.values
        line, offset, last = taken.mark.line, taken.mark.offset, taken.mark.last
        try:
            for text in lines:
                row = self._row(text, line + 1, pick)
                if row is not None:
                    open_time = row["open_time"]
                    if open_time < last:
                        raise self._bad(
                            line + 1, f"not sorted: open_time {open_time} is before {last} of the row above"
                        )
                    if open_time == last:
                        taken.dropped["duplicate"] = taken.dropped.get("duplicate", 0) + 1
                    elif series.start_ms <= open_time < series.end_ms:
                        values.append(row)
                    else:
                        taken.dropped["out-of-range"] = taken.dropped.get("out-of-range", 0) + 1
                    last = open_time
                line += 1
                offset += len(text) + 1
        finally:
            taken.mark = Mark(self._mark.file, line, offset, last)

    def _row(
        self, text: bytes, line: int, pick: Callable[[klines.Cells], klines.Cells] | None
    ) -> dict[str, Any] | None:
        if not text.strip():
            return None
        try:
            return klines.candle(_cells(text, pick), self._series)
        except ValueError as error:
            what = str(error) if text.isascii() and b"\0" not in text else "this is no text"
            raise self._bad(line, what) from error

    def _unreadable(self, line: int, error: Exception) -> Exception:
        if isinstance(error, OSError) and error.errno in _MEDIUM:
            return error
        return self._bad(line, f"cannot be read (truncated or damaged?): {shown(error)}")

    def _bad(self, line: int | None, what: str) -> ConfigurationError:
        return bad_input(self._mark.file, line, what)


def _cells(text: bytes, pick: Callable[[klines.Cells], klines.Cells] | None) -> klines.Cells:
    cells: klines.Cells = text.split(b",")
    if b"_" in text:
        raise ValueError("an underscore is no part of a number")  # Python reads 1_000 as one
    if pick is None:
        if len(cells) != klines.WIDTH:
            raise ValueError(f"{len(cells)} columns instead of {klines.WIDTH}")
        return cells[:-1]
    try:
        return pick(cells)
    except IndexError:
        raise ValueError(f"only {len(cells)} columns, fewer than the header names") from None
