"""Candles of a range from the exchange's REST interface, page by page."""

import asyncio
from typing import Any

from loader_candles.candle_file import bad_input
from loader_candles.exchange import Exchange
from loader_candles.series import Series
from streamforge_utils.pipeline import Delivery, EndOfSource

_POLL_SECONDS = 1.0


class RestSource:
    """Position: the next open time. Needs a series with an end; what is not closed yet is waited for."""

    name = "binance-rest"

    def __init__(self, exchange: Exchange, series: Series) -> None:
        self._exchange = exchange
        self._series = series
        self._next = series.first_ms
        self._page: list[dict[str, Any]] = []
        self._is_at_end = False

    async def open(self, position: Any | None) -> None:
        """Asks the exchange for its time."""
        self._page, self._is_at_end = [], False
        self._next = self._series.first_ms if position is None else int(position["next"])
        await self._exchange.open()

    async def read(self, max_records: int) -> Delivery:
        """The next candles; asks only when none of the last page are left."""
        while not self._page:
            if self._is_at_end or self._next >= self._series.end_ms:
                raise EndOfSource
            await self._turn_page()
        values, self._page = self._page[:max_records], self._page[max_records:]
        self._next = values[-1]["open_time"] + self._series.interval_ms
        return Delivery(values, {"next": self._next})

    async def close(self) -> None:
        """Idempotent."""
        await self._exchange.close()

    async def _turn_page(self) -> None:
        series = self._series
        # Taken before the request: what closes while it runs is asked for again.
        is_over = self._exchange.now_ms() >= series.end_ms + series.interval_ms
        self._page = await self._exchange.klines(self._next, series.end_ms)
        if self._page:
            return
        if not is_over:
            await asyncio.sleep(_POLL_SECONDS)
        elif self._next == series.first_ms:
            raise bad_input(f"{series.symbol} {series.interval}", None, "the exchange has no candles in the time range")
        else:
            self._is_at_end = True
