"""The output of one pod's container as the API server gives it: connections, time stamps, lines of any length."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterError
from queue_manager.launcher.kubernetes.objects import seconds

SILENCE_S = 60.0
"""A followed log that says nothing for so long is asked for again."""
MAX_LINE = 64 * 1024
"""Bytes of a line; what is longer is cut, and says so."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end. ``ts``: when the node's runtime took it, in epoch seconds."""

    ts: float
    text: str


@asynccontextmanager
async def opened_log(
    api: ClusterApi,
    pod: str,
    container: str,
    *,
    behind: float | None = None,
    tail: int | None = None,
    follow: bool = False,
) -> AsyncIterator[AsyncIterator[Line]]:
    """The lines of a container; entered when the server has begun to answer.

    Args:
        api: The cluster.
        pod: Name of the pod.
        container: Its container.
        behind: Only lines later than this.
        tail: Only so many last ones.
        follow: Until the container ends; the connection may end before.

    Raises:
        ClusterError: 404: pod or log are gone; 400: the container has not started; ClusterAway: the connection broke.
    """
    query = {"container": container, "timestamps": True, "follow": follow or None, "tailLines": tail}
    if behind is not None:
        # the server counts in whole seconds
        query["sinceTime"] = datetime.fromtimestamp(int(behind), UTC).isoformat().replace("+00:00", "Z")
    path = f"/api/v1/namespaces/{api.namespace}/pods/{pod}/log"
    async with api.opened(path, silence_s=SILENCE_S, **query) as pieces:
        yield _later(_stamped(pieces), behind)


async def _later(lines: AsyncGenerator[Line], behind: float | None) -> AsyncGenerator[Line]:
    async with aclosing(lines):
        async for line in lines:
            if behind is None or line.ts > behind:
                yield line


async def _stamped(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Line]:
    async with aclosing(split(pieces)) as lines:
        async for raw in lines:
            stamp, _, text = raw.partition(" ")
            try:
                at = stamp_seconds(stamp)
            except ValueError as error:
                # a kubelet that has no file any more says so in the log's place, with 200
                raise ClusterError(404, "NoLog", raw) from error
            yield Line(at, text)


async def split(pieces: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """Lines, of which no more than ``MAX_LINE`` bytes are held; the last one may have no end."""
    line, more = bytearray(), 0
    async for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            more += _take(line, part)
            yield _text(line, more)
            line, more = bytearray(), 0
        more += _take(line, rest)
    if line:
        yield _text(line, more)


def _take(line: bytearray, part: bytes) -> int:
    """Add what there is room for; how many bytes there was none for."""
    room = MAX_LINE - len(line)
    line += part[:room]
    return max(0, len(part) - room)


def _text(line: bytearray, more: int) -> str:
    text = line.decode(errors="replace").rstrip("\r")
    return f"{text} [{more} bytes more]" if more else text


def stamp_seconds(stamp: str) -> float:
    """Epoch seconds of RFC 3339 with nanoseconds, which are more than a time of Python's has; raises ValueError."""
    whole, dot, rest = stamp.partition(".")
    if not dot:
        return seconds(stamp)
    digits = rest.rstrip("Z")
    if not digits.isdecimal():
        raise ValueError(f"{stamp!r} is no time")
    return seconds(f"{whole}Z") + float(f"0.{digits}")
