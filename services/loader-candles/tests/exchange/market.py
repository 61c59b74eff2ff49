"""What the exchange knows: its clock and its klines."""

import time

from streamforge_utils.contracts.workflow_type import INTERVALS_MS


class Market:
    """Rows of klines as the exchange writes them; ``advance`` moves its clock, which else runs in real time."""

    def __init__(self, now_ms: int) -> None:
        self._start = now_ms - time.monotonic() * 1000
        self.rows: dict[tuple[str, str], list[list[str]]] = {}

    def monotonic(self) -> float:
        """A clock that runs with the market's."""
        return self.now_ms() / 1000

    def now_ms(self) -> int:
        return int(time.monotonic() * 1000 + self._start)

    def advance(self, milliseconds: int) -> None:
        self._start += milliseconds

    def klines(self, symbol: str, interval: str, start: int, end: int | None, limit: int) -> list[list[str | int]]:
        """As ``/api/v3/klines``: by open time, both ends included, the open candle too."""
        found = [
            row
            for row in self.rows[symbol, interval]
            if start <= int(row[0]) <= (end if end is not None else 2**63) and int(row[0]) <= self.now_ms()
        ]
        return [[int(row[0]), *row[1:6], int(row[6]), row[7], int(row[8]), *row[9:]] for row in found[:limit]]

    def event(self, symbol: str, interval: str, row: list[str], *, is_closed: bool) -> dict[str, object]:
        """A kline event of the stream."""
        names = ("o", "h", "l", "c", "v")
        kline = {"t": int(row[0]), "T": int(row[6]), "s": symbol, "i": interval, "f": 1, "L": 2, "n": int(row[8])}
        kline |= dict(zip(names, row[1:6], strict=True))
        kline |= {"q": row[7], "V": row[9], "Q": row[10], "B": "0", "x": is_closed}
        return {"e": "kline", "E": self.now_ms(), "s": symbol, "k": kline}


INTERVALS = frozenset(INTERVALS_MS)
