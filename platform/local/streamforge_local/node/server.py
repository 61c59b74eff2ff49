"""The node's face: a unix socket, one call per connection, one JSON object per line (docs/reference/local-node.md).

It translates between lines and the node, and decides nothing.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamforge_local.node.job import JobSpec
from streamforge_local.node.log import Tail
from streamforge_local.node.node import JobTakenError, Node, NodeFullError

LOG = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 4_194_304
REQUEST_TIMEOUT_S = 10.0
FOLLOW_POLL_S = 0.1

Reply = dict[str, Any]


class CallError(Exception):
    """A call that is answered with an error; `code` is for the program, the message for the person."""

    def __init__(self, code: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.reply: Reply = {"error": {"code": code, "message": message, **more}}


class _Named(BaseModel):
    model_config = ConfigDict(extra="ignore")
    name: str


class _Delete(_Named):
    grace_s: float | None = Field(default=None, ge=0)


class _Logs(_Named):
    ordinal: int | None = Field(default=None, ge=0)
    since: float | None = None
    tail: int | None = Field(default=None, ge=0)
    follow: bool = False


class Server:
    """Answers the connections to one node."""

    def __init__(self, node: Node, *, max_processes: int, beat_s: float) -> None:
        self._node = node
        self._max_processes = max_processes
        self._beat_s = beat_s
        self._open: set[asyncio.Task[None]] = set()
        self._calls: dict[str, Callable[[Reply], Reply]] = {
            "create": self._create,
            "get": self._get,
            "list": self._list,
            "delete": self._delete,
            "info": self._info,
        }
        self._streams: dict[str, Callable[[Reply], AsyncGenerator[Reply | None, None]]] = {
            "watch": self._watch,
            "logs": self._logs,
        }

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection: the callback of asyncio.start_unix_server."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, TimeoutError):
            pass  # the client is gone, or never said anything
        except Exception:
            LOG.exception("call failed")
        finally:
            self._open.discard(task)
            writer.close()

    async def close(self) -> None:
        """End the open calls."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                line = await reader.readline()
            if not line:
                return
            request = _parsed(line)
            call = str(request.get("call"))
            if call in self._streams:
                await self._stream(self._streams[call](request), writer)
            elif call in self._calls:
                await _send(writer, {"result": self._calls[call](request)})
            else:
                await _send(writer, CallError("bad-request", f"no such call: {call[:100]}").reply)
        except CallError as error:
            await _send(writer, error.reply)
        except ValidationError as error:
            await _send(writer, CallError("bad-request", _sentence(error)).reply)
        except ValueError:  # a line longer than the reader's limit
            await _send(writer, CallError("bad-request", f"a request has at most {MAX_REQUEST_BYTES} bytes").reply)

    async def _stream(self, items: AsyncGenerator[Reply | None, None], writer: asyncio.StreamWriter) -> None:
        """Send items as they come and, while none comes, a sign of life. None from the source means: nothing now."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        async with aclosing(items):
            async for item in items:
                if item is None and loop.time() - last < self._beat_s:
                    continue
                await _send(writer, {"beat": True} if item is None else {"item": item})
                last = loop.time()
        await _send(writer, {"end": True})

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _create(self, request: Reply) -> Reply:
        try:
            spec = JobSpec.model_validate(request.get("spec"))
        except ValidationError as error:
            raise CallError("invalid", _sentence(error)) from error
        if spec.replicas > self._max_processes:
            message = f"Job {spec.name} has {spec.replicas} replicas, this node runs {self._max_processes} processes"
            raise CallError("too-many-replicas", message)
        try:
            return self._node.create(spec).status()
        except JobTakenError as error:
            raise CallError("exists", str(error), status=error.job.status()) from error
        except NodeFullError as error:
            raise CallError("unavailable", str(error)) from error

    def _get(self, request: Reply) -> Reply:
        job = self._node.jobs.get(_Named.model_validate(request).name)
        return {"status": job.status() if job else None}

    def _list(self, _request: Reply) -> Reply:
        return {"jobs": [job.status() for job in self._node.jobs.values()]}

    def _delete(self, request: Reply) -> Reply:
        call = _Delete.model_validate(request)
        try:
            self._node.delete(call.name, call.grace_s)
        except NodeFullError as error:
            raise CallError("unavailable", str(error)) from error
        return {}

    def _info(self, _request: Reply) -> Reply:
        return {"warm_pid": self._node.warm_pid, "ready": self._node.ready.is_set(), "jobs": len(self._node.jobs)}

    async def _watch(self, _request: Reply) -> AsyncGenerator[Reply | None, None]:
        changed: dict[str, None] = dict.fromkeys(self._node.jobs)
        woken = asyncio.Event()

        def note(name: str) -> None:
            changed[name] = None  # once, however often it changes before it is sent
            woken.set()

        forget = self._node.listen(note)
        try:
            synced = False
            while True:
                while changed:
                    name = next(iter(changed))
                    del changed[name]
                    job = self._node.jobs.get(name)
                    yield {"name": name, "status": job.status() if job else None}
                if not synced:
                    synced = True
                    yield {"synced": True}
                woken.clear()
                if not await _within(self._beat_s, woken.wait()):
                    yield None
        finally:
            forget()

    async def _logs(self, request: Reply) -> AsyncGenerator[Reply | None, None]:
        call = _Logs.model_validate(request)
        job = self._node.jobs.get(call.name)
        if job is None:
            return
        yield {"labels": job.spec.labels}
        chosen = [o for o in job.ordinals if call.ordinal in (None, o.ordinal)]
        tails = {
            o.ordinal: Tail(self._node.logs.path(call.name, o.ordinal), fallback_ts=o.started_at or self._node.clock())
            for o in chosen
        }
        try:
            async with aclosing(self._lines(call, tails)) as lines:
                async for line in lines:
                    yield line
        finally:
            for tail in tails.values():
                tail.close()

    async def _lines(self, call: _Logs, tails: dict[int, Tail]) -> AsyncGenerator[Reply | None, None]:
        earlier = {ordinal for ordinal, tail in tails.items() if tail.open(last=call.tail)}
        now: float | None = None
        while True:
            # Asked before the reading: what was written before the last end is then read after it.
            over = self._is_over(call)
            for ordinal, tail in tails.items():
                if not tail.is_open and not tail.open():
                    continue
                while (lines := tail.read(now=now if ordinal in earlier else self._node.clock())) is not None:
                    for ts, text in lines:
                        if call.since is None or ts >= call.since:
                            yield {"ts": ts, "replica": ordinal, "line": text}
                    await asyncio.sleep(0)
                if over:
                    for ts, text in tail.rest():
                        yield {"ts": ts, "replica": ordinal, "line": text}
            if over:
                return
            now = self._node.clock()
            yield None
            await asyncio.sleep(FOLLOW_POLL_S)

    def _is_over(self, call: _Logs) -> bool:
        job = self._node.jobs.get(call.name)
        return not call.follow or job is None or (job.ended and job.live == 0)


def _parsed(line: bytes) -> Reply:
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise CallError("bad-request", f"a request is one JSON object on one line: {error}") from error
    if not isinstance(request, dict):
        raise CallError("bad-request", "a request is one JSON object on one line")
    return request


def _sentence(error: ValidationError) -> str:
    """All faults, by field, without the values: they may be secrets."""
    faults = (f"{'.'.join(str(part) for part in fault['loc']) or 'it'}: {fault['msg']}" for fault in error.errors())
    return "; ".join(faults)


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    writer.write(orjson.dumps(reply) + b"\n")
    await writer.drain()


async def _within(seconds: float, wait: Awaitable[object]) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wait
            return True
    return False
