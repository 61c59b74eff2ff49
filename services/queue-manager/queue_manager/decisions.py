"""Every decision about a workflow: who may take it when, and what it changes.

A decision is the only way, beside a worker's event (``fold``), in which a document changes its course; ``apply`` is the
only place that says how, so a rebuild from queue-events comes to the same document. All functions are pure: they give
a new document with the decision in its outbox, or raise NotAllowed.
"""

from typing import Any

from queue_manager.model import (
    DeleteAsk,
    DrainRecord,
    Launch,
    Reason,
    RedriveAsk,
    StepEnd,
    StepSpec,
    StepStatus,
    StopAsk,
    Stopping,
    StreamStatus,
    WorkflowDocument,
    WorkflowSpec,
)
from queue_manager.states import refresh, workflow_end
from streamforge_utils.contracts.events import Decision, DecisionName

STOPPED = Reason(code="stopped", message="stopped by a request")


class NotAllowed(Exception):
    """The workflow is in a state in which this cannot be asked; the message says why and what to do."""


# -- asked by clients ------------------------------------------------------------------------------------------------


def accept(queue_id: str, spec: WorkflowSpec) -> WorkflowDocument:
    """The document of a new workflow."""
    document = WorkflowDocument(queue_id=queue_id, spec=spec)
    _prepare(document)
    payload = {"spec": spec.model_dump(mode="json")}
    accepted = _decision(document, DecisionName.ACCEPTED, payload, now=spec.created_at, message="accepted")
    document.outbox.append(accepted)
    return document


def ask_stop(document: WorkflowDocument, *, drain: bool, now: float) -> WorkflowDocument | None:
    """End the workflow before its time; None when that is under way. A plain stop overrides a draining one.

    Raises:
        NotAllowed: it has ended.
    """
    if document.is_ended:
        raise NotAllowed(f"{document.queue_id} has ended ({document.status.state})")
    asked = document.spec.stop
    if asked is not None and (asked.drain == drain or not asked.drain):
        return None
    payload = {"ask": "stop", "by": "client", "drain": drain, "reason": STOPPED.model_dump()}
    return _asked(document, payload, now=now, message="stop asked" + (", with drain" if drain else ""))


def ask_retry(document: WorkflowDocument, *, now: float, steps: tuple[StepSpec, ...] | None = None) -> WorkflowDocument:
    """A new attempt of all that is not done; ``steps``: resolved anew (refresh).

    Raises:
        NotAllowed: it has not ended, is to be deleted, or all of it is finished.
    """
    _must_have_ended(document, "retried")
    again = {
        name
        for name, step in document.status.steps.items()
        if step.end is None or step.end.state != "finished" or step.end.is_partial
    }
    if not again:
        raise NotAllowed(f"{document.queue_id} is finished: there is nothing to retry")
    resolved = None if steps is None else [step.model_dump(mode="json") for step in steps]
    payload = {
        "ask": "retry",
        "attempt": document.status.attempt + 1,
        "steps": sorted(document.spec.downstream(again)),
        "resolved": resolved,
    }
    return _asked(document, payload, now=now, message=f"attempt {payload['attempt']} asked")


def ask_delete(document: WorkflowDocument, *, purge: bool, now: float) -> WorkflowDocument | None:
    """Remove an ended workflow; None when that is under way.

    Raises:
        NotAllowed: it has not ended.
    """
    if not document.is_ended:
        raise NotAllowed(f"{document.queue_id} is {document.status.state}: stop it first")
    asked = document.spec.delete
    if asked is not None and (asked.purge or not purge):
        return None
    return _asked(document, {"ask": "delete", "purge": purge}, now=now, message="deletion asked")


def ask_redrive(document: WorkflowDocument, *, step: str, records: int, now: float) -> WorkflowDocument:
    """Records went back to the stream of ``step``: it and all downstream read up to the new end.

    Raises:
        NotAllowed: the workflow failed or was interrupted, or is to be deleted.
    """
    if document.spec.delete is not None:
        raise NotAllowed(f"{document.queue_id} is being deleted")
    if document.is_ended and document.status.state != "finished":
        raise NotAllowed(f"{document.queue_id} is {document.status.state}: retry it first")
    payload = {"ask": "redrive", "step": step, "records": records}
    return _asked(document, payload, now=now, message=f"{records} dead letters of {step} redriven")


# -- taken by the controller -----------------------------------------------------------------------------------------


def launch(document: WorkflowDocument, step: str, record: Launch) -> WorkflowDocument:
    """A launch, before its Job is created."""
    payload = {"step": step, "launch": record.model_dump(mode="json")}
    decision = _decision(
        document,
        DecisionName.LAUNCHED,
        payload,
        now=record.recorded_at,
        message=f"launch {record.number} of {step}",
    )
    return _decided(document, decision.model_copy(update={"decision_id": record.decision_id}))


def drain(document: WorkflowDocument, step: str, record: DrainRecord, *, now: float) -> WorkflowDocument:
    """Up to where a step's launch reads, before the command is sent."""
    payload = {"ask": "drain", "step": step, "drain": record.model_dump(mode="json")}
    return _asked(document, payload, now=now, message=f"{step} drains")


