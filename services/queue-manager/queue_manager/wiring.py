"""How steps meet in streams: who reads what, of which schema, in how many partitions (contract, section 3). Pure."""

import graphlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from queue_manager.params import Fault, pointer, unknown
from queue_manager.targets import StreamUse, Target
from streamforge_utils.contracts import names


@dataclass(slots=True)
class Step:
    """A step while it is resolved; ``place`` is where a request can say something about it."""

    name: str
    target: Target
    place: str
    replicas: int
    reads: dict[str, str] = field(default_factory=dict)
    """The target's name of a stream -> the workflow's."""
    writes: dict[str, str] = field(default_factory=dict)

    @property
    def streams(self) -> set[str]:
        """Everything it touches."""
        return {*self.reads.values(), *self.writes.values()}

    def at(self, field_name: str) -> str:
        """The pointer of one of its fields; that of all steps when the request does not speak of this one."""
        return f"{self.place}/{field_name}" if self.place else "/steps"

    def says(self, detail: str) -> str:
        """A detail that names the step when the pointer cannot."""
        return detail if self.place else f"step {self.name!r} of the template: {detail}"


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as it was resolved."""

    partitions: int
    schema_name: str


def renamed(
    step: Step, field_name: str, declared: Sequence[StreamUse], given: Sequence[str] | None
) -> tuple[dict[str, str], list[Fault]]:
    """The target's streams under the workflow's names, which are given in the declared order."""
    own = [use.stream for use in declared]
    if given is None:
        return dict(zip(own, own, strict=True)), []
    place = step.at(field_name)
    if len(given) != len(own):
        verb = field_name
        detail = f"{step.target.name} {verb} {len(own)} streams ({', '.join(own) or 'none'}), {len(given)} names given"
        return dict(zip(own, own, strict=True)), [Fault(place, step.says(detail))]
    faults = [
        Fault(f"{place}/{index}" if step.place else place, step.says("not a stream's name: at most 32 of [a-z0-9-]"))
        for index, name in enumerate(given)
        if not names.is_stream(name)
    ]
    if len(set(given)) != len(given):
        faults.append(Fault(place, step.says("names a stream twice")))
    return dict(zip(own, given, strict=True)), faults


def wire(
    steps: Sequence[Step], wanted: Mapping[str, int], *, max_partitions: int
) -> tuple[dict[str, Stream], list[Fault]]:
    """The streams of a workflow; ``wanted``: least partitions by name. Faults: every way in which steps do not meet."""
    schemas, faults = _schemas(steps)
    faults += _unwritten(steps)
    faults += _cycles(steps)
    faults += [Fault(pointer("streams", name), unknown("stream", name, schemas)) for name in wanted.keys() - schemas]
    partitions = _partitions(steps, {name: count for name, count in wanted.items() if name in schemas})
    for name, count in partitions.items():
        place = pointer("streams", name, "partitions") if name in wanted else "/steps"
        if count > max_partitions:
            faults.append(Fault(place, f"{count} partitions of {name!r}: at most {max_partitions}"))
        for step in steps:
            if count > 1 and step.target.order == "stream" and name in step.reads.values():
                detail = f"{step.name} needs {name!r} in order, so in one partition: more partitions, or several"
                faults.append(Fault(place, f"{detail} replicas of the steps beside it, cannot be"))
    return {name: Stream(partitions[name], schemas[name]) for name in sorted(schemas)}, faults


def _uses(step: Step) -> Iterator[tuple[str, str, str]]:
    """Field, the workflow's name of the stream, schema."""
    for field_name, declared, mine in (
        ("reads", step.target.reads, step.reads),
        ("writes", step.target.writes, step.writes),
    ):
        for use in declared:
            yield field_name, mine[use.stream], use.schema_name


def _schemas(steps: Sequence[Step]) -> tuple[dict[str, str], list[Fault]]:
    schemas: dict[str, str] = {}
    faults = []
    for step in steps:
        for field_name, stream, schema in _uses(step):
            other = schemas.setdefault(stream, schema)
            if other != schema:
                detail = f"{step.name} {field_name} {stream!r} as {schema}, another step has it as {other}"
                faults.append(Fault(step.at(field_name), detail))
    return schemas, faults


def _unwritten(steps: Sequence[Step]) -> list[Fault]:
    written = {stream for step in steps for stream in step.writes.values()}
    return [
        Fault(step.at("reads"), f"{step.name} reads {stream!r}, which no step writes")
        for step in steps
        for stream in step.reads.values()
        if stream not in written
    ]


def _cycles(steps: Sequence[Step]) -> list[Fault]:
    before = {
        step.name: {other.name for other in steps if set(other.writes.values()) & set(step.reads.values())}
        for step in steps
    }
    try:
        graphlib.TopologicalSorter(before).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1]
        return [Fault("/steps", f"the steps read each other in a circle: {' -> '.join(circle)}")]
    return []


def _partitions(steps: Sequence[Step], wanted: Mapping[str, int]) -> dict[str, int]:
    """The most replicas of a reading or writing step; streams that one step reads together have equally many."""
    counts = {stream: wanted.get(stream, 1) for step in steps for stream in step.streams}
    for step in steps:
        for stream in step.streams:
            counts[stream] = max(counts[stream], step.replicas)
    together = [pair for step in steps for pair in pairwise(step.reads.values())]
    for _ in counts:  # a chain of streams read together is at most as long as there are streams
        for one, other in together:
            counts[one] = counts[other] = max(counts[one], counts[other])
    return counts
