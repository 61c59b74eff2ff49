"""The exchange's REST interface, as far as candles need it: its clock, its klines, its limits.

"General API information", "Limits", "Market data endpoints" in
https://developers.binance.com/docs/binance-spot-api-docs/rest-api.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from loader_candles import klines
from loader_candles.candle_file import bad_input
from loader_candles.series import FOREVER, Series
from loader_candles.web_client import Answer, WebClient, whole_number
from streamforge_utils import codec
from streamforge_utils.errors import ConfigurationError, PermanentError, TransientError, shown

MAX_PAGE = 1000
"""Klines that one request gives at most."""
_SETTLE_MS = 1000  # a candle that closed less than this ago is not taken yet
_USED_WEIGHT = "x-mbx-used-weight-1m"
_WEIGHT = 2  # of one request for klines
_TRY_AGAIN = frozenset({-1000, -1001, -1003, -1006, -1007, -1008})
"""Error codes that say nothing about the request: unknown, disconnected, too many, timed out, overloaded."""


class Exchange:
    """Asks for klines; waits before a request that would use more weight per minute than ``budget``.

    ``clock`` gives seconds that only rise; the exchange's own time is counted on from its answer at ``open``.
    """

    def __init__(
        self, client: WebClient, series: Series, *, budget: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._series = series
        self._budget = budget
        self._clock = clock
        self._offset_ms = 0.0
        self._free_at = 0.0

    async def open(self) -> None:
        """Takes the exchange's time.

        Raises:
            TransientError: away.
            ConfigurationError: this is not the exchange's interface.
        """
        await self._client.open()
        told = await self._get("/api/v3/time", {})
        if not isinstance(told, dict) or not isinstance(told.get("serverTime"), int):
            raise bad_input(f"{self._client.base_url}/api/v3/time", None, f"tells no time: {shown(told)}")
        self._offset_ms = told["serverTime"] - self._clock() * 1000

    async def close(self) -> None:
        """Idempotent."""
        await self._client.close()

    def now_ms(self) -> int:
        """The exchange's time, never ahead of it."""
        return int(self._clock() * 1000 + self._offset_ms)

    async def klines(
        self, start_ms: int, end_ms: int = FOREVER, *, limit: int = MAX_PAGE, are_closed: bool = False
    ) -> list[dict[str, Any]]:
        """The first closed candles with ``start_ms <= open_time < end_ms``, in order, at most ``limit``.

        ``are_closed``: who asks knows that all of them are, so the clock is not asked.

        Raises:
            TransientError: away, overloaded or limited (``retry_after``).
            ConfigurationError: the exchange refuses the symbol, or its answer is not what it should be.
        """
        series = self._series
        params: dict[str, str | int] = {"symbol": series.symbol, "interval": series.interval, "startTime": start_ms}
        if end_ms != FOREVER:
            params["endTime"] = end_ms - 1
        params["limit"] = limit
        now_ms = self.now_ms()
        rows = await self._get("/api/v3/klines", params)
        candles = self._candles(rows, start_ms, end_ms)
        return [candle for candle in candles if are_closed or candle["close_time"] + _SETTLE_MS <= now_ms]

    def _candles(self, rows: Any, start_ms: int, end_ms: int) -> list[dict[str, Any]]:
        url = f"{self._client.base_url}/api/v3/klines"
        if not isinstance(rows, list):
            raise bad_input(url, None, f"a list of klines was expected: {shown(rows)}")
        candles: list[dict[str, Any]] = []
        least = start_ms
        for number, row in enumerate(rows, 1):
            try:
                candle = klines.candle(row[: len(klines.COLUMNS)], self._series)
            except (ValueError, TypeError) as error:
                raise bad_input(url, None, f"startTime {start_ms}, row {number}: {error}") from error
            if not least <= candle["open_time"] < end_ms:
                raise bad_input(url, None, f"startTime {start_ms}, row {number}: not in order or not asked for")
            least = candle["open_time"] + 1
            candles.append(candle)
        return candles

    async def _get(self, path: str, params: dict[str, str | int]) -> Any:
        await asyncio.sleep(max(0.0, self._free_at - self._clock()))
        answer = await self._client.get(path, params)
        self._note_weight(answer)
        try:
            told = codec.decode(answer.body)
        except PermanentError as error:
            told = None
            if answer.status == 200:
                raise bad_input(self._client.base_url + path, None, error.message) from error
        if answer.status != 200:
            raise self._refusal(path, answer.status, told)
        return told

    def _note_weight(self, answer: Answer) -> None:
        used = whole_number(answer.headers.get(_USED_WEIGHT, ""))
        if used is not None and used + _WEIGHT > self._budget:
            # The count starts anew with every minute of the exchange's clock.
            self._free_at = self._clock() + 60 - self.now_ms() / 1000 % 60

    def _refusal(self, path: str, status: int, told: Any) -> Exception:
        code, text = (told.get("code"), told.get("msg")) if isinstance(told, dict) else (None, None)
        url = self._client.base_url + path
        if code in _TRY_AGAIN:
            return TransientError(f"{url}: {shown(text)} ({code})")
        what = f"refuses {self._series.symbol} {self._series.interval}: {shown(text)} ({code})" if code else "no klines"
        return ConfigurationError(f"{url}: {what}, status {status}", code="bad-input")
