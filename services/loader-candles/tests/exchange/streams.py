"""The kline streams: raw (/ws/<stream>) connections, pings, disconnects."""

import asyncio
import json
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from .market import Market


class Streams:
    """Every connection gets every event of its stream; after ``events_per_connection`` of them it is closed."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self.events_per_connection: int | None = None
        self.connections = 0
        self._open: dict[ServerConnection, int] = {}

    async def serve(self, connection: ServerConnection) -> None:
        self.connections += 1
        assert connection.request is not None
        assert connection.request.path.startswith("/ws/"), connection.request.path
        self._open[connection] = 0
        try:
            await connection.wait_closed()
        finally:
            self._open.pop(connection, None)

    @property
    def listeners(self) -> int:
        return len(self._open)

    async def push(self, event: Any) -> None:
        for connection in list(self._open):
            try:
                await connection.send(event if isinstance(event, str | bytes) else json.dumps(event))
            except ConnectionClosed:
                continue
            self._open[connection] = self._open.get(connection, 0) + 1
            if self._open[connection] == self.events_per_connection:
                await self.disconnect()

    async def disconnect(self, code: int = 1001) -> None:
        """As after 24 hours."""
        await asyncio.gather(*(connection.close(code) for connection in list(self._open)))

    async def ping(self) -> None:
        """Waits for every connection's pong."""
        for connection in list(self._open):
            async with asyncio.timeout(5):
                await (await connection.ping())

    async def close_candle(self, symbol: str, interval: str, row: list[str], *, is_sent: bool = True) -> None:
        """The market reaches the end of a candle: some updates of it, then its last, closed one."""
        self._market.rows.setdefault((symbol, interval), []).append(row)
        self._market.advance(int(row[6]) + 1 - self._market.now_ms())
        if is_sent:
            await self.push(self._market.event(symbol, interval, row, is_closed=False))
            await self.push(self._market.event(symbol, interval, row, is_closed=True))
