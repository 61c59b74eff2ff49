"""A workflow's type: where records come from, what they are, their interval: ``api_candles_1m``, ``ws_candles_1m``."""

import re
from dataclasses import dataclass

INTERVALS_MS = {
    "1s": 1_000,
    "1m": 60_000,
    "3m": 180_000,
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": 3_600_000,
    "2h": 7_200_000,
    "4h": 14_400_000,
    "6h": 21_600_000,
    "8h": 28_800_000,
    "12h": 43_200_000,
    "1d": 86_400_000,
}
"""Milliseconds of an exchange's interval (those of a fixed length, as https://developers.binance.com lists them)."""

_TYPE = re.compile(r"(?P<source>api|ws)_(?P<kind>[a-z][a-z0-9]{0,31})(_(?P<interval>[0-9]+[smhd]))?\Z")


@dataclass(frozen=True, slots=True)
class WorkflowType:
    """``source`` is ``api`` (bounded) or ``ws`` (live); ``interval`` is None for records that have none."""

    source: str
    kind: str
    interval: str | None

    @classmethod
    def parse(cls, text: str) -> "WorkflowType":
        """Read ``<source>_<kind>[_<interval>]``.

        Raises:
            ValueError: not of that form, or an interval that is not in ``INTERVALS_MS``.
        """
        match = _TYPE.match(text)
        if match is None:
            raise ValueError(f"{text!r} is not <source>_<kind>_<interval> with a source api or ws, as api_candles_1m")
        interval = match["interval"]
        if interval is not None and interval not in INTERVALS_MS:
            raise ValueError(f"{text!r}: the interval {interval!r} is none of {', '.join(INTERVALS_MS)}")
        return cls(match["source"], match["kind"], interval)

    @property
    def is_live(self) -> bool:
        """Whether records go on coming until the workflow is stopped."""
        return self.source == "ws"

    @property
    def interval_ms(self) -> int | None:
        """The interval in milliseconds."""
        return None if self.interval is None else INTERVALS_MS[self.interval]

    def __str__(self) -> str:
        """The text that ``parse`` reads."""
        return "_".join(part for part in (self.source, self.kind, self.interval) if part)