def stop(document: WorkflowDocument, reason: Reason, *, now: float) -> WorkflowDocument:
    """The controller ends the workflow before its time."""
    payload = {"ask": "stop", "by": "controller", "drain": False, "reason": reason.model_dump()}
    return _asked(document, payload, now=now, message=reason.message)


def launch_again(document: WorkflowDocument, step: str, outcome: str, *, now: float) -> WorkflowDocument:
    """A launch came to nothing final: another one follows."""
    payload = _ending(document, step, outcome) | {"end": None}
    return _ended(document, payload, now=now, message=f"{step}: {outcome}, launched again")


def end_step(document: WorkflowDocument, step: str, end: StepEnd, *, now: float) -> WorkflowDocument:
    """A step's end, with what follows at once: the stop of the others, the end of the workflow."""
    if document.step(step).is_due_again and end.state == "finished" and document.status.stopping is None:
        return launch_again(document, step, "finished before its redriven records", now=now)
    payload = _ending(document, step, end.state) | {"end": end.model_dump(mode="json")}
    message = f"{step} {end.state}" + (f": {end.reason.message}" if end.reason else "")
    changed = _ended(document, payload, now=now, message=message)
    is_over = all(status.end is not None for status in changed.status.steps.values())
    if is_over:
        return _end_workflow(changed, now)
    if end.state == "finished" or changed.status.stopping or changed.spec.on_failure == "continue":
        return changed
    if end.state == "failed":
        return stop(changed, Reason(code="other-step-failed", message=f"stopped because {message}"), now=now)
    return stop(changed, end.reason or STOPPED, now=now)


def deleted(document: WorkflowDocument, *, now: float) -> Decision:
    """The last word on a workflow; always with the same id, whoever says it how often."""
    decision = _decision(document, DecisionName.DELETED, {}, now=now, message="deleted")
    return decision.model_copy(update={"decision_id": f"deleted-{document.queue_id}"})


# -- what they change ------------------------------------------------------------------------------------------------


def apply(document: WorkflowDocument | None, decision: Decision) -> WorkflowDocument | None:
    """The document after a decision; None: there is none (any more). The given one is left as it is."""
    if decision.decision is DecisionName.ACCEPTED:
        if document is not None:
            return document
        made = WorkflowDocument(queue_id=decision.queue_id, spec=WorkflowSpec.model_validate(decision.payload["spec"]))
        _prepare(made)
        return made
    if document is None or decision.decision is DecisionName.DELETED:
        return None
    changed = document.copied()
    if decision.decision is DecisionName.LAUNCHED:
        _apply_launch(changed, decision.payload)
    elif decision.decision is DecisionName.ENDED:
        _apply_end(changed, decision)
    else:
        _ASKS[decision.payload["ask"]](changed, decision)
    refresh(changed)
    return changed


def _prepare(document: WorkflowDocument) -> None:
    document.status.attempt = document.spec.attempt
    document.status.steps = {step.name: StepStatus() for step in document.spec.steps}
    document.status.streams = {name: StreamStatus() for name in document.spec.streams}
    refresh(document)


def _apply_launch(document: WorkflowDocument, payload: dict[str, Any]) -> None:
    status = document.step(payload["step"])
    status.launches.append(Launch.model_validate(payload["launch"]))
    status.reason = None
    status.warnings = ()
    status.is_due_again = False
    document.status.has_place = True
    document.status.topics = "kept"


def _apply_end(document: WorkflowDocument, decision: Decision) -> None:
    payload = decision.payload
    if payload.get("step") is None:
        document.status.state = payload["state"]
        document.status.reason = Reason.model_validate(payload["reason"]) if payload["reason"] else None
        document.status.ended_at = decision.timestamp
        document.status.has_place = False
        document.status.attempt = payload["attempt"]
        return
    status = document.step(payload["step"])
    under_way = status.live_launch(document.status.attempt)
    if under_way is not None:
        under_way.ended_at = decision.timestamp
        under_way.outcome = payload["outcome"]
    status.reason = None
    status.last_exit = payload["last_exit"]
    status.last_lines = tuple(payload.get("last_lines", ()))
    status.warnings = tuple(payload.get("warnings", ()))
    status.restarts += payload["restarts"]
    status.is_stalled = False
    # what the platform counted is in the decision now; a replica that said nothing leaves nothing
    status.ordinals = {number: ordinal for number, ordinal in status.ordinals.items() if ordinal.launch}
    for ordinal in status.ordinals.values():
        ordinal.restarts = ordinal.disruptions = ordinal.idle_ends = 0
        ordinal.last_exit = None
        ordinal.last_lines = ()
        ordinal.idle_committed = {}
    if payload["end"] is not None:
        status.end = StepEnd.model_validate(payload["end"])
        status.reason = status.end.reason


def _apply_stop(document: WorkflowDocument, decision: Decision) -> None:
    payload = decision.payload
    if payload["by"] == "client":
        _replace_spec(document, stop=StopAsk(at=decision.timestamp, drain=payload["drain"]))
    document.status.stopping = Stopping(
        at=decision.timestamp, drain=payload["drain"], reason=Reason.model_validate(payload["reason"])
    )


