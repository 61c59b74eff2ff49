"""Dead letters: shown, and sent back to their streams.

Kafka has the truth of what was sent back, the document of what was asked for because of it. They are two writes: a call
that is cut off between them is completed by the next one, which finds more sent than asked for.
"""

import base64
import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.responses import Response

from queue_manager import decisions, view
from queue_manager.api.answers import DeadLetterList, RedriveAnswer, RedriveRequest, answer, answers
from queue_manager.api.bodies import read_json
from queue_manager.api.failures import BoundedRoute
from queue_manager.api.parts import Given
from queue_manager.api.queries import DeadLetterParameters, None_, QueueId
from queue_manager.model import WorkflowDocument
from queue_manager.params import Fault, pointer
from queue_manager.problems import invalid
from streamforge_utils.kafka.dead_letters import Kept

router = APIRouter(prefix="/api/v1/workflows/{queue_id}/dead-letters", tags=["dead letters"], route_class=BoundedRoute)

_BODY = {
    "requestBody": {"required": False, "content": {"application/json": {"schema": RedriveRequest.model_json_schema()}}}
}


@router.get("", responses=answers(DeadLetterList, 404))
async def show_all(queue_id: QueueId, parts: Given, query: Annotated[DeadLetterParameters, Query()]) -> Response:
    """Records that were refused, oldest first, with the reason, where they came from, and whether they went back."""
    document = await parts.workflow(queue_id)
    after = int(query.cursor) if query.cursor is not None else -1
    found = await parts.dead_letters.read(document.spec.dead_letter_topic, after=after, limit=query.limit)
    following = str(found[-1].offset) if len(found) == query.limit else None
    return answer({"items": [_item(kept) for kept in found], "next": following})


@router.post(
    "/redrive", status_code=202, responses=answers(RedriveAnswer, 400, 404, 409, 413, status=202), openapi_extra=_BODY
)
async def redrive(request: Request, queue_id: QueueId, parts: Given, query: None_) -> Response:
    """Send all or the named dead letters back to their streams, each once; an ended workflow reads to the new end."""
    wanted = _read(await read_json(request, default={}))
    document = await parts.workflow(queue_id)
    _check(document)
    offsets = None if wanted.ids is None else [int(offset) for offset in wanted.ids]
    done = await parts.dead_letters.redrive(queue_id, document.spec.dead_letter_topic, offsets)
    now = time.time()
    await parts.change(queue_id, lambda d: _asked(d, done.totals, now=now))
    by_step: dict[str, int] = {}
    for step in done.sent.values():
        by_step[step] = by_step.get(step, 0) + 1
    skipped = {str(offset): why for offset, why in done.skipped.items()}
    return answer({"queue_id": queue_id, "redriven": by_step, "skipped": skipped}, 202)


def _read(body: Any) -> RedriveRequest:
    try:
        return RedriveRequest.model_validate(body)
    except ValidationError as error:
        faults = [Fault(pointer(*fault["loc"]), fault["msg"]) for fault in error.errors(include_url=False)]
        raise invalid(faults) from None


def _check(document: WorkflowDocument) -> None:
    """Refuse before a record is sent.

    Raises:
        NotAllowed: the workflow failed, was interrupted, or is to be deleted.
    """
    decisions.ask_redrive(document, step=document.spec.steps[0].name, records=0, now=0.0)


def _asked(document: WorkflowDocument, totals: Mapping[str, int], *, now: float) -> WorkflowDocument | None:
    changed = document
    for step in document.spec.steps:
        known = sum(asked.records for asked in document.spec.redrives if asked.step == step.name)
        if (more := totals.get(step.name, 0) - known) > 0:
            changed = decisions.ask_redrive(changed, step=step.name, records=more, now=now)
    return None if changed is document else changed


def _item(kept: Kept) -> dict[str, object]:
    letter = kept.letter
    try:
        key, value = (None if data is None else data.decode() for data in (letter.key, letter.value))
        encoding = "utf-8"
    except UnicodeDecodeError:
        key, value = (None if data is None else base64.b64encode(data).decode() for data in (letter.key, letter.value))
        encoding = "base64"
    return {
        "id": str(kept.offset),
        "at": view.iso(kept.at),
        "step": letter.step,
        "code": letter.code,
        "reason": letter.reason,
        "source": {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "position": letter.position,
        },
        "key": key,
        "value": value,
        "encoding": encoding,
        "redriven": kept.is_redriven,
    }
