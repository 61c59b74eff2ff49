"""Technical indicators, one value at a time: the arithmetic alone, in plain floats.

Warm-up and formulas are TA-Lib's (https://github.com/TA-Lib/ta-lib, src/ta_func/, default compatibility), to within
rounding; None is given until an indicator is defined. A formula's ``state`` goes through JSON without a change of a bit
(the shortest decimal texts of doubles read back as the same doubles), so a run may be cut anywhere.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

DAY_MS = 86_400_000


class SeededAverage:
    """Exponential moving average, seeded by the mean of its first n values; first defined at index n - 1."""

    __slots__ = ("_average", "_count", "_n", "_weight")

    def __init__(self, n: int, weight: float) -> None:
        self._n = n
        self._weight = weight
        self._count = 0
        self._average = 0.0  # until there are n values: their sum

    def update(self, value: float) -> float | None:
        """The average up to and with ``value``."""
        if self._count == self._n:
            self._average = (value - self._average) * self._weight + self._average
            return self._average
        self._count += 1
        self._average += value
        if self._count < self._n:
            return None
        self._average /= self._n
        return self._average

    def state(self) -> list[Any]:
        """JSON."""
        return [self._count, self._average]

    def restore(self, state: Sequence[Any]) -> None:
        """Takes what ``state`` gave."""
        self._count, self._average = state


def ema(n: int) -> SeededAverage:
    """EMA(n): a new value weighs ``2 / (n + 1)`` (ta_EMA.c)."""
    return SeededAverage(n, 2.0 / (n + 1))


def wilder(n: int) -> SeededAverage:
    """Wilder's smoothing, ``(previous * (n - 1) + value) / n``: a new value weighs ``1 / n``.

    J. W. Wilder, New Concepts in Technical Trading Systems (1978); as in ta_RSI.c and ta_ATR.c.
    """
    return SeededAverage(n, 1.0 / n)


class Rsi:
    """Relative strength index, ``100 * gain / (gain + loss)`` of Wilder's averages (ta_RSI.c); 0 if nothing moved.

    First defined at index n: n changes need n + 1 prices.
    """

    __slots__ = ("_gain", "_loss", "_previous")

    def __init__(self, n: int) -> None:
        self._previous: float | None = None
        self._gain = wilder(n)
        self._loss = wilder(n)

    def update(self, price: float) -> float | None:
        """The index up to and with ``price``, 0 to 100."""
        previous, self._previous = self._previous, price
        if previous is None:
            return None
        change = price - previous
        gain = self._gain.update(change if change > 0 else 0.0)
        loss = self._loss.update(-change if change < 0 else 0.0)
        if gain is None or loss is None:
            return None
        moved = gain + loss
        return 100.0 * (gain / moved) if moved else 0.0

    def state(self) -> list[Any]:
        """JSON."""
        return [self._previous, self._gain.state(), self._loss.state()]

    def restore(self, state: Sequence[Any]) -> None:
        """Takes what ``state`` gave."""
        self._previous, gain, loss = state
        self._gain.restore(gain)
        self._loss.restore(loss)


class Atr:
    """Average true range: Wilder's average of ``max(high, previous close) - min(low, previous close)`` (ta_ATR.c).

    The first bar has no previous close and no true range; first defined at index n.
    """

    __slots__ = ("_average", "_previous_close")

    def __init__(self, n: int) -> None:
        self._previous_close: float | None = None
        self._average = wilder(n)

    def update(self, high: float, low: float, close: float) -> float | None:
        """The average up to and with this bar."""
        previous, self._previous_close = self._previous_close, close
        if previous is None:
            return None
        return self._average.update((high if high > previous else previous) - (low if low < previous else previous))

    def state(self) -> list[Any]:
        """JSON."""
        return [self._previous_close, self._average.state()]

    def restore(self, state: Sequence[Any]) -> None:
        """Takes what ``state`` gave."""
        self._previous_close, average = state
        self._average.restore(average)


class Vwap:
    """Volume weighted average price of the UTC day: sum of ``(high + low + close) / 3 * volume`` over sum of volume.

    Begins anew at midnight UTC (https://chartschool.stockcharts.com, "Volume-Weighted Average Price (VWAP)"); None
    while nothing was traded.
    """

    __slots__ = ("_day", "_turnover", "_volume")

    def __init__(self) -> None:
        self._day = -1
        self._turnover = 0.0
        self._volume = 0.0

    def update(self, bar: tuple[float, float, float], volume: float, open_time: int) -> float | None:
        """The day's average up to and with the bar (high, low, close); ``open_time`` in ms since the epoch."""
        day = open_time // DAY_MS
        if day != self._day:
            self._day = day
            self._turnover = self._volume = 0.0
        high, low, close = bar
        self._turnover += (high + low + close) / 3.0 * volume
        self._volume += volume
        return self._turnover / self._volume if self._volume else None

    def state(self) -> list[Any]:
        """JSON."""
        return [self._day, self._turnover, self._volume]

    def restore(self, state: Sequence[Any]) -> None:
        """Takes what ``state`` gave."""
        self._day, self._turnover, self._volume = state


class Macd:
    """Moving average convergence divergence (ta_MACD.c): fast EMA - slow EMA, an EMA of that, and the difference.

    The seeds of the two EMAs end on the same price, index slow - 1, so the fast one leaves out the first slow - fast
    prices. The signal's seed is the mean of the first ``signal`` values: defined from index slow + signal - 2.
    """

    __slots__ = ("_fast", "_signal", "_skipped", "_slow", "_to_skip")

    def __init__(self, fast: int, slow: int, signal: int) -> None:
        fast, slow = min(fast, slow), max(fast, slow)  # as TA-Lib does
        self._fast = ema(fast)
        self._slow = ema(slow)
        self._signal = ema(signal)
        self._to_skip = slow - fast
        self._skipped = 0

    def update(self, price: float) -> tuple[float | None, float | None, float | None]:
        """The line, its signal and their difference (the histogram), up to and with ``price``."""
        slow = self._slow.update(price)
        if self._skipped < self._to_skip:
            self._skipped += 1
            return None, None, None
        fast = self._fast.update(price)
        if slow is None or fast is None:
            return None, None, None
        line = fast - slow
        signal = self._signal.update(line)
        return line, signal, None if signal is None else line - signal

    def state(self) -> list[Any]:
        """JSON."""
        return [self._skipped, self._fast.state(), self._slow.state(), self._signal.state()]

    def restore(self, state: Sequence[Any]) -> None:
        """Takes what ``state`` gave."""
        self._skipped, fast, slow, signal = state
        self._fast.restore(fast)
        self._slow.restore(slow)
        self._signal.restore(signal)


class Bollinger:
    """Bollinger bands: mean of the last n prices, and ``width`` population standard deviations around it (ta_BBANDS.c).

    Computed from the whole window each time, with correctly rounded sums: no drift, and the same bits wherever a run
    is cut. First defined at index n - 1.
    """

    __slots__ = ("_n", "_width", "_window")

    def __init__(self, n: int, width: float) -> None:
        self._n = n
        self._width = width
        self._window: deque[float] = deque(maxlen=n)

    def update(self, price: float) -> tuple[float | None, float | None, float | None]:
        """Upper band, middle and lower band up to and with ``price``."""
        window = self._window
        window.append(price)
        n = self._n
        if len(window) < n:
            return None, None, None
        mean = math.fsum(window) / n
        offset = self._width * math.sqrt(math.fsum([(value - mean) ** 2 for value in window]) / n)
        return mean + offset, mean, mean - offset

    def state(self) -> list[Any]:
        """JSON."""
        return list(self._window)

    def restore(self, state: Sequence[Any]) -> None:
        """Takes what ``state`` gave."""
        self._window.clear()
        self._window.extend(state)
