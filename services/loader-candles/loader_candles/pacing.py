"""Holds a source to a rate, by small deliveries at even times."""

import asyncio
from typing import Any

from streamforge_utils.pipeline import Delivery, Source

_DELIVERIES_PER_S = 10


class PacedSource:
    """A source with at most ``rate`` records per second."""

    def __init__(self, source: Source, rate: float) -> None:
        self.name = source.name
        self._source = source
        self._rate = rate
        self._due = 0.0

    async def open(self, position: Any | None) -> None:
        """Opens the source."""
        await self._source.open(position)

    async def read(self, max_records: int) -> Delivery:
        """Waits until the records are due, then reads: what was read is never held back."""
        now = asyncio.get_running_loop().time
        if (wait := self._due - now()) > 0:
            await asyncio.sleep(wait)
        delivery = await self._source.read(min(max_records, max(1, int(self._rate / _DELIVERIES_PER_S))))
        self._due = max(self._due, now()) + len(delivery.values) / self._rate
        return delivery

    async def close(self) -> None:
        """Closes the source."""
        await self._source.close()
