"""Ticks of a hybrid logical clock, and how ArangoDB writes them as `_rev`.

A tick is `milliseconds << 20 | counter`: unique and rising within one clock, also when the machine's clock goes back.
The text form is ArangoDB's `HybridLogicalClock` encoding: 6 bits per character, most significant first, leading zeros
cut; its order is not the alphabet's. Must never be shared between stores.
"""

from __future__ import annotations

import threading
import time
from typing import Final

_ALPHABET: Final = "-_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]


class Clock:
    """Hands out ticks to any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def take(self, count: int) -> int:
        """Returns the first of `count` consecutive ticks that nobody else gets."""
        with self._lock:
            first = max(time.time_ns() // 1_000_000 << 20, self._last + 1)
            self._last = first + count
            return first


def revision(tick: int) -> str:
    """Returns the `_rev` of a tick; 11 characters from 2005 to 2248."""
    pairs = _PAIRS
    return (
        _ALPHABET[tick >> 60 & 63]
        + pairs[tick >> 48 & 4095]
        + pairs[tick >> 36 & 4095]
        + pairs[tick >> 24 & 4095]
        + pairs[tick >> 12 & 4095]
        + pairs[tick & 4095]
    )
