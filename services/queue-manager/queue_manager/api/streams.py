"""Answers that go on for long: how many at once, and their end with the process."""

from collections.abc import AsyncIterator

from queue_manager.api.parts import Parts
from queue_manager.problems import Problem


def admitted(parts: Parts, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of a stream, if there is room for one more.

    Raises:
        Problem: ``too-many``.
    """
    if parts.open_streams >= parts.settings.max_streams:
        detail = f"{parts.settings.max_streams} streams are open already"
        raise Problem("too-many", detail, headers={"Retry-After": "10"})
    return _counted(parts, chunks)


async def _counted(parts: Parts, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    parts.open_streams += 1
    parts.metrics.streams.set(parts.open_streams)
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        parts.open_streams -= 1
        parts.metrics.streams.set(parts.open_streams)
