"""Requests at a steady pace, whatever each of them takes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

Send = Callable[[int, float], Awaitable[None]]
"""Sends request number n, whose turn was then (``perf_counter``): it counts from its turn, were no sender free."""


async def at_pace(count: int, rate: float, senders: Sequence[Send]) -> None:
    """``count`` requests, ``rate`` a second, each by a sender that is free."""
    began = time.perf_counter()
    numbers = iter(range(count))

    async def serve(send: Send) -> None:
        for number in numbers:
            turn = began + number / rate
            await asyncio.sleep(max(0.0, turn - time.perf_counter()))
            await send(number, turn)

    async with asyncio.TaskGroup() as tasks:
        for send in senders:
            tasks.create_task(serve(send))
