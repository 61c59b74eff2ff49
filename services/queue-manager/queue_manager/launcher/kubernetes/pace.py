"""How fast Jobs are created: a leaky bucket, first come first served, that stands still when the server asks for it.

A burst of creates would fill the API server's queues for everybody; one that it has refused comes again by itself.
"""

import asyncio
import math

LONGEST_HOLD_S = 60.0
"""What a server may ask for at most: a wrong figure must not stop an installation."""


class Pace:
    """At most ``per_s`` turns a second."""

    def __init__(self, per_s: float) -> None:
        self._gap = 1 / per_s
        self._next = -math.inf
        self._held_until = -math.inf
        self._turns = asyncio.Lock()

    @property
    def held_s(self) -> float:
        """Seconds for which nothing may be sent; 0: it may."""
        return max(0.0, self._held_until - _now())

    def hold(self, seconds: float) -> None:
        """Nothing may be sent for so long."""
        self._held_until = max(self._held_until, _now() + min(seconds, LONGEST_HOLD_S))

    async def turn(self) -> None:
        """Wait for one's turn; who is cancelled meanwhile takes nothing from the others."""
        async with self._turns:
            now = _now()
            if self._next <= now:
                self._next = now + self._gap
                return
            await asyncio.sleep(self._next - now)
            self._next += self._gap  # not the time it is: a timer comes a little late


def _now() -> float:
    return asyncio.get_running_loop().time()
