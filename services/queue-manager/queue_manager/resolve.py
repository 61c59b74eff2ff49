"""From a request to the workflow that would be created, or to everything that is wrong with it. Pure but for links.

Nothing is looked up afterwards: what comes out names the version, image, params with defaults and streams of each step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from queue_manager.model import WEEK_MS, SecretRef, StepSpec, StreamSpec, VolumeSpec, WorkflowSpec
from queue_manager.params import Fault, address_faults, pointer, unknown
from queue_manager.request import StepRequest, WorkflowRequest, read_request
from queue_manager.targets import InstalledTarget, Target, Targets
from queue_manager.templates import Template, Templates, TemplateStep
from queue_manager.wiring import Step, Stream, renamed, wire
from streamforge_utils.contracts import names
from streamforge_utils.contracts.time_range import TimeRange
from streamforge_utils.contracts.workflow_type import WorkflowType


class Invalid(Exception):
    """A request with its faults, at least one."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may not go beyond."""

    max_replicas: int
    max_partitions: int
    data_roots: tuple[Path, ...]
    """Below these `file:` addresses may be read."""
    reserved_collections: frozenset[str]
    """Collections that belong to the queue-manager."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A step as request and template together want it."""

    name: str
    target: str
    place: str
    """Pointer of the step in the request; empty when only the template speaks of it."""
    params: dict[str, Any]
    replicas: int | None
    reads: Sequence[str] | None
    writes: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A workflow that can be created; only its id is missing."""

    template: str | None
    symbol: str
    type: WorkflowType
    time_range: TimeRange | None
    collection: str
    steps: tuple[StepSpec, ...]
    streams: dict[str, Stream]
    on_failure: Literal["stop", "continue"]
    retention_ms: int
    created_at: datetime

    def queue_id(self, short: str) -> str:
        """The workflow's id with a short id."""
        start = self.time_range.start if self.time_range else self.created_at
        return names.queue_id(self._subject, str(self.type), start, short)

    @property
    def _subject(self) -> str:
        return self.symbol or self.template or self.steps[0].target

    def spec(self, queue_id: str, *, installation: str, topic_prefix: str, **asked: Any) -> WorkflowSpec:
        """What is stored; ``asked``: request, request_digest and idempotency_key."""
        return WorkflowSpec(
            installation=installation,
            template=self.template,
            symbol=self.symbol,
            type=str(self.type),
            time_range=str(self.time_range) if self.time_range else None,
            collection=self.collection,
            created_at=self.created_at.timestamp(),
            on_failure=self.on_failure,
            retention_ms=self.retention_ms,
            steps=self.steps,
            streams={
                name: StreamSpec(
                    topic=names.stream_topic(queue_id, name, prefix=topic_prefix),
                    partitions=stream.partitions,
                    schema_name=stream.schema_name,
                )
                for name, stream in self.streams.items()
            },
            dead_letter_topic=names.dead_letter_topic(queue_id, prefix=topic_prefix),
            **asked,
        )


class Resolver:
    """Requests against what is installed."""

    def __init__(self, targets: Targets, templates: Templates, limits: Limits) -> None:
        self.targets, self.templates, self._limits = targets, templates, limits

    def resolve(self, body: Any, *, now: datetime) -> Resolved:
        """The workflow that a request's body asks for.

        Raises:
            Invalid: with all of its faults.
        """
        request, faults = read_request(body)
        if request is None:
            raise Invalid(faults)
        told = {fault.pointer for fault in faults}
        attempt = _Attempt(request, self.targets, self.templates, limits=self._limits, now=now.astimezone(UTC))
        resolved = attempt.run()
        # a wrong field was left out above: that it is missing now is no news
        faults += [fault for fault in attempt.faults if fault.pointer not in told]
        if faults or resolved is None:
            raise Invalid(faults)
        return resolved


