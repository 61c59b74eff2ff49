"""Which workflows are to be looked at: each key at most once in the queue, and never by two workers at once."""

import asyncio
from collections import deque


class WorkQueue:
    """A key that is added while it is worked on comes again afterwards."""

    def __init__(self) -> None:
        self._ready: deque[str] = deque()
        self._queued: set[str] = set()
        self._in_work: dict[str, float] = {}
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def longest_s(self) -> float:
        """How long the longest work under way takes already."""
        return asyncio.get_running_loop().time() - min(self._in_work.values()) if self._in_work else 0.0

    def add(self, key: str) -> None:
        """Look at it as soon as a worker is free."""
        self._forget_timer(key)
        if key in self._in_work:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._filled.set()

    def add_later(self, key: str, seconds: float) -> None:
        """Look at it then, at the latest; an earlier time that was set stays."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if key in self._queued or (timer is not None and timer.when() <= loop.time() + seconds):
            return
        self._forget_timer(key)
        self._timers[key] = loop.call_later(seconds, self.add, key)

    async def take(self) -> str:
        """The next key; ``done`` has to follow."""
        while not self._ready:
            self._filled.clear()
            await self._filled.wait()
        key = self._ready.popleft()
        self._queued.discard(key)
        self._in_work[key] = asyncio.get_running_loop().time()
        return key

    def done(self, key: str) -> None:
        """The work on a key is over."""
        self._in_work.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def clear(self) -> None:
        """Forget everything that waits."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._ready.clear()
        self._queued.clear()
        self._again.clear()

    def _forget_timer(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
