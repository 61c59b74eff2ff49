"""Candles from files, one after the other; where the files come from is the shelf's business."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BufferedIOBase
from typing import Any, Protocol

from loader_candles.candle_file import CandleFile, Mark
from loader_candles.series import Series
from streamforge_utils.errors import TransientError
from streamforge_utils.pipeline import Delivery, EndOfSource


@dataclass(frozen=True, slots=True)
class Volume:
    """A file on a shelf; ``opener`` opens it (called in a thread)."""

    name: str
    opener: Callable[[], BufferedIOBase]


class Shelf(Protocol):
    """Gives the files of a series in the order of their candles."""

    async def open(self) -> None:
        """Called before anything else. Raises ConfigurationError when there can be no files."""

    async def following(self, name: str | None) -> Volume | None:
        """The file behind the one called ``name`` (None: the first); None when there is none.

        Raises:
            ConfigurationError: a file that has to be there is not.
            TransientError: call again.
        """

    async def named(self, name: str) -> Volume:
        """The file of this name, which ``following`` gave in a former life; raises as ``following``."""

    async def close(self) -> None:
        """Idempotent; frees what the volumes hold."""


class FilesSource:
    """Source over the files of a shelf. Position: file, line, byte offset, last open time."""

    def __init__(self, name: str, shelf: Shelf, series: Series) -> None:
        self.name = name
        self._shelf = shelf
        self._series = series
        self._mark = Mark("")
        self._resumes = False
        self._file: CandleFile | None = None
        self._step: asyncio.Task[Delivery] | None = None

    async def open(self, position: Any | None) -> None:
        """Finds the files; reads none yet."""
        await self.close()
        await self._shelf.open()
        self._mark = Mark("") if position is None else Mark(**position)
        self._resumes = bool(self._mark.file)

    async def read(self, max_records: int) -> Delivery:
        """The next rows. A cancelled read goes on in the background; the next one gives what it found."""
        if self._step is None:
            self._step = asyncio.create_task(self._next(max_records), name=f"read {self.name}")
        await asyncio.wait([self._step])
        step, self._step = self._step, None
        return step.result()

    async def close(self) -> None:
        """Ends a read that was cancelled, closes the file, empties the shelf."""
        step, self._step = self._step, None
        if step is not None:
            step.cancel()
            await asyncio.wait([step])
            if not step.cancelled():
                step.exception()  # nobody will ask for it: the position was not advanced
        await self._close_file()
        await self._shelf.close()

    async def _next(self, max_records: int) -> Delivery:
        while True:
            if self._file is None:
                self._file = await self._next_file()
            try:
                taken = await asyncio.to_thread(self._file.take, max_records)
            except OSError as error:
                await self._close_file()
                self._resumes = True
                raise TransientError(f"{self._mark.file} cannot be read at the moment: {error}") from error
            self._mark = taken.mark
            if taken.is_end:
                await self._close_file()
            if taken.rows:
                return Delivery(taken.values, taken.mark.position(), taken.dropped)

    async def _next_file(self) -> CandleFile:
        if self._resumes:
            volume = await self._shelf.named(self._mark.file)
            self._resumes = False
            return CandleFile(volume.opener, self._series, self._mark)
        following = await self._shelf.following(self._mark.file or None)
        if following is None:
            raise EndOfSource
        self._mark = replace(self._mark, file=following.name, line=0, offset=0)
        return CandleFile(following.opener, self._series, self._mark)

    async def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await asyncio.to_thread(file.close)
