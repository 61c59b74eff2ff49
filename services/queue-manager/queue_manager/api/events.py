"""A workflow's history, and its live stream as server-sent events.

The stream is read from the store alone, so any replica can go on where another stopped: an id is the place of a message
in queue-events, ``<partition>-<offset>``. Progress is no history; it comes as ``workflow`` messages without an id, the
workflow as it is, whenever it has changed (https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from queue_manager import view
from queue_manager.api.answers import HistoryList, answer, answers
from queue_manager.api.failures import BoundedRoute
from queue_manager.api.parts import Away, Given, Parts
from queue_manager.api.queries import HistoryParameters, LastEventId, QueueId
from queue_manager.api.streams import admitted
from queue_manager.model import WorkflowDocument
from queue_manager.store.interface import MAX_PAGE, HistoryEntry
from streamforge_utils import codec
from streamforge_utils.contracts.events import DecisionName

router = APIRouter(prefix="/api/v1/workflows/{queue_id}/events", tags=["workflows"], route_class=BoundedRoute)

STREAM = "text/event-stream"
_KEEP_ALIVE = b": \n\n"


@router.get("", responses=answers(HistoryList, 404, 429))
async def events(
    request: Request,
    *,
    queue_id: QueueId,
    parts: Given,
    query: Annotated[HistoryParameters, Query()],
    last_event_id: LastEventId = None,
) -> Response:
    """What workers said and the queue-manager decided, oldest first; as a live stream with `Accept: text/event-stream`.

    A stream ends with the workflow; who comes again with the last id then gets 204, which ends an EventSource.
    """
    document = await parts.workflow(queue_id)
    if STREAM not in request.headers.get("accept", ""):
        return await _page(parts, queue_id, query)
    after = last_event_id or query.cursor
    if after is not None and document.is_ended and not await parts.store.history(queue_id, limit=1, after=after):
        return Response(status_code=204)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    body = admitted(parts, _stream(parts, document, after))
    return StreamingResponse(body, headers=headers, media_type=STREAM)


async def _page(parts: Parts, queue_id: str, query: HistoryParameters) -> Response:
    entries = await parts.store.history(queue_id, limit=query.limit, after=query.cursor)
    items = [{"id": entry.key, "at": view.iso(entry.at), "message": entry.message} for entry in entries]
    return answer({"items": items, "next": entries[-1].key if len(entries) == query.limit else None})


async def _stream(parts: Parts, document: WorkflowDocument, after: str | None) -> AsyncIterator[bytes]:
    shown_rev: str | None = None
    last_end: int | None = None
    said_at = time.monotonic()
    yield b"retry: 2000\n\n"
    while True:
        try:
            current = await parts.store.get(document.queue_id)
            entries = await parts.store.history(document.queue_id, limit=MAX_PAGE, after=after)
        except Away:
            current, entries = document, []  # the store comes back; the client need not know
        if current is None:
            yield _message("deleted", b"{}")
            return
        document = current
        chunks = [_message(_kind(entry), codec.encode(entry.message), entry.key) for entry in entries]
        after = entries[-1].key if entries else after
        if document.rev != shown_rev:
            shown_rev = document.rev
            chunks.append(_message("workflow", codec.encode(view.workflow(document))))
        if not chunks and time.monotonic() - said_at >= parts.settings.keep_alive_s:
            chunks.append(_KEEP_ALIVE)
        if chunks:
            said_at = time.monotonic()
            yield b"".join(chunks)
        # remembered, for the end may be on the page before the document shows it
        last_end = next((end for entry in reversed(entries) if (end := _ended_attempt(entry)) is not None), last_end)
        if document.is_ended and last_end == document.status.attempt and len(entries) < MAX_PAGE:
            return
        if len(entries) < MAX_PAGE and not await parts.pause(parts.settings.poll_s):
            return


def _kind(entry: HistoryEntry) -> str:
    return str(entry.message.get("decision") or entry.message.get("event") or "message")


def _ended_attempt(entry: HistoryEntry) -> int | None:
    """The attempt whose end this is, for the workflow; a retry would begin another one."""
    message = entry.message
    payload = message.get("payload", {})
    if message.get("decision") != DecisionName.ENDED or payload.get("step") is not None:
        return None
    attempt: int | None = payload.get("attempt")
    return attempt


def _message(kind: str, data: bytes, key: str | None = None) -> bytes:
    head = f"event: {kind}\n" + (f"id: {key}\n" if key else "")
    return head.encode() + b"data: " + data + b"\n\n"
