"""The output of a workflow's replicas, as long as the launcher has it: also after a Job has ended."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from queue_manager import view
from queue_manager.api.answers import LogItem, LogList, answer, answers
from queue_manager.api.failures import BoundedRoute
from queue_manager.api.parts import Away, Given, Parts
from queue_manager.api.queries import LogParameters, QueueId
from queue_manager.api.streams import admitted
from queue_manager.launcher.interface import LauncherUnavailable, LogLine
from queue_manager.model import WorkflowDocument
from queue_manager.params import Fault, unknown
from queue_manager.problems import invalid
from streamforge_utils import codec

router = APIRouter(prefix="/api/v1/workflows/{queue_id}/logs", tags=["workflows"], route_class=BoundedRoute)

MAX_LINES = 10_000
MAX_BYTES = 8 * 1024 * 1024
"""Of one answer; older lines are left out and `truncated` says so. A stream has no such bound."""
_AHEAD = 1_000  # lines a stream holds for a slow reader


@router.get("", responses=answers(LogList, 404, 429))
async def logs(queue_id: QueueId, parts: Given, query: Annotated[LogParameters, Query()]) -> Response:
    """Lines of all or the named replicas; with `follow` a stream of JSON objects, one a line (application/x-ndjson)."""
    document = await parts.workflow(queue_id)
    steps = [step.name for step in document.spec.steps]
    if query.step is not None and query.step not in steps:
        raise invalid([Fault("/query/step", unknown("step", query.step, steps))])
    if query.follow:
        chunks = admitted(parts, _followed(parts, document, query))
        return StreamingResponse(chunks, headers={"Cache-Control": "no-store"}, media_type="application/x-ndjson")
    lines, is_truncated = await _collected(parts, _jobs(document, query), query)
    return answer({"items": [_item(line) for line in lines], "next": None, "truncated": is_truncated})


def _jobs(document: WorkflowDocument, query: LogParameters) -> list[str]:
    return [
        launch.job
        for step in document.spec.steps
        if query.step in (None, step.name)
        for launch in document.step(step.name).launches
        if query.launch in (None, launch.number)
    ]


def _lines(parts: Parts, job: str, query: LogParameters, *, follow: bool) -> AsyncIterator[LogLine]:
    since = query.since.timestamp() if query.since else None
    return parts.launcher.logs(job, ordinal=query.replica, since=since, tail=query.tail, follow=follow)


async def _collected(parts: Parts, jobs: Sequence[str], query: LogParameters) -> tuple[list[LogLine], bool]:
    kept: deque[LogLine] = deque()
    size, is_truncated = 0, False
    for job in jobs:
        async for line in _lines(parts, job, query, follow=False):
            kept.append(line)
            size += len(line.line)
            while len(kept) > MAX_LINES or size > MAX_BYTES:
                size -= len(kept.popleft().line)
                is_truncated = True
    return sorted(kept, key=lambda line: line.ts), is_truncated


async def _followed(parts: Parts, document: WorkflowDocument, query: LogParameters) -> AsyncIterator[bytes]:
    """Lines of all launches, of later ones too, until the workflow has ended and all of them are told."""
    queue: asyncio.Queue[LogLine] = asyncio.Queue(_AHEAD)
    readers: dict[str, asyncio.Task[None]] = {}

    async def read(job: str) -> None:
        with contextlib.suppress(LauncherUnavailable):
            async for line in _lines(parts, job, query, follow=True):
                await queue.put(line)

    try:
        while True:
            for job in _jobs(document, query):
                if job not in readers:
                    readers[job] = asyncio.create_task(read(job), name=f"logs-{job}")
            while not queue.empty():
                yield codec.encode(_item(queue.get_nowait())) + b"\n"
            is_told = all(reader.done() for reader in readers.values()) and queue.empty()
            if (document.is_ended and is_told) or not await parts.pause(parts.settings.poll_s):
                return
            with contextlib.suppress(*Away):
                current = await parts.store.get(document.queue_id)
                if current is None:
                    return
                document = current
    finally:
        for reader in readers.values():
            reader.cancel()
        await asyncio.gather(*readers.values(), return_exceptions=True)


def _item(line: LogLine) -> dict[str, object]:
    return LogItem(
        ts=view.iso(line.ts) or "", step=line.step, replica=line.replica, launch=line.launch, line=line.line
    ).model_dump()
