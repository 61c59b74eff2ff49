"""Which workflows are to be looked at: each key at most once in the queue, and never by two workers at once.

In two rows: a key that was put off lets others pass. What has happened is told before anything is begun, so a thousand
Jobs that wait to be created hold up no news of those that run.
"""

import asyncio
from collections import deque

PASSED_BY = 8
"""So many may pass one that was put off: a flood of news must not keep everything else from beginning."""


class WorkQueue:
    """A key that is added while it is worked on comes again afterwards."""

    def __init__(self) -> None:
        self._ready: deque[str] = deque()
        self._queued: set[str] = set()
        self._put_off: dict[str, None] = {}
        self._passed = 0
        self._in_work: dict[str, float] = {}
        self._again: set[str] = set()
        self._again_last: set[str] = set()
        self._has_waited: set[str] = set()
        """Keys in work that had been put off."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._filled = asyncio.Event()

    def is_due(self, key: str) -> bool:
        """Whether a key that is worked on has let others pass, or there are none."""
        return key in self._has_waited or not (self._ready or self._put_off)

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
            self._put_off.pop(key, None)
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

    def put_off(self, key: str) -> None:
        """Look once more at a key that is worked on, when others have passed."""
        self._again_last.add(key)

    async def take(self) -> str:
        """The next key; ``done`` has to follow."""
        while not (self._ready or self._put_off):
            self._filled.clear()
            await self._filled.wait()
        if self._ready and not (self._put_off and self._passed >= PASSED_BY):
            key = self._ready.popleft()
            self._queued.discard(key)
            self._passed += bool(self._put_off)
        else:
            key = next(iter(self._put_off))
            del self._put_off[key]
            self._has_waited.add(key)
            self._passed = 0
        self._in_work[key] = asyncio.get_running_loop().time()
        return key

    def done(self, key: str) -> None:
        """The work on a key is over."""
        self._in_work.pop(key, None)
        self._has_waited.discard(key)
        if key in self._again:
            self.add(key)
        elif key in self._again_last:
            self._put_off[key] = None
            self._filled.set()
        self._again.discard(key)
        self._again_last.discard(key)

    def clear(self) -> None:
        """Forget everything that waits."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._ready.clear()
        self._queued.clear()
        self._put_off.clear()
        self._again.clear()
        self._again_last.clear()

    def _forget_timer(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