class _Attempt:
    """One request on its way; gathers faults and goes on as far as that makes sense."""

    def __init__(
        self, request: WorkflowRequest, targets: Targets, templates: Templates, *, limits: Limits, now: datetime
    ) -> None:
        self.request, self.targets, self.templates, self.limits, self.now = request, targets, templates, limits, now
        self.faults: list[Fault] = []

    def fault(self, place: str, detail: str) -> None:
        self.faults.append(Fault(place, detail))

    def run(self) -> Resolved | None:
        request = self.request
        template = self._template()
        workflow_type = self._type()
        time_range = self._time_range(workflow_type)
        collection = self._collection()
        pairs = [pair for want in self._wanted(template) if (pair := self._step(want, workflow_type)) is not None]
        complete = not any(fault.pointer.startswith(("/steps", "/template")) for fault in self.faults)
        wanted = {name: stream.partitions for name, stream in request.streams.items()}
        streams: dict[str, Stream] = {}
        if complete:  # streams between steps that are not all known would only give faults that are none
            streams, faults = wire([step for step, _ in pairs], wanted, max_partitions=self.limits.max_partitions)
            self.faults += faults
        if self.faults or workflow_type is None:
            return None
        subject = request.symbol or (template.name if template else pairs[0][0].target.name)
        return Resolved(
            template=request.template,
            symbol=request.symbol or "",
            type=workflow_type,
            time_range=time_range,
            collection=collection or names.collection(subject, str(workflow_type), time_range, self.now),
            steps=tuple(spec for _, spec in pairs),
            streams=streams,
            on_failure=template.on_failure if template else "stop",
            retention_ms=int(template.retention.total_seconds() * 1000) if template else WEEK_MS,
            created_at=self.now,
        )

    def _template(self) -> Template | None:
        name = self.request.template
        if name is None:
            if self.request.steps is None:
                self.fault("/steps", "is required: a workflow is made of a template or of steps")
            return None
        template = self.templates.get(name)
        if template is None:
            self.fault("/template", unknown("template", name, self.templates.all()))
        return template

    def _type(self) -> WorkflowType | None:
        try:
            return WorkflowType.parse(self.request.type)
        except ValueError as error:
            self.fault("/type", str(error))
            return None

    def _time_range(self, workflow_type: WorkflowType | None) -> TimeRange | None:
        text = self.request.time_range
        if workflow_type is None:
            return None
        if text is None:
            if not workflow_type.is_live:
                self.fault("/time_range", f"is required: {workflow_type} is bounded (as 2024-08-01:2024-08-02)")
            return None
        if workflow_type.is_live:
            self.fault("/time_range", f"{workflow_type} is live: it takes no time range")
            return None
        try:
            found = TimeRange.parse(text)
        except (ValueError, OverflowError) as error:
            self.fault("/time_range", str(error))
            return None
        if found.end > self.now:
            self.fault(
                "/time_range", f"ends in the future (it is {self.now:%Y-%m-%dT%H:%MZ}): what is not over is live"
            )
        return found

    def _collection(self) -> str | None:
        name = self.request.collection
        if name is None:
            return None
        if not names.is_collection(name):
            self.fault("/collection", "a letter first, then letters, digits, _ and -; at most 128")
        elif name in self.limits.reserved_collections:
            self.fault("/collection", "belongs to the queue-manager")
        return name

    def _wanted(self, template: Template | None) -> list[_Wanted]:
        given = list(enumerate(self.request.steps or ()))
        seen: set[str] = set()
        for index, step in given:
            if not step.step_name:
                self.fault(pointer("steps", index, "target"), "is required")
            elif step.step_name in seen:
                self.fault(pointer("steps", index, "name"), f"a second step is called {step.step_name!r}: name it")
            seen.add(step.step_name)
        if self.request.template is None:
            return [_fresh(index, step) for index, step in given if self._is_nameable(index, step)]
        if template is None:
            return []
        by_name = {step.step_name: step for step in template.steps}
        for index, step in given:
            if step.step_name and step.step_name not in by_name:
                place = pointer("steps", index, "name" if step.name else "target")
                self.fault(place, unknown(f"step of the template {template.name!r}", step.step_name, by_name))
            elif step.step_name and step.target not in (None, by_name[step.step_name].target):
                self.fault(pointer("steps", index, "target"), f"is {by_name[step.step_name].target} in the template")
        overrides = {step.step_name: (pointer("steps", index), step) for index, step in given}
        return [_merged(step, *overrides.get(step.step_name, ("", None))) for step in template.steps]

    def _is_nameable(self, index: int, step: StepRequest) -> bool:
        if step.target is None:
            if step.name is not None:
                self.fault(pointer("steps", index, "target"), "is required")
            return False
        if step.name is not None and not names.is_step(step.name):
            self.fault(pointer("steps", index, "name"), "at most 32 of [a-z0-9-], no hyphen at the ends")
        return True

    def _step(self, want: _Wanted, workflow_type: WorkflowType | None) -> tuple[Step, StepSpec] | None:
        installed = self.targets.get(want.target)
        if installed is None:
            place = f"{want.place}/target" if want.place else "/template"
            self.fault(place, unknown("target", want.target, self.targets.all()))
            return None
        target = installed.target
        step = Step(want.name, target, want.place, want.replicas or target.replicas.default)
        if workflow_type is not None and not target.accepts(workflow_type):
            self.fault(step.at("target"), step.says(f"{target.name} takes {', '.join(target.types)}, not this type"))
        if "symbol" in target.requires and self.request.symbol is None:
            self.fault("/symbol", f"is required by {target.name}")
        self._check_replicas(step)
        params = self._params(step, want.params)
        step.reads, reads_faults = renamed(step, "reads", target.reads, want.reads)
        step.writes, writes_faults = renamed(step, "writes", target.writes, want.writes)
        self.faults += reads_faults + writes_faults
        return step, _spec(installed, step, params)

    def _check_replicas(self, step: Step) -> None:
        target, most = step.target, min(step.target.replicas.max, self.limits.max_replicas)
        if step.replicas > 1 and target.order == "stream":
            self.fault(step.at("replicas"), step.says(f"{target.name} needs its records in order: one replica"))
        elif step.replicas > most:
            self.fault(step.at("replicas"), step.says(f"at most {most} of {target.name}"))

    def _params(self, step: Step, given: dict[str, Any]) -> dict[str, Any]:
        params, faults = step.target.params_schema.resolve(given)
        for path, detail in (*faults, *address_faults(params, self.limits.data_roots)):
            if step.place:
                self.fault(f"{step.place}/params{pointer(*path)}", detail)
            else:
                self.fault("/steps", step.says(f"params{pointer(*path)} {detail}"))
        return params


