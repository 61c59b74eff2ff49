"""Candles as they close, from the exchange's kline stream; whatever the stream left out comes from the REST interface.

"Web Socket Streams" in https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams: a connection is
ended after 24 hours, the server's pings are answered by the driver.
"""

import asyncio
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException

from loader_candles import addresses, klines
from loader_candles.exchange import MAX_PAGE, Exchange
from loader_candles.series import FOREVER, Series
from loader_candles.web_client import PASSING
from streamforge_utils import codec
from streamforge_utils.errors import ConfigurationError, NotConnected, PermanentError, shown
from streamforge_utils.pipeline import Delivery

PATIENCE_S = 10.0
"""How long after its end a candle may come by the stream, before the REST interface is asked for it."""
_CLOSE_TIMEOUT_S = 1.0  # with unread messages in the way the exchange's farewell is never seen
_GARBLED_WAIT_S = 5.0  # the exchange allows 300 connections in five minutes


class Report(Protocol):
    """Says something about the run."""

    def __call__(self, message: str, **payload: Any) -> None:
        """At most one a second goes out."""


class LiveSource:
    """Position: the next open time. Every candle once and in order, across disconnects and restarts.

    The stream is connected before the REST interface is asked for what lies behind the position, so nothing falls
    between the two; what both have is taken from the one that comes first.
    """

    name = "binance-ws"

    def __init__(
        self,
        exchange: Exchange,
        url: str,
        series: Series,
        *,
        timeout_s: float,
        report: Report,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._exchange = exchange
        self._url = f"{url}/ws/{series.symbol.lower()}@kline_{series.interval}"
        self._series = series
        self._timeout_s = timeout_s
        self._report = report
        self._patience_s = patience_s
        self._stream: ClientConnection | None = None
        self._next = 0
        self._is_told = False
        self._gap_end: int | None = None
        """Up to where the REST interface has to be asked; None: nothing is missing."""
        self._held: dict[str, Any] | None = None
        """A candle of the stream that waits for those before it."""
        self._garbled = 0

    async def open(self, position: Any | None) -> None:
        """Connects to both. At the start: from the candle of this moment on.

        Raises:
            NotConnected: one of them is away.
            ConfigurationError: an address that can never work.
        """
        await self.close()
        await self._exchange.open()
        self._is_told = position is not None
        self._next = int(position["next"]) if position else self._series.aligned(self._exchange.now_ms())
        self._gap_end, self._held = FOREVER, None
        await addresses.check(self._url)
        try:
            self._stream = await connect(self._url, open_timeout=self._timeout_s, close_timeout=_CLOSE_TIMEOUT_S)
        except InvalidURI as error:
            raise ConfigurationError(f"{self._url}: {error}") from error
        except InvalidStatus as error:
            status = error.response.status_code
            if 300 <= status < 500 and status not in PASSING:
                raise ConfigurationError(f"{self._url}: status {status}, no stream is there") from error
            raise NotConnected(f"{self._url}: refused with status {status}", retry_after=60) from error
        except (OSError, WebSocketException) as error:
            raise NotConnected(f"{self._url} does not answer: {shown(error) or type(error).__name__}") from error
        if peer := self._stream.remote_address:
            addresses.refuse(self._url, str(peer[0]))

    async def read(self, max_records: int) -> Delivery:
        """The next closed candle, or a page of those that were missed.

        Raises:
            NotConnected: the stream has ended, or gave what is no event.
            TransientError: the REST interface is away; nothing is given before the gap is filled.
            ConfigurationError: an answer of the REST interface is not what it should be.
        """
        if not self._is_told:  # a restart must begin here, not at its own moment
            self._is_told = True
            return self._delivery([])
        while True:
            if self._gap_end is not None:
                page = await self._missed(self._gap_end, min(max_records, MAX_PAGE))
                if page:
                    return self._delivery(page)
            if self._held is not None:
                if wait_s := self._doubt_s(self._held):
                    await asyncio.sleep(wait_s)
                    self._gap_end = self._held["open_time"]
                    continue
                candle, self._held = self._held, None
                return self._delivery([candle])
            closed = await self._closed()
            if closed is None:
                self._gap_end = FOREVER
            elif closed["open_time"] == self._next:
                return self._delivery([closed])
            elif closed["open_time"] > self._next:
                self._gap_end, self._held = closed["open_time"], closed

    async def close(self) -> None:
        """Idempotent."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()
        await self._exchange.close()

    def _delivery(self, values: list[dict[str, Any]]) -> Delivery:
        if values:
            last, interval = values[-1]["open_time"], self._series.interval_ms
            if missing := (last - self._next) // interval + 1 - len(values):
                self._report(f"the exchange has no candle for {missing} intervals before {last}", missing=missing)
            self._next = last + interval
        return Delivery(values, {"next": self._next})

    def _doubt_s(self, held: dict[str, Any]) -> float:
        """How long to wait before asking again for what is missing before a candle; 0: there is nothing more."""
        is_late = self._exchange.now_ms() >= held["close_time"] + self._patience_s * 1000
        return 0 if is_late or held["open_time"] == self._next else self._patience_s

    async def _missed(self, end: int, limit: int) -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = []
        if self._next < end:
            page = await self._exchange.klines(self._next, end, limit=limit, are_closed=end != FOREVER)
        if len(page) < limit:
            self._gap_end = None
        return page

    async def _closed(self) -> dict[str, Any] | None:
        """The next closed candle of the stream; None when it should have come long ago."""
        end_s = (self._next + self._series.interval_ms - self._exchange.now_ms()) / 1000
        try:
            async with asyncio.timeout(max(end_s, 0) + self._patience_s):
                while True:
                    if (candle := self._candle(await self._received())) is not None:
                        return candle
        except TimeoutError:
            return None

    async def _received(self) -> str | bytes:
        if self._stream is None:
            raise NotConnected(f"{self._url}: not open")
        try:
            return await self._stream.recv()
        except WebSocketException as error:
            raise NotConnected(f"{self._url} was closed: {shown(error)}") from error

    def _candle(self, message: str | bytes) -> dict[str, Any] | None:
        """The record of a kline event that says that its candle is closed; None for all others."""
        try:
            event = codec.decode(message)
            event = event.get("data", event)  # combined streams wrap their events
            kline = event["k"] if event.get("e") == "kline" else {}
            if not kline.get("x"):
                return None
            return klines.candle_of_stream(kline, self._series)
        except (PermanentError, ValueError, KeyError, AttributeError) as error:
            raise self._unusable(f"not a kline event ({shown(error)}): {shown(message)}") from error

    def _unusable(self, what: str) -> NotConnected:
        """For a message of which a new connection may know better; what it held comes from the REST interface."""
        self._garbled += 1
        self._report(f"{self._url}: {what}; connecting again", garbled=self._garbled)
        return NotConnected(f"{self._url}: {what}", retry_after=_GARBLED_WAIT_S)
