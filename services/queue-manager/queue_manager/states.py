"""The state of a step and of a workflow: the one place that derives them. Pure."""

from queue_manager.model import TERMINAL, EndState, Reason, State, StepSpec, StepStatus, WorkflowDocument


def refresh(document: WorkflowDocument) -> None:
    """Derive all states of a document again, in place; the end of a workflow is decided, not derived."""
    status = document.status
    for spec in document.spec.steps:
        step = status.steps[spec.name]
        step.state = _step_state(document, spec, step)
    if status.state not in TERMINAL:
        status.state = _workflow_state(document)


def _step_state(document: WorkflowDocument, spec: StepSpec, step: StepStatus) -> State:
    if step.end is not None:
        return step.end.state
    under_way = step.live_launch(document.status.attempt)
    if under_way is None:
        return "pending"
    stopping = document.status.stopping
    if stopping is not None and not (stopping.drain and spec.reads):
        return "stopping"
    is_started = any(o.is_started and o.launch == under_way.number for o in step.ordinals.values())
    return "running" if is_started else "starting"


def _workflow_state(document: WorkflowDocument) -> State:
    if document.status.stopping is not None:
        return "stopping"
    attempt = document.status.attempt
    # what has begun stays running between two launches of a step, and between two steps
    if any(_has_begun(step, attempt) for step in document.status.steps.values()):
        return "running"
    states = {step.state for step in document.status.steps.values()}
    return "starting" if "starting" in states else "pending"


def _has_begun(step: StepStatus, attempt: int) -> bool:
    if step.end is not None and step.end.attempt == attempt:
        return True
    mine = {launch.number for launch in step.launches if launch.attempt == attempt}
    return any(ordinal.is_started and ordinal.launch in mine for ordinal in step.ordinals.values())


def workflow_end(document: WorkflowDocument) -> tuple[EndState, Reason | None]:
    """How a workflow ended whose steps all have: any failed = failed; all finished = finished; else interrupted."""
    ends = {name: step.end for name, step in document.status.steps.items() if step.end is not None}
    stopping = document.status.stopping
    failed = [(end.at, name, end) for name, end in ends.items() if end.state == "failed"]
    if failed:
        _, name, end = min(failed, key=lambda found: found[0])
        code = end.reason.code if end.reason else "step-failed"
        return "failed", Reason(code=code, message=f"{name}: {end.reason.message if end.reason else 'failed'}")
    if all(end.state == "finished" for end in ends.values()):
        if stopping is not None and stopping.drain:
            text = "stopped by a request, and everything written was read before"
            return "finished", Reason(code="stopped-and-drained", message=text)
        return "finished", None
    forced = next((end.reason for end in ends.values() if end.reason and end.reason.code == "forced"), None)
    return "interrupted", forced or (stopping.reason if stopping else Reason(code="stopped", message="stopped"))
