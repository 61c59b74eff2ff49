"""The processor: a candle that is right becomes the document that is stored; any other is refused with its reason."""

import math
import re
from typing import Any, NamedTuple

from streamforge_utils.contracts.candle import FIELDS, fault
from streamforge_utils.contracts.time_range import TimeRange
from streamforge_utils.contracts.workflow_type import WorkflowType
from streamforge_utils.pipeline import Batch

INDICATOR = re.compile(r"(ema|rsi|atr)_\d{1,4}|vwap|macd(_signal|_hist)?|bb_(upper|middle|lower)")
"""Names of indicators, whatever their periods."""

Verdict = tuple[str, str]
Document = dict[str, Any]


class _Shape(NamedTuple):
    """The fields of a candle."""

    indicators: tuple[str, ...]
    is_exact: bool
    """Nothing has to be left out."""


class ValidateCandle:
    """Checks each candle against its schema and its workflow, and makes the document of it.

    A document has the schema's fields, the indicators that the candle carries, and ``queue_id``; any other field is
    left out.
    """

    name = "validate"

    def __init__(
        self,
        *,
        queue_id: str,
        symbol: str = "",
        workflow_type: WorkflowType | None = None,
        time_range: TimeRange | None = None,
    ) -> None:
        self._queue_id = queue_id
        self._symbol = symbol
        self._interval = workflow_type.interval if workflow_type else None
        self._time_range = time_range
        self._start_ms = time_range.start_ms if time_range else 0
        self._end_ms = time_range.end_ms if time_range else math.inf
        self._shapes: dict[tuple[str, ...], _Shape] = {}

    def process(self, batch: Batch) -> Batch:
        """The documents of the candles that are right."""
        documents: list[Document] = []
        origins: list[int] = []
        for index, candle in enumerate(batch.values):
            if (verdict := fault(candle) or self._mismatch(candle)) is not None:
                batch.refuse(index, *verdict)
                continue
            shape = self._shape(candle)
            if shape.indicators and (verdict := _indicator_fault(candle, shape.indicators)) is not None:
                batch.refuse(index, *verdict)
                continue
            document = candle.copy() if shape.is_exact else {n: candle[n] for n in (*FIELDS, *shape.indicators)}
            document["queue_id"] = self._queue_id
            documents.append(document)
            origins.append(batch.origins[index])
        return batch.derived(documents, origins)

    def _shape(self, candle: Document) -> "_Shape":
        """What is known of the candle's fields, found once for all candles of the same ones."""
        names = tuple(candle)
        known = self._shapes.get(names)
        if known is None:
            if len(self._shapes) >= 1000:  # a stream whose every record has other fields: bound the memory
                self._shapes.clear()
            indicators = tuple(name for name in names if INDICATOR.fullmatch(name))
            known = self._shapes[names] = _Shape(indicators, len(names) == len(FIELDS) + len(indicators))
        return known

    def _mismatch(self, candle: Document) -> Verdict | None:
        if self._symbol and candle["symbol"] != self._symbol:
            return "wrong-symbol", f"symbol {candle['symbol']!r:.40}, the workflow's is {self._symbol!r}"
        if self._interval is not None and candle["interval"] != self._interval:
            return "inconsistent", f"interval {candle['interval']!r:.40}, the workflow's is {self._interval!r}"
        if not self._start_ms <= candle["open_time"] < self._end_ms:
            return "out-of-range", f"open time {candle['open_time']} ms lies outside of {self._time_range}"
        return None


def _indicator_fault(candle: Document, indicators: tuple[str, ...]) -> Verdict | None:
    for name in indicators:
        value = candle[name]
        if value is not None and (type(value) not in (float, int) or not math.isfinite(value)):
            return "wrong-schema", f"{name} is neither null nor a finite number: {value!r:.80}"
    return None
