"""Threads that the end of the interpreter does not wait for."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

R = TypeVar("R")
_Call = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreads:
    """Up to ``count`` threads for calls that block.

    Not a ThreadPoolExecutor: the interpreter's exit joins that one's threads, so a server that takes a request and does
    not answer would keep a process that has said its last word until the request's time limit.
    """

    def __init__(self, count: int, *, name: str) -> None:
        self._count = count
        self._name = name
        self._started = 0
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()

    def submit(self, call: Callable[[], R]) -> "Future[R]":
        """Have the call done by a thread. Not to be called from several threads, nor after ``close``."""
        future: Future[R] = Future()
        self._calls.put((future, call))
        if self._started < self._count:
            self._started += 1
            name = f"{self._name}_{self._started}"
            threading.Thread(target=_serve, args=(self._calls,), name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Cancel what waits and let the threads go; a call under way ends by itself and is not waited for."""
        while True:
            try:
                waiting = self._calls.get_nowait()
            except Empty:
                break
            if waiting is not None:
                waiting[0].cancel()
        for _ in range(self._started):
            self._calls.put(None)


def _serve(calls: "SimpleQueue[_Call | None]") -> None:
    while (waiting := calls.get()) is not None:
        _settle(*waiting)
        del waiting  # an idle thread keeps no answer


def _settle(future: "Future[Any]", call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
