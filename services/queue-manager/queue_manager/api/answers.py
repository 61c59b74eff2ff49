"""The shapes of answers, for the OpenAPI document and its readers. Answers are made by ``view`` and sent as they are.

A test holds the two together; nothing is validated while answering.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from queue_manager.model import State
from streamforge_utils import codec

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


def answer(value: object, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(codec.encode(value), status, headers, "application/json")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class FaultAnswer(_Answer):
    """One thing that is wrong with a request."""

    pointer: str
    """RFC 6901; for a query parameter or header: /query/<name>, /header/<name>."""
    detail: str


class ProblemAnswer(_Answer):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    help: str
    errors: list[FaultAnswer] = Field(default_factory=list)


class ReasonAnswer(_Answer):
    """Why something is where it is."""

    code: str
    message: str
    help: str | None


class StreamAnswer(_Answer):
    """A stream of a workflow."""

    topic: str
    partitions: int
    schema_name: str | None = Field(alias="schema")
    records: int
    ended: bool


class LaunchAnswer(_Answer):
    """One Job of a step."""

    number: int
    attempt: int
    job: str
    replicas: int
    started_at: Moment | None
    ended_at: Moment | None
    outcome: str | None


class StepAnswer(_Answer):
    """A step of a workflow."""

    name: str
    target: str
    version: str
    state: State
    reason: ReasonAnswer | None
    stalled: bool
    """Records wait, and none was read for a minute."""
    job: str | None
    launch: int
    restarts: int
    last_exit: int | None
    last_lines: list[str]
    """Of the output before the latest end with a fault, at most ten."""
    warnings: list[str]
    """What the platform complained of in the latest launch, at most ten."""
    replicas: int
    reads: list[str]
    writes: list[str]
    params: dict[str, Any]
    records_read: int
    records_written: int
    stored: int
    dead_lettered: int
    dropped: int
    dropped_by_reason: dict[str, int]
    rate: float
    """Records a second."""
    lag: int | None
    last_event_at: Moment | None
    launches: list[LaunchAnswer]


class _WorkflowHead(_Answer):
    queue_id: str
    state: State
    reason: ReasonAnswer | None
    template: str | None
    symbol: str
    type: str
    time_range: str | None
    collection: str
    attempt: int
    created_at: Moment
    started_at: Moment | None
    ended_at: Moment | None


class WorkflowAnswer(_WorkflowHead):
    """A workflow."""

    streams: dict[str, StreamAnswer]
    dead_letter_topic: str
    steps: list[StepAnswer]


class WorkflowRow(_WorkflowHead):
    """A workflow in a list."""

    targets: list[str]


class WorkflowList(_Answer):
    """Workflows, newest first."""

    items: list[WorkflowRow]
    next: str | None
    """The cursor of the next page."""


class HistoryItem(_Answer):
    """A message of queue-events; ``id`` is ``<partition>-<offset>``."""

    id: str
    at: Moment
    message: dict[str, Any]


class HistoryList(_Answer):
    """What was said and decided, oldest first."""

    items: list[HistoryItem]
    next: str | None


class LogItem(_Answer):
    """A line of a replica's output."""

    ts: Moment
    step: str
    replica: int
    launch: int
    line: str


class LogList(_Answer):
    """Lines of all asked replicas, by time."""

    items: list[LogItem]
    next: None = None
    truncated: bool
    """Older lines were left out."""


class PongAnswer(_Answer):
    """One replica's answer."""

    ordinal: int
    producer: str
    round_trip_s: float | None
    """By the pinger's clock; null: silent."""


class PingedStep(_Answer):
    """The slowest answer of a step, null when a replica was silent."""

    name: str
    target: str
    state: State
    round_trip_s: float | None
    replicas: list[PongAnswer]


class PingAnswer(_Answer):
    """Who answered."""

    queue_id: str
    timeout_s: float
    steps: list[PingedStep]


class DeadLetterSource(_Answer):
    """Where a dead letter came from."""

    topic: str
    partition: int
    offset: int
    position: str | None


class DeadLetterItem(_Answer):
    """A record that was refused; ``id`` is the offset in the dead-letter topic."""

    id: str
    at: Moment
    step: str
    code: str
    reason: str
    source: DeadLetterSource
    key: str | None
    value: str | None
    encoding: Literal["utf-8", "base64"]
    """Of key and value."""
    redriven: bool


class DeadLetterList(_Answer):
    """Dead letters, oldest first."""

    items: list[DeadLetterItem]
    next: str | None


class RedriveRequest(BaseModel):
    """Which dead letters go back to their streams; without ``ids`` all that did not yet."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    ids: list[Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,17})$")]] | None = Field(
        default=None, min_length=1, max_length=10_000
    )


class RedriveAnswer(_Answer):
    """What was sent back, by step, and which named ones were not and why."""

    queue_id: str
    redriven: dict[str, int]
    skipped: dict[str, str]


class TargetAnswer(_Answer):
    """A target and the JSON Schema of its params."""

    name: str
    description: str
    version: str
    types: list[str]
    requires: list[str]
    reads: list[dict[str, str]]
    writes: list[dict[str, str]]
    order: str
    replicas: dict[str, int]
    params: dict[str, Any]


class TargetList(_Answer):
    """What can be run."""

    items: list[TargetAnswer]
    next: None = None


class TemplateStepAnswer(_Answer):
    """A step of a template; null: as the target has it."""

    name: str
    target: str
    params: dict[str, Any]
    replicas: int | None
    reads: list[str] | None
    writes: list[str] | None
    params_schema: dict[str, Any] | None
    """JSON Schema of the target's params; null: the target is not there."""


class TemplateAnswer(_Answer):
    """A template."""

    name: str
    description: str
    retention_s: int
    on_failure: str
    steps: list[TemplateStepAnswer]


class TemplateList(_Answer):
    """Workflows under a name."""

    items: list[TemplateAnswer]
    next: None = None


_PROBLEM_SCHEMA = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}


def answers(model: type[BaseModel] | None, *problems: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: what it answers, and by which statuses it refuses."""
    found: dict[int | str, dict[str, Any]] = {
        code: {"description": "Refused.", "content": _PROBLEM_SCHEMA} for code in sorted({*problems, 422, 503})
    }
    found[status] = {"description": "As asked."} | ({"model": model} if model else {})
    return found
