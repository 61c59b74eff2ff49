"""The one place that retries: as long as it takes, with backoff and jitter, telling who is waited for."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import stamina

from streamforge_utils.errors import FencedError, StreamForgeError, TransientError
from streamforge_utils.pipeline.ports import Observer

T = TypeVar("T")

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 10.0
SLOW_SECONDS = 5.0
"""A call of a library that tries again by itself and tells nobody is told as a wait after so long."""


def is_transient(error: Exception) -> bool:
    """Whether trying again can help."""
    return isinstance(error, TransientError) and not isinstance(error, FencedError)


def _decide(error: Exception) -> bool | float:
    if not is_transient(error):
        return False
    after = error.retry_after if isinstance(error, TransientError) else None
    return True if after is None else max(after, FIRST_WAIT_SECONDS)


async def until_done(call: Callable[[], Awaitable[T]], *, part: str, observer: Observer) -> T:
    """The result of ``call``, called again after every TransientError (after its ``retry_after``, if it names one).

    ``observer`` is told that ``part`` is waited for, and when it is there again. Every other error passes.
    """
    waiting = False
    async for attempt in stamina.retry_context(
        on=_decide,
        attempts=None,
        timeout=None,
        wait_initial=FIRST_WAIT_SECONDS,
        wait_max=LONGEST_WAIT_SECONDS,
        wait_jitter=FIRST_WAIT_SECONDS,
    ):
        with attempt:
            try:
                result = await call()
            except StreamForgeError as error:
                if is_transient(error):
                    waiting = True
                    observer.waiting(part, error.message)
                raise
    if waiting:
        observer.waiting(part, None)
    return result


@contextmanager
def told_when_slow(what: str, *, part: str, observer: Observer) -> Iterator[None]:
    """Tell ``observer`` that ``part`` is waited for when the block takes longer than ``SLOW_SECONDS``."""
    is_told = False

    def tell() -> None:
        nonlocal is_told
        is_told = True
        observer.waiting(part, f"{what} is not done after {SLOW_SECONDS:g} s")

    timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, tell)
    try:
        yield
    finally:
        timer.cancel()
    if is_told:
        observer.waiting(part, None)
