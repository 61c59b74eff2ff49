"""What a component of a pipeline is: Source -> Processor(s) -> Sink (+ Cache). Components do their one thing only.

The runner owns batching, reconnecting, retries, dead letters, counters and the commit; a component never commits, never
retries and never catches what it cannot mend. It says by the class of an error what must be done (``errors``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from streamforge_utils import codec
from streamforge_utils.errors import PermanentError


class EndOfSource(Exception):
    """Raised by ``Source.read`` when there is nothing more and never will be."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Input of a source that is no record: its bytes, why, and where it stood."""

    value: bytes
    code: str
    reason: str
    position: str


@dataclass(slots=True)
class Delivery:
    """What one ``Source.read`` gave. ``position`` (JSON, small) is where to go on after all of it."""

    values: list[Any]
    position: Any
    dropped: dict[str, int] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)


class Source(Protocol):
    """Where records come from, when not from a stream. One per ordinal."""

    name: str

    async def open(self, position: Any | None) -> None:
        """Called before the first read, and again after NotConnected; goes on behind ``position`` (None: the start)."""

    async def read(self, max_records: int) -> Delivery:
        """Up to ``max_records`` records, at least one or a new position.

        May wait for them as long as it takes; it is cancelled on a stop and must have lost nothing then.

        Raises:
            EndOfSource: there is nothing more.
            NotConnected: open again (after a pause) and go on.
            TransientError: read again (after a pause, or ``retry_after`` seconds).
            ConfigurationError: the input can never be read (code ``bad-input``): the message says where.
        """

    async def close(self) -> None:
        """Idempotent; safe after a failed open."""


class Verdicts:
    """The input records of one batch that do not go through: refused or dropped, by index of the record."""

    __slots__ = ("dropped", "refused")

    def __init__(self) -> None:
        self.refused: dict[int, tuple[str, str]] = {}
        self.dropped: dict[int, str] = {}

    def is_out(self, origin: int) -> bool:
        """Whether the record left the pipeline."""
        return origin in self.refused or origin in self.dropped


class Batch:
    """Values on their way, each made of one input record: ``values[i]`` of record ``origins[i]``.

    ``is_late`` marks records that come again after others behind them were processed (redriven dead letters): a
    processor that keeps state lets them pass without touching it.
    """

    __slots__ = ("is_late", "origins", "values", "verdicts")

    def __init__(self, values: list[Any], origins: Sequence[int], verdicts: Verdicts, *, is_late: bool = False) -> None:
        self.values = values
        self.origins = origins
        self.verdicts = verdicts
        self.is_late = is_late

    @classmethod
    def of(cls, values: list[Any], *, is_late: bool = False) -> "Batch":
        """A batch of fresh input: record i gave value i."""
        return cls(values, range(len(values)), Verdicts(), is_late=is_late)

    def __len__(self) -> int:
        return len(self.values)

    def refuse(self, index: int, code: str, reason: str) -> None:
        """The input record of ``values[index]`` goes to the dead letters, all of its values go no further."""
        self.verdicts.refused[self.origins[index]] = (code, reason)

    def drop(self, index: int, reason: str) -> None:
        """The input record of ``values[index]`` is left out by rule and counted under ``reason`` (a closed list)."""
        self.verdicts.dropped[self.origins[index]] = reason

    def kept(self) -> "Batch":
        """The batch without the values of records that were refused or dropped."""
        verdicts = self.verdicts
        if not verdicts.refused and not verdicts.dropped:
            return self
        pairs = [(v, o) for v, o in zip(self.values, self.origins, strict=True) if not verdicts.is_out(o)]
        return self.derived([v for v, _ in pairs], [o for _, o in pairs])

    def derived(self, values: list[Any], origins: Sequence[int]) -> "Batch":
        """Other values made of the same input records (none, one or several of each)."""
        return Batch(values, origins, self.verdicts, is_late=self.is_late)


Routed = Mapping[str, Batch]
"""Output -> batch: names of written streams and SINK. Only a pipeline's last processor may route."""

SINK = "sink"


class Processor(Protocol):
    """Turns batches into batches; no I/O, no await. One instance per partition, which it sees in order."""

    name: str

    def process(self, batch: Batch) -> Batch | Routed:
        """Called once per batch. A plain Batch goes to the sink and to every written stream.

        An exception that is no verdict is a fault of the worker: nothing of the batch is committed.
        """


@runtime_checkable
class Stateful(Protocol):
    """A processor with memory. Its state is committed with the records that made it, and given back after a crash."""

    def state(self) -> Any:
        """JSON; all processors of a partition together at most about 3 kB (a commit carries 4,096 bytes)."""

    def restore(self, state: Any) -> None:
        """Takes what ``state`` gave; called at most once, before the first batch."""


class Sink(Protocol):
    """Where records end. Idempotent by key: the same batch may be written twice."""

    name: str

    async def open(self) -> None:
        """Called before the first write, and again after NotConnected.

        Raises:
            NotConnected: the runner waits and calls again.
            ConfigurationError: it can never work (rights, password).
        """

    async def write(self, values: Sequence[Any]) -> None:
        """Returns when all of it is stored.

        Raises:
            BatchError: only the named values were refused (PermanentError each); all others are stored.
            TransientError: unknown how much is stored; the same values come again.
        """

    async def close(self) -> None:
        """Idempotent; safe after a failed open."""


class Cache(Protocol):
    """Reference data that processors look up; reloads itself in the background while it runs."""

    name: str

    async def open(self) -> None:
        """Loads once before the first batch and starts reloading."""

    async def close(self) -> None:
        """Stops reloading. Idempotent."""


@dataclass(frozen=True, slots=True)
class Batching:
    """A batch is closed by whichever comes first: count, bytes (of the records' values), or seconds since its first."""

    max_records: int = 5000
    max_bytes: int = 8 * 1024 * 1024
    linger_s: float = 0.05


def keyed_json(value: Any) -> tuple[bytes | None, bytes]:
    """The usual record of a stream: key = the document's ``_key``, value = JSON.

    Raises:
        PermanentError: a value without a text ``_key``, or one that JSON does not have.
    """
    try:
        key = value["_key"].encode()
    except (KeyError, TypeError, AttributeError) as error:
        raise PermanentError("a record of a stream needs a text _key", code="wrong-schema") from error
    return key, codec.encode(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The components of a worker. ``source`` None: it reads the streams it was given."""

    source: Source | None = None
    processors: Callable[[], Sequence[Processor]] = tuple
    """Makes the chain for one partition."""
    sink: Sink | None = None
    caches: Sequence[Cache] = ()
    decode: Callable[[bytes], Any] = codec.loads
    """Value of a record read from a stream; a ValueError sends the record to the dead letters (``not-json``)."""
    encode: Callable[[Any], tuple[bytes | None, bytes]] = keyed_json
    """Key and value of a record written to a stream."""
    schema: str | None = None
    """Header ``schema`` of the written records."""
    batching: Batching = Batching()
