"""Made-up candles: a random walk that is a pure function of seed, symbol, interval and time.

So every position gives the same candles as an uninterrupted run, without any memory: a block of 1,440 candles is a
Brownian bridge between two anchor prices, and both the steps and the anchors are drawn from generators seeded by name.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable
from typing import Any

from loader_candles.series import Series
from streamforge_utils.pipeline import Delivery, EndOfSource

_BLOCK = 1440
_LEVEL = 100.0
_SPREAD = 0.08  # an anchor lies between -8 % and +8 % of the level
_STEP = 0.0008  # largest step of a minute's logarithm


class SimulatedSource:
    """Bounded: the whole range at once. Live: a candle when its interval is over, or paced by the rate alone.

    Position: the next open time. ``clock`` gives seconds since the epoch.
    """

    name = "simulated"

    def __init__(
        self, series: Series, *, seed: int, is_real_time: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        self._series = series
        self._seed = seed
        self._waits = series.is_live and is_real_time
        self._clock = clock
        self._next = 0
        self._is_told = False
        self._block: tuple[int, list[dict[str, Any]]] = (-1, [])

    async def open(self, position: Any | None) -> None:
        """Live, at the start: from the candle of this moment on."""
        self._is_told = position is not None
        if position is not None:
            self._next = int(position["next"])
        elif self._series.is_live:
            self._next = self._series.aligned(self._now())
        else:
            self._next = self._series.first_ms

    async def read(self, max_records: int) -> Delivery:
        """The next candles of one block, all of them closed."""
        if self._series.is_live and not self._is_told:  # a restart must begin here, not at its own moment
            self._is_told = True
            return Delivery([], {"next": self._next})
        if self._next >= self._series.end_ms:
            raise EndOfSource
        interval, end = self._series.interval_ms, self._series.end_ms
        if self._waits:
            await asyncio.sleep(max(0, self._next + interval - self._now()) / 1000)
            # A sleep may end a little early: the candle waited for is closed anyway.
            end = max(self._next + interval, self._series.aligned(self._now()))
        number, index = divmod(self._next // interval, _BLOCK)
        count = min(max_records, _BLOCK - index, -((self._next - end) // interval))
        values = self._candles(number)[index : index + count]
        self._next += count * interval
        return Delivery(values, {"next": self._next})

    async def close(self) -> None:
        """Nothing is held."""

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _candles(self, number: int) -> list[dict[str, Any]]:
        if self._block[0] != number:
            self._block = (number, self._made(number))
        return self._block[1]

    def _generator(self, what: str) -> random.Random:
        return random.Random(f"{self._seed}/{self._series.symbol}/{self._series.interval}/{what}")  # noqa: S311

    def _anchor(self, number: int) -> float:
        return math.log(_LEVEL) + _SPREAD * (2 * self._generator(f"anchor {number}").random() - 1)

    def _made(self, number: int) -> list[dict[str, Any]]:
        # Only random() is used: its sequence is the same in every version of Python.
        draw = self._generator(f"block {number}").random
        walk = [0.0]
        for _ in range(_BLOCK):
            walk.append(walk[-1] + _STEP * (2 * draw() - 1))
        start, end = self._anchor(number), self._anchor(number + 1)
        slope = (end - start - walk[-1]) / _BLOCK
        prices = [round(math.exp(start + step + slope * index), 2) for index, step in enumerate(walk)]
        opened = number * _BLOCK * self._series.interval_ms
        return [
            self._candle(opened + index * self._series.interval_ms, prices[index], prices[index + 1], draw)
            for index in range(_BLOCK)
        ]

    def _candle(self, opened: int, first: float, last: float, draw: Callable[[], float]) -> dict[str, Any]:
        volume = round(1 + 20 * draw(), 5)
        taker = round(volume * draw(), 5)
        middle = (first + last) / 2
        return {
            "_key": str(opened),
            "symbol": self._series.symbol,
            "interval": self._series.interval,
            "open_time": opened,
            "close_time": opened + self._series.interval_ms - 1,
            "open": first,
            "high": round(max(first, last) * (1 + _STEP * draw()), 2),
            "low": round(min(first, last) * (1 - _STEP * draw()), 2),
            "close": last,
            "volume": volume,
            "quote_volume": round(volume * middle, 7),
            "trades": 1 + int(volume * 10),
            "taker_buy_volume": taker,
            "taker_buy_quote_volume": round(taker * middle, 7),
        }
