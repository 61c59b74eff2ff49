"""One partition's way through its processors: pure, no I/O. What comes out is written and committed by the runner."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamforge_utils.contracts.dead_letters import FOR_STEP, Headers
from streamforge_utils.contracts.events import Counters
from streamforge_utils.errors import PermanentError
from streamforge_utils.pipeline.interfaces import SINK, Batch, Delivery, Pipeline, Processor, Refused, Stateful
from streamforge_utils.pipeline.ports import Output, Partition, Record

FOR_OTHER_STEP = "for-other-step"
"""Why a redriven record is dropped by the steps that had taken it."""


@dataclass(slots=True)
class Letter:
    """An input record that is refused: what the runner makes a dead letter of."""

    code: str
    reason: str
    value: bytes | None
    key: bytes | None = None
    offset: int = -1
    position: str | None = None
    headers: Headers = ()


@dataclass(slots=True)
class Work:
    """What became of the records of one partition in hand, before anything is written.

    ``sink`` and ``outputs`` go in step with the input record each came of, so that a record refused later (by the store
    or the broker) can still be made a dead letter.
    """

    partition: Partition
    read: int = 0
    letters: dict[int, Letter] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    sink: list[Any] = field(default_factory=list)
    sink_origins: list[int] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    output_origins: list[int] = field(default_factory=list)
    letter_of: Callable[[int, str, str], Letter] = field(default=lambda i, c, r: Letter(c, r, None))

    def refuse(self, origin: int, code: str, reason: str) -> None:
        """Make a dead letter of an input record that had passed; none of its outputs is written."""
        if origin not in self.letters:
            self.letters[origin] = self.letter_of(origin, code, reason)

    def sinkable(self) -> list[Any]:
        """What the sink gets: the values of records that were not refused."""
        if not self.letters:
            return self.sink
        return [v for v, origin in zip(self.sink, self.sink_origins, strict=True) if origin not in self.letters]

    def writable(self) -> list[Output]:
        """What the streams get: the outputs of records that were not refused."""
        if not self.letters:
            return self.outputs
        return [o for o, origin in zip(self.outputs, self.output_origins, strict=True) if origin not in self.letters]

    def counters(self) -> Counters:
        """What this work adds to the partition's counters."""
        dropped = sum(self.dropped.values())
        letters = len(self.letters)
        return Counters(
            read=self.read,
            stored=self.read - dropped - letters,
            dead_lettered=letters,
            dropped=dict(self.dropped),
            written=len(self.writable()),
        )


class Chain:
    """The processors of one partition."""

    def __init__(self, pipeline: Pipeline, *, partition: Partition, step: str, writes: Mapping[str, str]) -> None:
        self._pipeline = pipeline
        self._partition = partition
        self._step = step
        self._step_header = step.encode()
        self._writes = writes
        self._processors: Sequence[Processor] = pipeline.processors()
        headers: list[tuple[str, bytes]] = [("step", self._step_header)]
        if pipeline.schema is not None:
            headers.append(("schema", pipeline.schema.encode()))
        self._headers: Headers = tuple(headers)

    def restore(self, states: Mapping[str, Any]) -> None:
        """Give each processor what it had at the last commit."""
        for processor in self._processors:
            if isinstance(processor, Stateful) and processor.name in states:
                processor.restore(states[processor.name])

    def states(self) -> dict[str, Any]:
        """What the processors have to remember."""
        return {p.name: p.state() for p in self._processors if isinstance(p, Stateful)}

    def delivery(self, delivery: Delivery) -> Work:
        """Take what a source gave."""
        values, refused = delivery.values, delivery.refused
        work = Work(self._partition, read=len(values) + len(refused) + sum(delivery.dropped.values()))
        work.dropped = dict(delivery.dropped)
        work.letter_of = lambda i, code, reason: Letter(code, reason, _bytes(self._pipeline, values[i]))
        self._run(Batch.of(values), work)
        for number, item in enumerate(refused):
            work.letters[len(values) + number] = _letter(item)
        return work

    def records(self, records: Sequence[Record]) -> Work:
        """Take records of a stream; redriven ones go alone, so that state is left as it is."""
        work = Work(self._partition, read=len(records))
        work.letter_of = lambda i, code, reason: _letter_of(records[i], code, reason)
        redriven = [i for i, r in enumerate(records) if r.headers and r.headers[0][0] == FOR_STEP]
        if not redriven:
            self._take(records, range(len(records)), work, is_late=False)
            return work
        mine = [i for i in redriven if records[i].headers[0][1] == self._step_header]
        if others := len(redriven) - len(mine):
            work.dropped[FOR_OTHER_STEP] = others
        again = set(redriven)
        self._take(records, [i for i in range(len(records)) if i not in again], work, is_late=False)
        self._take(records, mine, work, is_late=True)
        return work

    def _take(self, records: Sequence[Record], origins: Sequence[int], work: Work, *, is_late: bool) -> None:
        if not origins:
            return
        decode = self._pipeline.decode
        try:
            values = [decode(records[i].value) for i in origins]  # type: ignore[arg-type]
        except (ValueError, TypeError):
            values, origins = self._decode_each(records, origins, work)
        batch = Batch.of(values, is_late=is_late)
        batch.origins = origins
        self._run(batch, work)

    def _decode_each(
        self, records: Sequence[Record], origins: Sequence[int], work: Work
    ) -> tuple[list[Any], list[int]]:
        values, good = [], []
        for i in origins:
            try:
                values.append(self._pipeline.decode(records[i].value or b""))
            except (ValueError, TypeError) as error:
                work.letters[i] = _letter_of(records[i], "not-json", f"cannot be decoded: {error}")
            else:
                good.append(i)
        return values, good

    def _run(self, batch: Batch, work: Work) -> None:
        verdicts = batch.verdicts
        routed: Mapping[str, Batch] | None = None
        for processor in self._processors:
            out = processor.process(batch)
            if isinstance(out, Batch):
                batch = out.kept()
            else:
                routed = out
        if routed is None:
            routed = {
                **({SINK: batch} if self._pipeline.sink is not None else {}),
                **dict.fromkeys(self._writes, batch),
            }
        for origin, (code, reason) in verdicts.refused.items():
            work.letters[origin] = work.letter_of(origin, code, reason)
        for reason, count in Counter(
            reason for origin, reason in verdicts.dropped.items() if origin not in verdicts.refused
        ).items():
            work.dropped[reason] = work.dropped.get(reason, 0) + count
        for name, part in routed.items():
            self._route(name, part.kept(), work)

    def _route(self, name: str, batch: Batch, work: Work) -> None:
        if name == SINK:
            work.sink += batch.values
            work.sink_origins += batch.origins
            return
        topic, encode, headers = self._writes[name], self._pipeline.encode, self._headers
        for value, origin in zip(batch.values, batch.origins, strict=True):
            try:
                key, data = encode(value)
            except PermanentError as error:
                work.refuse(origin, error.code, error.message)
                continue
            work.outputs.append(Output(topic, key, data, headers))
            work.output_origins.append(origin)


def _letter_of(record: Record, code: str, reason: str) -> Letter:
    return Letter(code, reason, record.value, record.key, record.offset, headers=tuple(record.headers))


def _letter(refused: Refused) -> Letter:
    return Letter(refused.code, refused.reason, refused.value, position=refused.position)


def _bytes(pipeline: Pipeline, value: Any) -> bytes:
    """The value as it would have been written; one that cannot be is shown as Python writes it."""
    try:
        return pipeline.encode(value)[1]
    except PermanentError:
        return repr(value).encode(errors="backslashreplace")
