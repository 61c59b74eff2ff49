"""Accepting a workflow: resolve, store in one write, answer. No message is sent here and nothing is launched.

The idempotency key is unique in the store, so the write itself decides a race of equal requests.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any

from queue_manager import decisions
from queue_manager.api.parts import Parts
from queue_manager.model import WorkflowDocument
from queue_manager.problems import Problem
from queue_manager.resolve import Invalid, Resolved
from queue_manager.store.interface import DuplicateId, DuplicateRequest
from streamforge_utils import codec
from streamforge_utils.contracts import names

MAX_DECISION = 900_000
"""Bytes of a message: below Kafka's default limit of a batch (message.max.bytes = 1,048,588)."""
TRIES = 8
"""Short ids to try: with a million workflows of one name one try in 2,000 is taken."""


async def accept(parts: Parts, body: Any, *, key: str | None) -> tuple[WorkflowDocument, bool]:
    """Store the workflow that a body asks for; also, whether it is a former one (same key, same body).

    Raises:
        Invalid: with all faults; nothing is stored.
        Problem: ``conflict`` (the key was used for another body), ``too-many``, ``too-large``.
        TransientError: the store is away; the same key may be tried again.
    """
    store = parts.prepared_store()
    digest = hashlib.sha256(codec.canonical(body)).hexdigest()
    try:
        resolved = parts.resolver.resolve(body, now=datetime.now(UTC))
        await parts.backlog.check()
    except (Invalid, Problem):
        # a repeated request gets its workflow, whatever has changed since: targets, the clock, how many wait
        if key is not None and (former := await store.find_request(key)) is not None:
            return _same(former, digest), True
        raise
    for _ in range(TRIES):
        queue_id = resolved.queue_id(names.short_id())
        document = decisions.accept(queue_id, _spec(parts, resolved, queue_id, body=body, digest=digest, key=key))
        _must_fit(document)
        try:
            stored = await store.insert(document)
        except DuplicateId:
            continue
        except DuplicateRequest as taken:
            return _same(taken.existing, digest), True
        _count(parts, stored)
        parts.controller.submitted(stored)
        return stored, False
    raise Problem("unavailable", "no free id was found; try again", headers={"Retry-After": "1"})


def preview(parts: Parts, body: Any) -> WorkflowDocument:
    """What would be created; nothing is stored.

    Raises:
        Invalid: with all faults.
        Problem: ``too-large``.
    """
    resolved = parts.resolver.resolve(body, now=datetime.now(UTC))
    queue_id = resolved.queue_id(names.short_id())
    document = decisions.accept(queue_id, _spec(parts, resolved, queue_id, body=body, digest="", key=None))
    _must_fit(document)
    return document


def _must_fit(document: WorkflowDocument) -> None:
    """What is accepted is told on queue-events, whose messages have a limit."""
    size = max(len(decision.to_json()) for decision in document.outbox)
    if size > MAX_DECISION:
        raise Problem(
            "too-large", f"the workflow as it is resolved has {size} bytes, at most {MAX_DECISION} can be told"
        )


def _spec(parts: Parts, resolved: Resolved, queue_id: str, *, body: Any, digest: str, key: str | None) -> Any:
    return resolved.spec(
        queue_id,
        installation=parts.installation or "",
        topic_prefix=parts.settings.topic_prefix,
        request=body,
        request_digest=digest,
        idempotency_key=key,
    )


def _same(former: WorkflowDocument, digest: str) -> WorkflowDocument:
    if former.spec.request_digest != digest:
        raise Problem(
            "conflict", f"this Idempotency-Key was used for another request ({former.queue_id}): take a new key"
        )
    return former


def _count(parts: Parts, document: WorkflowDocument) -> None:
    parts.backlog.added()
    parts.metrics.accepted.labels(document.spec.template or "").inc()
    for step in document.spec.steps:
        parts.metrics.steps.labels(step.target).inc()
