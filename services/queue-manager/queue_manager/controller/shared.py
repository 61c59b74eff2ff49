"""One call for all who ask at the same time, for questions whose answer must be younger than the question."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

R = TypeVar("R")
I = TypeVar("I")  # noqa: E741 - an item


class SharedCall(Generic[I, R]):
    """Gathers the items of callers while a call is under way; the next call takes all of them.

    So no caller gets the answer of a call that began before it asked.
    """

    def __init__(self, call: Callable[[Sequence[I]], Awaitable[R]]) -> None:
        self._call = call
        self._waiting: list[tuple[Sequence[I], asyncio.Future[R]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def __call__(self, items: Sequence[I] = ()) -> R:
        """The answer, or the error, of the call that took these items."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="shared-call")
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                await self._answer(taken)
        finally:
            self._runner = None
            for _, future in self._waiting:
                future.cancel()
            self._waiting = []

    async def _answer(self, taken: list[tuple[Sequence[I], asyncio.Future[R]]]) -> None:
        items = [item for some, _ in taken for item in some]
        try:
            answer = await self._call(items)
        except Exception as error:
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
        except BaseException:
            for _, future in taken:
                future.cancel()
            raise
        else:
            for _, future in taken:
                if not future.done():
                    future.set_result(answer)

    async def close(self) -> None:
        """End the call under way."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])


def is_told_to_end() -> bool:
    """Whether somebody cancelled this very task: a CancelledError may also come out of a library's own doings."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def never_cancelled(work: Coroutine[Any, Any, None]) -> None:
    """Do it; a cancellation that nobody asked for is a fault, where a TaskGroup would take the task for done."""
    try:
        await work
    except asyncio.CancelledError as error:
        if is_told_to_end():
            raise
        raise RuntimeError("it was cancelled by nobody") from error
