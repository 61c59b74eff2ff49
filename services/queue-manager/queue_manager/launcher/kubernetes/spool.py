"""A log on its way into the archive: lines in a temporary file of bounded size, of which the end is kept. No I/O else.

Memory holds one buffer, whatever a worker writes.
"""

import asyncio
import gzip
import shutil
import tempfile
from collections.abc import Mapping
from typing import IO, Any, Self

import orjson

BUFFER = 64 * 1024


class Spool:
    """Lines of one pod. A context manager: the file is gone at its end. OSError: the disk of TMPDIR is full."""

    def __init__(self, limit: int) -> None:
        """A spool; ``limit``: bytes that are kept of it, before they are packed."""
        self._limit = limit
        self._buffer = bytearray()
        self._file: IO[bytes] = tempfile.TemporaryFile()
        self._size = 0
        self._is_cut = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def is_empty(self) -> bool:
        """Whether no line came."""
        return not (self._size or self._buffer)

    async def add(self, ts: float, line: str) -> None:
        """Take one line; ``ts`` in epoch seconds."""
        self._buffer += orjson.dumps({"ts": ts, "line": line}, option=orjson.OPT_APPEND_NEWLINE)
        if len(self._buffer) >= BUFFER:
            await asyncio.to_thread(self._flush)

    async def packed(self, header: Mapping[str, Any]) -> IO[bytes]:
        """All of it behind its header, which is told whether the beginning is missing, as a gzipped file to be read."""
        return await asyncio.to_thread(self._pack, header)

    def _pack(self, header: Mapping[str, Any]) -> IO[bytes]:
        self._flush()
        if self._size > self._limit:
            self._forget_beginning()
        packed: IO[bytes] = tempfile.TemporaryFile()
        try:
            with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped:
                told = {**header, "beginning_missing": self._is_cut}
                zipped.write(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
                self._file.seek(0)
                shutil.copyfileobj(self._file, zipped)
            packed.seek(0)
        except BaseException:
            packed.close()
            raise
        return packed

    def _flush(self) -> None:
        self._file.seek(0, 2)
        self._file.write(self._buffer)
        self._size += len(self._buffer)
        self._buffer.clear()
        # not at the limit itself: each time, as much is copied as is kept
        if self._size > self._limit + self._limit // 4:
            self._forget_beginning()

    def _forget_beginning(self) -> None:
        self._file.seek(self._size - self._limit - 1)
        self._file.readline()  # the rest of a line that is not whole any more
        end: IO[bytes] = tempfile.TemporaryFile()
        shutil.copyfileobj(self._file, end)
        self._file.close()
        self._file, self._size, self._is_cut = end, end.tell(), True
