"""Workflows: submit, list, show, stop, retry, delete."""

import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from queue_manager import decisions, view
from queue_manager.api.acceptance import accept, preview
from queue_manager.api.answers import WorkflowAnswer, WorkflowList, answer, answers
from queue_manager.api.bodies import read_json
from queue_manager.api.failures import BoundedRoute
from queue_manager.api.parts import Given, Parts
from queue_manager.api.queries import (
    DeleteParameters,
    IdempotencyKey,
    ListParameters,
    None_,
    QueueId,
    RetryParameters,
    StopParameters,
    SubmitParameters,
    read_cursor,
    write_cursor,
)
from queue_manager.model import StepSpec, WorkflowDocument
from queue_manager.problems import Problem
from queue_manager.request import WorkflowRequest
from queue_manager.store.interface import Filter

router = APIRouter(prefix="/api/v1/workflows", tags=["workflows"], route_class=BoundedRoute)

_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": WorkflowRequest.model_json_schema()}}}
}


@router.post(
    "", status_code=202, responses=answers(WorkflowAnswer, 400, 409, 413, 429, status=202), openapi_extra=_BODY
)
async def submit(
    request: Request, parts: Given, query: Annotated[SubmitParameters, Query()], idempotency_key: IdempotencyKey = None
) -> Response:
    """Start a workflow. Everything is checked before anything is created; with `dry_run` nothing is (200)."""
    body = await read_json(request)
    if query.dry_run:
        return answer(view.workflow(preview(parts, body)))
    document, is_former = await accept(parts, body, key=idempotency_key)
    headers = {"Location": f"/api/v1/workflows/{document.queue_id}"}
    if is_former:
        headers["Idempotency-Replayed"] = "true"
    return answer(view.workflow(document), 202, headers=headers)


@router.get("", responses=answers(WorkflowList))
async def show_all(parts: Given, query: Annotated[ListParameters, Query()]) -> Response:
    """Workflows, newest first."""
    wanted = Filter(
        state=query.state,
        target=query.target,
        symbol=query.symbol,
        type=query.type,
        since=query.since.timestamp() if query.since else None,
        until=query.until.timestamp() if query.until else None,
        q=query.q,
    )
    page = await parts.prepared_store().page(wanted, limit=query.limit, after=read_cursor(query.cursor))
    return answer({"items": [view.row(row) for row in page.rows], "next": write_cursor(page.next)})


@router.get("/{queue_id}", responses=answers(WorkflowAnswer, 404))
async def show(queue_id: QueueId, parts: Given, query: None_) -> Response:
    """A workflow with its steps, launches, counts, lag and reasons."""
    return answer(await shown(parts, await parts.workflow(queue_id)))


@router.post("/{queue_id}/stop", status_code=202, responses=answers(WorkflowAnswer, 404, 409, status=202))
async def stop(queue_id: QueueId, parts: Given, query: Annotated[StopParameters, Query()]) -> Response:
    """End a workflow before its time: gracefully, by force after its targets' grace."""
    now = time.time()
    document = await parts.change(queue_id, lambda d: decisions.ask_stop(d, drain=query.drain, now=now))
    return answer(await shown(parts, document), 202)


@router.post("/{queue_id}/retry", status_code=202, responses=answers(WorkflowAnswer, 404, 409, status=202))
async def retry(queue_id: QueueId, parts: Given, query: Annotated[RetryParameters, Query()]) -> Response:
    """A new attempt of every step that is not done, and of all that reads from one."""
    now = time.time()
    steps = _refreshed(parts, await parts.workflow(queue_id)) if query.refresh else None
    document = await parts.change(queue_id, lambda d: decisions.ask_retry(d, now=now, steps=steps))
    return answer(await shown(parts, document), 202)


@router.delete("/{queue_id}", status_code=202, responses=answers(WorkflowAnswer, 404, 409, status=202))
async def delete(queue_id: QueueId, parts: Given, query: Annotated[DeleteParameters, Query()]) -> Response:
    """Remove an ended workflow: Jobs, offsets, topics, then the workflow itself."""
    now = time.time()
    document = await parts.change(queue_id, lambda d: decisions.ask_delete(d, purge=query.purge, now=now))
    return answer(await shown(parts, document), 202)


async def shown(parts: Parts, document: WorkflowDocument) -> dict[str, object]:
    """The workflow as answers show it."""
    position = await parts.store.position(document) if document.is_waiting else None
    return view.workflow(document, position=position)


def _refreshed(parts: Parts, document: WorkflowDocument) -> tuple[StepSpec, ...]:
    """The steps as the request would be resolved now; its streams are made and must stay as they are."""
    resolved = parts.resolver.resolve(document.spec.request, now=datetime.now(UTC))
    now = {name: (stream.partitions, stream.schema_name) for name, stream in resolved.streams.items()}
    made = {name: (stream.partitions, stream.schema_name) for name, stream in document.spec.streams.items()}
    if now != made:
        raise Problem("conflict", "the targets have other streams now than when this began: start a new workflow")
    return resolved.steps
