"""The launcher for one machine: a client of the local node over its unix socket (docs/reference/local-node.md).

One connection per call, so that nothing is left of a call that failed. It starts no process itself.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import structlog
from pydantic import TypeAdapter, ValidationError

from queue_manager.launcher.interface import (
    JobEvent,
    JobExists,
    JobRefused,
    JobSpec,
    JobStatus,
    LauncherUnavailable,
    LogLine,
    labels_of,
)
from queue_manager.launcher.output import last_lines

MAX_ANSWER_BYTES = 16_777_216
FIRST_RETRY_S = 0.05
LONGEST_RETRY_S = 2.0
CLOSE_S = 1.0

_STATUS = TypeAdapter(JobStatus)


class ProcessLauncher:
    """Runs Jobs as processes of the local node."""

    def __init__(self, socket: Path, *, timeout_s: float = 10.0) -> None:
        """A launcher for the node that listens on `socket`.

        Args:
            socket: Path of the node's unix socket.
            timeout_s: Seconds without a word after which the node counts as unavailable; more than its beat (5 s).
        """
        self._socket = socket
        self._timeout_s = timeout_s
        self._open: set[asyncio.StreamWriter] = set()
        self._log = structlog.get_logger(component="launcher")

    async def check(self) -> None:
        """See Launcher."""
        await self._call(call="get", name="health-probe")

    async def create(self, spec: JobSpec) -> JobStatus:
        """See Launcher."""
        return _status(await self._call(call="create", spec=_wire(spec)))

    async def get(self, name: str) -> JobStatus | None:
        """See Launcher."""
        found = (await self._call(call="get", name=name))["status"]
        return None if found is None else _status(found)

    async def list(self) -> Sequence[JobStatus]:
        """See Launcher."""
        return [_status(found) for found in (await self._call(call="list"))["jobs"]]

    async def delete(self, name: str, *, grace_s: float | None = None) -> None:
        """See Launcher."""
        await self._call(call="delete", name=name, grace_s=grace_s)

    async def watch(self) -> AsyncIterator[JobEvent]:
        """See Launcher."""
        told: set[str] = set()
        delay = FIRST_RETRY_S
        while True:
            listed: set[str] = set()
            try:
                async with aclosing(self._stream(call="watch")) as items:
                    async for item in items:
                        delay = FIRST_RETRY_S
                        if "synced" in item:
                            for name in sorted(told - listed):
                                yield JobEvent(name=name, status=None)
                            told = listed
                            yield JobEvent(name="", status=None, synced=True)
                            continue
                        event = _event(item)
                        (listed.discard if event.status is None else listed.add)(event.name)
                        yield event
            except LauncherUnavailable as error:
                if delay == FIRST_RETRY_S:  # once for each loss
                    self._log.warning("watch_lost", reason=str(error))
            told |= listed  # what was told before the list was complete is taken back if it is not on the next one
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY_S)

    async def logs(
        self,
        name: str,
        *,
        ordinal: int | None = None,
        since: float | None = None,
        tail: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogLine]:
        """See Launcher."""
        request = {"name": name, "ordinal": ordinal, "since": since, "tail": tail, "follow": follow}
        step, launch = "", 0
        async with aclosing(self._stream(call="logs", **request)) as items:
            async for item in items:
                if "labels" in item:
                    step, launch = item["labels"].get("step", ""), int(item["labels"].get("launch", 0))
                else:
                    yield LogLine(ts=item["ts"], step=step, replica=item["replica"], launch=launch, line=item["line"])

    async def close(self) -> None:
        """See Launcher."""
        for writer in list(self._open):
            writer.close()

    async def _call(self, **request: object) -> dict[str, Any]:
        async with self._connection(request) as reader:
            answer = await self._line(reader)
        result: dict[str, Any] = answer["result"]
        return result

    async def _stream(self, **request: object) -> AsyncGenerator[dict[str, Any]]:
        async with self._connection(request) as reader:
            while "end" not in (answer := await self._line(reader)):
                if "item" in answer:
                    yield answer["item"]

    @asynccontextmanager
    async def _connection(self, request: dict[str, object]) -> AsyncIterator[asyncio.StreamReader]:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket, limit=MAX_ANSWER_BYTES)
        except OSError as error:
            raise self._unavailable(error.strerror or str(error)) from error
        self._open.add(writer)
        try:
            writer.write(orjson.dumps(request) + b"\n")
            yield reader
        finally:
            self._open.discard(writer)
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):  # a frozen node takes nothing from a full buffer
                    await writer.wait_closed()

    async def _line(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await reader.readline()
        except TimeoutError as error:
            raise self._unavailable(f"no word for {self._timeout_s:g} s") from error
        except (OSError, ValueError) as error:
            raise self._unavailable(str(error)) from error
        if not line.endswith(b"\n"):
            raise self._unavailable("it closed the connection")
        try:
            answer: dict[str, Any] = orjson.loads(line)
        except ValueError as error:
            raise self._unavailable(f"its answer is no JSON: {error}") from error
        if "error" in answer:
            raise _fault(answer["error"])
        return answer

    def _unavailable(self, why: str) -> LauncherUnavailable:
        return LauncherUnavailable(f"the local node at {self._socket} does not answer ({why}); `make up` starts it")


def _wire(spec: JobSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "labels": spec.labels,
        "command": spec.command,
        "env": dict(spec.env),
        "secret_env": {name: value.get_secret_value() for name, value in spec.secret_env.items()},
        "replicas": spec.replicas,
        "backoff_limit": spec.backoff_limit,
        "grace_s": spec.grace_s,
        "cwd": spec.cwd,
    }


def _status(found: dict[str, Any]) -> JobStatus:
    try:
        status = _STATUS.validate_python(found)
    except ValidationError as error:
        raise LauncherUnavailable(
            f"the local node speaks another protocol: restart it with `make up` ({error})"
        ) from error
    said = [last_lines(ordinal.get("last_output", "")) for ordinal in found["ordinals"]]
    ordinals = (replace(ordinal, last_lines=lines) for ordinal, lines in zip(status.ordinals, said, strict=True))
    return replace(status, ordinals=tuple(ordinals), labels=labels_of(status.labels))


def _event(item: dict[str, Any]) -> JobEvent:
    return JobEvent(name=item["name"], status=None if item["status"] is None else _status(item["status"]))


def _fault(error: dict[str, Any]) -> Exception:
    if error["code"] == "exists":
        return JobExists(_status(error["status"]))
    if error["code"] == "unavailable":
        return LauncherUnavailable(error["message"])
    return JobRefused(error["code"], error["message"])
