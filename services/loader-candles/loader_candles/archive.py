"""The exchange's public archive as a shelf: zips of whole months and of days, each beside its CHECKSUM.

Layout and naming: https://github.com/binance/binance-public-data. Downloads lie in temporary files without a name, so
that nothing is left of them after a kill.
"""

import asyncio
import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from io import BufferedReader, FileIO

from loader_candles.candle_file import bad_input
from loader_candles.files_source import Volume
from loader_candles.series import Series
from loader_candles.web_client import WebClient
from streamforge_utils.errors import ConfigurationError, TransientError

_NAME = re.compile(r".*-(?P<year>\d{4})-(?P<month>\d{2})(-(?P<day>\d{2}))?\.zip\Z")
_CHECKSUM = re.compile(rb"\s*([0-9a-fA-F]{64})(\s|\Z)")
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Period:
    """A whole month or one day, in UTC."""

    start: date
    is_month: bool

    @classmethod
    def of_name(cls, name: str) -> "Period":
        """The period of a file name that ``name`` built."""
        match = _NAME.match(name)
        if match is None:
            raise bad_input(name, None, "is no file of the archive: the position belongs to another source")
        return cls(date(int(match["year"]), int(match["month"]), int(match["day"] or 1)), match["day"] is None)

    @property
    def end(self) -> date:
        """The day after its last."""
        return (self.start.replace(day=28) + timedelta(days=4)).replace(day=1) if self.is_month else _next(self.start)

    def name(self, series: Series) -> str:
        """How the exchange calls the file."""
        moment = f"{self.start:%Y-%m}" if self.is_month else self.start.isoformat()
        return f"{series.symbol}-{series.interval}-{moment}.zip"

    def path(self, series: Series) -> str:
        """Where the exchange keeps the file."""
        folder = "monthly" if self.is_month else "daily"
        return f"/data/spot/{folder}/klines/{series.symbol}/{series.interval}/{self.name(series)}"


class Archive:
    """Files of a bounded series: a month's where the range has it whole and it is published, else those of days."""

    def __init__(self, client: WebClient, series: Series) -> None:
        self._client = client
        self._series = series
        self._file: FileIO | None = None  # of the volume given last, or half of the one to come
        self._coming = ""
        self._tag = ""

    async def open(self) -> None:
        """Connects to nothing."""
        await self._client.open()

    async def following(self, name: str | None) -> Volume | None:
        """Downloads the next file.

        Raises:
            ConfigurationError: a day's file is missing, or a file is not what its CHECKSUM says (``bad-input``).
            TransientError: away, or no room on the disk; the next call resumes the download.
        """
        start = _day(self._series.start_ms) if name is None else Period.of_name(name).end
        month, day = Period(start, is_month=True), Period(start, is_month=False)
        if _milliseconds(start) >= self._series.end_ms:
            return None
        if self._holds(month) and (volume := await self._fetched(month)):
            return volume
        return await self.named(day.name(self._series))

    async def named(self, name: str) -> Volume:
        """Downloads a file; raises as ``following``."""
        period = Period.of_name(name)
        volume = await self._fetched(period)
        if volume is None:
            raise bad_input(
                name, None, f"is missing in the archive ({self._client.base_url}{period.path(self._series)})"
            )
        return volume

    async def close(self) -> None:
        """Frees the temporary file. Idempotent."""
        self._discard()
        await self._client.close()

    def _holds(self, month: Period) -> bool:
        start_ms, end_ms = _milliseconds(month.start), _milliseconds(month.end)
        return month.start.day == 1 and self._series.start_ms <= start_ms and end_ms <= self._series.end_ms

    async def _fetched(self, period: Period) -> Volume | None:
        name, path = period.name(self._series), period.path(self._series)
        expected = await self._checksum(name, path)
        if expected is None:
            return None
        file = self._part(name)
        is_fresh = await self._download(name, path, file)
        with _keeping(name):
            found = await asyncio.to_thread(_sha256, file)
        if found != expected:
            self._discard()
            what = f"wrong checksum: SHA-256 {found}, its CHECKSUM says {expected}"
            raise bad_input(name, None, what) if is_fresh else TransientError(f"{name}: {what}; it is loaded anew")
        self._coming = self._tag = ""
        return Volume(name, lambda: BufferedReader(file))

    def _part(self, name: str) -> FileIO:
        """What is there already of a file; empty at first."""
        if self._coming != name or self._file is None:
            self._discard()
            with _keeping(name):
                # Without a buffer: what a full disk refused must not be written again by the next seek or close.
                self._file = tempfile.TemporaryFile(buffering=0)
            self._coming = name
        return self._file

    async def _checksum(self, name: str, path: str) -> str | None:
        answer = await self._client.get(f"{path}.CHECKSUM")
        if answer.status == 404:
            return None
        match = _CHECKSUM.match(answer.body)
        if answer.status != 200 or match is None:
            raise bad_input(f"{name}.CHECKSUM", None, f"no SHA-256 (status {answer.status})")
        return match[1].decode().lower()

    async def _download(self, name: str, path: str, file: FileIO) -> bool:
        """Completes the file; False when the server says that it has no bytes behind those that are there."""
        with _keeping(name):
            done = file.seek(0, 2)
        headers = {"range": f"bytes={done}-", "if-range": self._tag} if done and self._tag else {}
        async with self._client.stream(path, headers=headers) as response:
            status = response.status_code
            if status == 416 and headers:
                return False
            if status == 404:
                raise bad_input(name, None, "is missing in the archive, its CHECKSUM is there")
            if status not in (200, 206):
                raise ConfigurationError(f"{response.url}: status {status}", code="bad-input")
            if not self._resumes(status, response.headers, done):
                with _keeping(name):
                    file.seek(0)
                    file.truncate()
            self._tag = response.headers.get("etag", "")
            async for chunk in response.aiter_raw():
                with _keeping(name):
                    _write(file, chunk)
        return True

    def _resumes(self, status: int, headers: Mapping[str, str], done: int) -> bool:
        return status == 206 and headers.get("content-range", "").startswith(f"bytes {done}-")

    def _discard(self) -> None:
        file, self._file, self._coming, self._tag = self._file, None, "", ""
        if file is not None:
            file.close()


@contextmanager
def _keeping(name: str) -> Iterator[None]:
    """Around all that touches the temporary file: a disk that is full or fails is waited for."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "a temporary folder"
        raise TransientError(f"{name} cannot be kept in {folder}: {error}") from error


def _write(file: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:  # a disk that is nearly full takes a part
        rest = rest[file.write(rest) :]


def _sha256(file: FileIO) -> str:
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest


def _day(moment_ms: int) -> date:
    return datetime.fromtimestamp(moment_ms // 1000, UTC).date()


def _next(day: date) -> date:
    return day + timedelta(days=1)


def _milliseconds(day: date) -> int:
    return (day - date(1970, 1, 1)).days * _DAY_MS
