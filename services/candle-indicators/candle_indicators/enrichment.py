"""The processor: candles in order of their open time go in, the same candles with indicators come out."""

from typing import Any

from candle_indicators.indicators import Indicators
from candle_indicators.params import IndicatorParams
from streamforge_utils.contracts.candle import fault
from streamforge_utils.contracts.workflow_type import INTERVALS_MS
from streamforge_utils.pipeline import Batch
from streamforge_utils.worker import Report

MAX_VALUE = 1e100
"""Prices and volumes up to here cannot overflow in any formula, so that every state is a JSON number."""

Verdict = tuple[str, str]


class EnrichCandles:
    """Adds the indicators to each candle; keeps its state from batch to batch.

    A candle that comes twice is dropped (``duplicate``), one from before the last too (``out-of-order``): the
    indicators have gone on. Missing candles are counted and reported; the indicators go on over a gap as if it were
    not there. A late batch (redriven dead letters) passes as it is and leaves the state untouched.
    """

    name = "indicators"

    def __init__(self, params: IndicatorParams, *, symbol: str, interval: str | None, report: Report) -> None:
        self._indicators = Indicators(params)
        self._symbol = symbol
        self._interval = interval
        self._report = report
        self._last: int | None = None
        self._gaps = 0
        self._missing = 0

    def process(self, batch: Batch) -> Batch:
        """The candles that go on, with their indicators."""
        values: list[Any] = []
        origins: list[int] = []
        gaps = self._gaps
        for index, candle in enumerate(batch.values):
            verdict = fault(candle) or self._mismatch(candle)
            if verdict is not None:
                batch.refuse(index, *verdict)
            elif batch.is_late:
                values.append(candle)
                origins.append(batch.origins[index])
            elif self._last is not None and candle["open_time"] <= self._last:
                batch.drop(index, "duplicate" if candle["open_time"] == self._last else "out-of-order")
            else:
                self._count_missing(candle)
                values.append(candle | self._indicators.update(candle))
                origins.append(batch.origins[index])
        if self._gaps > gaps:
            self._report(
                f"{self._missing} candles are missing in {self._gaps} gaps", missing=self._missing, gaps=self._gaps
            )
        return batch.derived(values, origins)

    def _mismatch(self, candle: dict[str, Any]) -> Verdict | None:
        if self._symbol and candle["symbol"] != self._symbol:
            return "wrong-symbol", f"symbol {candle['symbol']!r:.40}, the workflow's is {self._symbol!r}"
        if self._interval is not None and candle["interval"] != self._interval:
            return "inconsistent", f"interval {candle['interval']!r:.40}, the workflow's is {self._interval!r}"
        if candle["high"] > MAX_VALUE or candle["volume"] > MAX_VALUE:
            return "inconsistent", f"high {candle['high']} or volume {candle['volume']} is larger than {MAX_VALUE:g}"
        return None

    def _count_missing(self, candle: dict[str, Any]) -> None:
        last, self._last = self._last, candle["open_time"]
        step = INTERVALS_MS.get(candle["interval"])
        if last is not None and step is not None and candle["open_time"] - last > step:
            self._gaps += 1
            self._missing += (candle["open_time"] - last) // step - 1

    def state(self) -> dict[str, Any]:
        """JSON: the last open time, gaps so far, and each indicator's state."""
        return {
            "last": self._last,
            "gaps": self._gaps,
            "missing": self._missing,
            "indicators": self._indicators.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what ``state`` gave."""
        self._last, self._gaps, self._missing = state["last"], state["gaps"], state["missing"]
        self._indicators.restore(state["indicators"])
