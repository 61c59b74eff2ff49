"""A half-open range of UTC time, as requests and workers' environments write it (contract, section 1)."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

_DATES = re.compile(r"(\d{4}-\d{2}-\d{2}):(\d{4}-\d{2}-\d{2})\Z")


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """``start <= t < end``, both aware and in UTC.

    Raises:
        ValueError: a naive bound, or an end that is not after the start.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("both ends of a time range need a time zone")
        if self.end <= self.start:
            raise ValueError(f"the end {self.end.isoformat()} is not after the start {self.start.isoformat()}")

    @classmethod
    def parse(cls, text: str) -> "TimeRange":
        """Read ``2024-08-01:2024-08-02`` (days) or an ISO 8601 interval ``2024-08-01T00:00Z/2024-08-01T06:00Z``.

        Raises:
            ValueError: neither of the two forms, a date that does not exist, or an end not after its start.
        """
        if match := _DATES.match(text):
            first, last = (datetime.combine(date.fromisoformat(part), time(), UTC) for part in match.groups())
            return cls(first, last)
        start, slash, end = text.partition("/")
        if not slash:
            raise ValueError(f"{text!r} is neither START:END in days (2024-08-01:2024-08-02) nor an ISO 8601 interval")
        return cls(_instant(start), _instant(end))

    @property
    def start_ms(self) -> int:
        """The start in milliseconds since the epoch."""
        return _milliseconds(self.start)

    @property
    def end_ms(self) -> int:
        """The end (not in the range) in milliseconds since the epoch."""
        return _milliseconds(self.end)

    def __str__(self) -> str:
        """The shorter of the two forms that ``parse`` reads."""
        if self.start.time() == self.end.time() == time():
            return f"{self.start:%Y-%m-%d}:{self.end:%Y-%m-%d}"
        return "/".join(bound.isoformat().replace("+00:00", "Z") for bound in (self.start, self.end))


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone: write {text}Z for UTC")
    return moment.astimezone(UTC)


def _milliseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
