"""The body of ``POST /workflows``: its shape. What it means is resolved elsewhere (``resolve``)."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from queue_manager.params import Fault, pointer, unknown

MAX_STEPS = 64

Text = Annotated[str, Field(min_length=1, max_length=128)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class StepRequest(_Body):
    """A step, or what is overridden of a template's step of that name."""

    target: Text | None = None
    """What to run; needed unless ``name`` is a step of the template."""
    name: Text | None = None
    """Its name in the workflow; by default the target."""
    params: dict[str, Any] = Field(default_factory=dict)
    """The target's own settings (``GET /targets`` gives the schema)."""
    replicas: int | None = Field(default=None, ge=1)
    """How many copies share the step's streams."""
    reads: list[Text] | None = None
    """The workflow's names of the streams that the target reads, in its order."""
    writes: list[Text] | None = None
    """The workflow's names of the streams that the target writes, in its order."""

    @property
    def step_name(self) -> str:
        """Its name in the workflow; empty when the request says none."""
        return self.name or self.target or ""


class StreamRequest(_Body):
    """What a request may say of a stream."""

    partitions: int = Field(ge=1)
    """At least so many partitions."""


class WorkflowRequest(_Body):
    """A workflow to be started: of a template, of steps, or of a template with steps that override its own."""

    template: Text | None = None
    """A name of ``GET /templates``."""
    symbol: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    """What it is about, as BTCUSDT."""
    type: Text
    """``<source>_<kind>_<interval>``: ``api_candles_1m`` is bounded, ``ws_candles_1m`` live."""
    time_range: Text | None = None
    """Half-open and UTC: ``2024-08-01:2024-08-02`` or an ISO 8601 interval; none for a live type."""
    collection: Text | None = None
    """Where it stores; by default a name made of symbol, type and date."""
    steps: list[StepRequest] | None = Field(default=None, min_length=1, max_length=MAX_STEPS)
    """The steps, or overrides of the template's."""
    streams: dict[str, StreamRequest] = Field(default_factory=dict)
    """More partitions for a stream of the workflow."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "symbol": "BTCUSDT",
                    "type": "api_candles_1m",
                    "time_range": "2024-08-01:2024-08-02",
                    "steps": [{"target": "my-loader", "params": {"source": "simulated"}}],
                }
            ]
        }
    )


_MODELS: dict[str | int, type[_Body]] = {"steps": StepRequest, "streams": StreamRequest}


def read_request(body: Any) -> tuple[WorkflowRequest | None, list[Fault]]:
    """The request, None when its shape lets nothing more be said; and every fault of the shape.

    Wrong fields that may be left out are left out, so that what else is wrong is told in the same answer.
    """
    if not isinstance(body, dict):
        return None, [Fault("", "must be an object")]
    try:
        return WorkflowRequest.model_validate(body), []
    except ValidationError as error:
        wrong = [(tuple(fault["loc"]), fault["type"], fault["msg"]) for fault in error.errors(include_url=False)]
    faults = [Fault(pointer(*path), _detail(path, kind, message)) for path, kind, message in wrong]
    try:
        return WorkflowRequest.model_validate(_without(body, {path for path, _, _ in wrong})), faults
    except ValidationError:
        return None, faults


def _detail(path: tuple[str | int, ...], kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        model: type[_Body] = _MODELS.get(path[0], WorkflowRequest) if len(path) > 1 else WorkflowRequest
        return unknown("field", str(path[-1]), model.model_fields)
    if kind == "missing":
        return "is required"
    return message[:1].lower() + message[1:]


def _without(value: Any, paths: Iterable[tuple[str | int, ...]]) -> Any:
    """A copy of a JSON value without the members at ``paths``; items of lists stay (their index is in pointers)."""
    gone = {path[0] for path in paths if len(path) == 1}
    deeper = [path for path in paths if len(path) > 1]
    if isinstance(value, dict):
        return {
            name: _without(child, [path[1:] for path in deeper if path[0] == name])
            for name, child in value.items()
            if name not in gone
        }
    if isinstance(value, list):
        return [_without(child, [p[1:] for p in deeper if p[0] == i]) for i, child in enumerate(value)]
    return value
