"""A workflow as the API shows it (contract, section 8). Pure: document in, JSON out."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from queue_manager.model import Reason, StepSpec, StepStatus, WorkflowDocument
from streamforge_utils.contracts.reasons import REASONS, help_of

WAITING = Reason(code="queued", message=REASONS["queued"])


def workflow(document: WorkflowDocument, *, position: int | None = None) -> dict[str, Any]:
    """The whole workflow; ``position``: its place when it waits (``store.position``)."""
    spec, status = document.spec, document.status
    why = status.reason or _pending_reason(document)
    if why is None and document.is_waiting:
        why = waiting_reason(position)
    return {
        "queue_id": document.queue_id,
        "state": status.state,
        "reason": reason(why),
        "template": spec.template,
        "symbol": spec.symbol,
        "type": spec.type,
        "time_range": spec.time_range,
        "collection": spec.collection,
        "attempt": status.attempt,
        "created_at": iso(spec.created_at),
        "started_at": iso(status.started_at),
        "ended_at": iso(status.ended_at),
        "streams": {name: _stream(document, name) for name in spec.streams},
        "dead_letter_topic": spec.dead_letter_topic,
        "steps": [_step(step, status.steps[step.name]) for step in spec.steps],
    }


def row(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``WorkflowStore.page``: the workflow without its steps and streams."""
    why = stored["reason"]
    if stored["is_waiting"]:
        why = WAITING.model_dump()
    return {
        **{name: stored[name] for name in ("queue_id", "state")},
        "reason": reason(Reason.model_validate(why)) if why else None,
        **{name: stored[name] for name in ("template", "symbol", "type", "time_range", "collection", "attempt")},
        **{name: iso(stored[name]) for name in ("created_at", "started_at", "ended_at")},
        "targets": stored["targets"],
    }


def waiting_reason(position: int | None) -> Reason:
    """Why a workflow waits, with its place (from 1) when that is known."""
    if position is None:
        return WAITING
    return Reason(code=WAITING.code, message=f"{WAITING.message}; number {position} of those that wait")


def reason(why: Reason | None) -> dict[str, str | None] | None:
    """Code, message and where the help lies; a platform's own code has no help of ours."""
    if why is None:
        return None
    return {"code": why.code, "message": why.message, "help": help_of(why.code) if why.code in REASONS else None}


def iso(seconds: float | None) -> str | None:
    """ISO 8601 in UTC of seconds since the epoch."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _pending_reason(document: WorkflowDocument) -> Reason | None:
    """What keeps the first step that is kept."""
    if document.is_ended:
        return None
    return next((step.reason for step in document.status.steps.values() if step.reason and step.end is None), None)


def _stream(document: WorkflowDocument, name: str) -> dict[str, Any]:
    spec = document.spec.streams[name]
    written = [
        ordinal.counters.written
        for writer in document.spec.writers(name)
        for ordinal in document.step(writer.name).ordinals.values()
    ]
    return {
        "topic": spec.topic,
        "partitions": spec.partitions,
        "schema": spec.schema_name,
        "records": sum(written),
        "ended": document.status.streams[name].ended,
    }


def _step(spec: StepSpec, status: StepStatus) -> dict[str, Any]:
    launch = status.launch
    ordinals = list(status.ordinals.values())
    counters = [ordinal.counters for ordinal in ordinals]
    lags = [ordinal.lag for ordinal in ordinals if ordinal.lag is not None]
    dropped: dict[str, int] = {}
    for counted in counters:
        for name, count in counted.dropped.items():
            dropped[name] = dropped.get(name, 0) + count
    is_live = status.end is None and launch is not None
    return {
        "name": spec.name,
        "target": spec.target,
        "version": spec.version,
        "state": status.state,
        "reason": reason(status.reason),
        "stalled": status.is_stalled,
        "job": launch.job if launch else None,
        "launch": launch.number if launch else 0,
        "restarts": status.restarts + sum(ordinal.restarts for ordinal in ordinals),
        "last_exit": next((o.last_exit for o in ordinals if o.last_exit is not None), status.last_exit),
        "last_lines": list(next((o.last_lines for o in ordinals if o.last_lines), status.last_lines)),
        "warnings": list(status.warnings),
        "replicas": spec.replicas,
        "reads": list(spec.reads.values()),
        "writes": list(spec.writes.values()),
        "params": spec.params,
        "records_read": sum(counted.read for counted in counters),
        "records_written": sum(ordinal.records_written for ordinal in ordinals),
        "stored": sum(counted.stored for counted in counters),
        "dead_lettered": sum(counted.dead_lettered for counted in counters),
        "dropped": sum(dropped.values()),
        "dropped_by_reason": dropped,
        "rate": round(sum(ordinal.rate for ordinal in ordinals), 1) if is_live else 0.0,
        "lag": sum(lags) if lags else None,
        "last_event_at": iso(max((o.last_event_at for o in ordinals if o.last_event_at), default=None)),
        "launches": [
            {
                "number": made.number,
                "attempt": made.attempt,
                "job": made.job,
                "replicas": made.replicas,
                "started_at": iso(made.recorded_at),
                "ended_at": iso(made.ended_at),
                "outcome": made.outcome,
            }
            for made in status.launches
        ],
    }