def _apply_retry(document: WorkflowDocument, decision: Decision) -> None:
    payload = decision.payload
    if payload["resolved"] is not None:
        _replace_spec(document, steps=tuple(StepSpec.model_validate(step) for step in payload["resolved"]))
    _begin_attempt(document, payload["attempt"], set(payload["steps"]))


def _apply_delete(document: WorkflowDocument, decision: Decision) -> None:
    _replace_spec(document, delete=DeleteAsk(at=decision.timestamp, purge=decision.payload["purge"]))


def _apply_redrive(document: WorkflowDocument, decision: Decision) -> None:
    payload = decision.payload
    asked = RedriveAsk(at=decision.timestamp, step=payload["step"], records=payload["records"])
    _replace_spec(document, redrives=[*document.spec.redrives, asked])
    concerned = document.spec.downstream({payload["step"]})
    if document.is_ended:
        _begin_attempt(document, document.status.attempt + 1, concerned)
        return
    for name in concerned:
        status = document.step(name)
        under_way = status.live_launch(document.status.attempt)
        # a launch whose ends are not fixed yet reads the records in its normal course
        if under_way is not None and under_way.drain is not None:
            status.is_due_again = True
        elif status.end is not None:
            _reset(status)


def _apply_drain(document: WorkflowDocument, decision: Decision) -> None:
    status = document.step(decision.payload["step"])
    under_way = status.live_launch(document.status.attempt)
    if under_way is None:
        return
    under_way.drain = DrainRecord.model_validate(decision.payload["drain"])
    for stream in document.spec.step(decision.payload["step"]).reads.values():
        document.status.streams[stream].ended = True


_ASKS = {
    "stop": _apply_stop,
    "retry": _apply_retry,
    "delete": _apply_delete,
    "redrive": _apply_redrive,
    "drain": _apply_drain,
}


def _begin_attempt(document: WorkflowDocument, attempt: int, steps: set[str]) -> None:
    _replace_spec(document, attempt=attempt, stop=None)
    document.status.attempt = attempt
    document.status.stopping = None
    document.status.ended_at = None
    document.status.state = "pending"
    document.status.reason = None
    for name in steps:
        _reset(document.step(name))
    for name, stream in document.status.streams.items():
        stream.ended = not any(writer.name in steps for writer in document.spec.writers(name))


def _replace_spec(document: WorkflowDocument, **changes: Any) -> None:
    document.spec = document.spec.model_copy(update=changes)


def _reset(status: StepStatus) -> None:
    status.end = None
    status.reason = None
    status.is_due_again = False


def _end_workflow(document: WorkflowDocument, now: float) -> WorkflowDocument:
    state, reason = workflow_end(document)
    payload = {
        "step": None,
        "state": state,
        "reason": reason.model_dump() if reason else None,
        "attempt": document.status.attempt,
    }
    message = f"workflow {state}" + (f": {reason.message}" if reason else "")
    return _ended(document, payload, now=now, message=message)


def _ending(document: WorkflowDocument, step: str, outcome: str) -> dict[str, Any]:
    """What is told of a launch's end; ``offsets``: events behind them came too late to count."""
    status = document.step(step)
    exits = [o.last_exit for o in status.ordinals.values() if o.last_exit is not None]
    return {
        "step": step,
        "launch": status.launch.number if status.launch else 0,
        "outcome": outcome,
        "last_exit": next((code for code in exits if code), exits[-1] if exits else None),
        "last_lines": next((list(o.last_lines) for o in status.ordinals.values() if o.last_lines), []),
        "warnings": list(status.warnings),
        "restarts": sum(o.restarts for o in status.ordinals.values()),
        "offsets": {str(partition): offset for partition, offset in document.status.offsets.items()},
    }


def _must_have_ended(document: WorkflowDocument, verb: str) -> None:
    if document.spec.delete is not None:
        raise NotAllowed(f"{document.queue_id} is being deleted")
    if not document.is_ended:
        raise NotAllowed(f"{document.queue_id} is {document.status.state}: it can be {verb} when it has ended")


def _decision(
    document: WorkflowDocument, name: DecisionName, payload: dict[str, Any], *, now: float, message: str
) -> Decision:
    return Decision(
        queue_id=document.queue_id,
        decision=name,
        installation=document.spec.installation,
        message=message,
        timestamp=now,
        payload=payload,
    )


def _decided(document: WorkflowDocument, decision: Decision) -> WorkflowDocument:
    changed = apply(document, decision)
    assert changed is not None, "only a deletion leaves nothing, and it is not taken here"
    changed.outbox.append(decision)
    return changed


def _asked(document: WorkflowDocument, payload: dict[str, Any], *, now: float, message: str) -> WorkflowDocument:
    return _decided(document, _decision(document, DecisionName.ASKED, payload, now=now, message=message))


def _ended(document: WorkflowDocument, payload: dict[str, Any], *, now: float, message: str) -> WorkflowDocument:
    return _decided(document, _decision(document, DecisionName.ENDED, payload, now=now, message=message))
