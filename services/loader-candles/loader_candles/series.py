"""Which candles a workflow wants: symbol, interval, range. Pure."""

from dataclasses import dataclass

from streamforge_utils.errors import ConfigurationError
from streamforge_utils.settings import WorkerSettings

FOREVER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Series:
    """Candles of one symbol and interval whose open time is in ``start_ms <= t < end_ms``."""

    symbol: str
    interval: str
    interval_ms: int
    start_ms: int = 0
    end_ms: int = FOREVER
    is_live: bool = False

    @classmethod
    def of(cls, settings: WorkerSettings) -> "Series":
        """What the environment of a worker asks for.

        Raises:
            ConfigurationError: no symbol, or a type without an interval.
        """
        if not settings.symbol:
            raise ConfigurationError("SYMBOL is not set: the loader needs one, as BTCUSDT")
        kind = settings.type
        if kind is None or kind.interval is None or kind.interval_ms is None:
            raise ConfigurationError(f"TYPE {kind} names no interval: the loader needs one, as api_candles_1m")
        symbol, span = settings.symbol.upper(), settings.time_range
        bounds = (0, FOREVER) if span is None else (span.start_ms, span.end_ms)
        return cls(symbol, kind.interval, kind.interval_ms, *bounds, is_live=kind.is_live)

    @property
    def is_bounded(self) -> bool:
        """Whether the range has an end."""
        return self.end_ms != FOREVER

    @property
    def first_ms(self) -> int:
        """The first open time in the range."""
        return self.aligned(self.start_ms + self.interval_ms - 1)

    def aligned(self, moment_ms: int) -> int:
        """Open time of the candle in which a moment lies (every interval is counted from the epoch, in UTC)."""
        return moment_ms - moment_ms % self.interval_ms