def _fresh(index: int, step: StepRequest) -> _Wanted:
    return _Wanted(
        name=step.step_name,
        target=step.target or "",
        place=pointer("steps", index),
        params=step.params,
        replicas=step.replicas,
        reads=step.reads,
        writes=step.writes,
    )


def _merged(step: TemplateStep, place: str, override: StepRequest | None) -> _Wanted:
    mine = override or StepRequest()
    return _Wanted(
        name=step.step_name,
        target=step.target,
        place=place,
        params=step.params | mine.params,
        replicas=step.replicas if mine.replicas is None else mine.replicas,
        reads=step.reads if mine.reads is None else mine.reads,
        writes=step.writes if mine.writes is None else mine.writes,
    )


def _spec(installed: InstalledTarget, step: Step, params: dict[str, Any]) -> StepSpec:
    target: Target = installed.target
    return StepSpec(
        name=step.name,
        target=target.name,
        version=target.version,
        image=target.image,
        command=target.command,
        cwd=str(installed.folder),
        params=params,
        replicas=step.replicas,
        reads=step.reads,
        writes=step.writes,
        order=target.order,
        backoff_limit=target.backoff_limit,
        start_deadline_s=target.start_deadline_s,
        grace_s=target.grace_s,
        max_run_s=target.max_run_s,
        max_dead_letters=target.max_dead_letters,
        secrets=tuple(SecretRef(env=use.env, secret=use.secret, key=use.key) for use in target.secrets),
        resources=target.resources,
        volumes=tuple(VolumeSpec(**volume.model_dump()) for volume in target.volumes),
        egress=list(target.egress),
    )
