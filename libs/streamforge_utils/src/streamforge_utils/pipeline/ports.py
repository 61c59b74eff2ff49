"""What the runner needs from the outside: a committer, a reader of streams, someone to tell. Adapters implement it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from streamforge_utils.contracts.dead_letters import Headers
from streamforge_utils.contracts.events import Counters
from streamforge_utils.errors import StreamForgeError

Partition = tuple[str, int]
"""Topic and number of a partition."""


class Record(Protocol):
    """A record of a stream, as the reader gives it."""

    @property
    def key(self) -> bytes | None:
        """The key's bytes."""

    @property
    def value(self) -> bytes | None:
        """The value's bytes; None is a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """In the order in which they were written."""

    @property
    def offset(self) -> int:
        """Where it lies in its partition."""


class Output(NamedTuple):
    """A record to be written; ``partition`` None: by the key's hash, as Kafka's Java client does it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None


class Position(NamedTuple):
    """What is committed for a partition: the next offset, and up to 4,096 bytes beside it. -1: nothing yet."""

    offset: int
    metadata: str


class OutputsRefused(StreamForgeError):
    """The broker refused some records for themselves (too large); nothing was committed. ``refused``: index -> why."""

    code = "too-large"

    def __init__(self, refused: Mapping[int, str]) -> None:
        super().__init__(f"{len(refused)} records were refused, the first: {next(iter(refused.values()))}")
        self.refused = dict(refused)


class Committer(Protocol):
    """One transactional writer: outputs and positions become true together, or not at all."""

    async def start(self) -> None:
        """Fence every former life, wait for the end of its transactions, become the one who may write.

        Raises:
            NotConnected, TransientError: call again.
            ConfigurationError: a right is missing.
        """

    async def committed(self, partitions: Sequence[Partition]) -> dict[Partition, Position]:
        """What was committed last, of every partition asked for. Only after ``start``."""

    async def commit(self, outputs: Sequence[Output], positions: Mapping[Partition, Position]) -> None:
        """Write all of it in one transaction; returns when it is true.

        Raises:
            OutputsRefused: nothing was written; leave the named outputs out and call again.
            FencedError: a successor lives; leave.
            TransientError: begin again with ``start``; what was committed is to be asked.
        """

    async def close(self) -> None:
        """Idempotent; returns in bounded time also when the broker is away."""


class Reader(Protocol):
    """Reads partitions from given offsets, committed records only."""

    async def start(self, positions: Mapping[Partition, int]) -> None:
        """Begin at the given offsets; -1: at the log's start."""

    async def fetch(self, *, max_records: int, max_bytes: int, linger_s: float) -> Mapping[Partition, Sequence[Record]]:
        """Wait for records, then gather for ``linger_s``. Cancelling it loses nothing.

        Raises:
            ConfigurationError: offsets older than the log (``records-expired``).
        """

    async def position(self, partition: Partition) -> int:
        """The next offset to be given, records in the hand of a cancelled ``fetch`` not counted.

        Passes control records and aborted batches.
        """

    async def lag(self) -> int:
        """How many records lie ahead, as far as is known."""

    async def close(self) -> None:
        """Idempotent."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Told after every commit."""

    counters: Counters
    lag: int
    records: int
    """Input records of this commit."""
    sink_seconds: float
    commit_seconds: float


class Observer(Protocol):
    """Who is told what the runner does. Must return at once."""

    def resumed(self, counters: Counters) -> None:
        """At the start of every life: what former ones committed."""

    def progress(self, progress: Progress) -> None:
        """After every commit."""

    def waiting(self, part: str, reason: str | None) -> None:
        """``part`` (kafka, sink, source) is waited for; None: it is there again."""


class Metadata(NamedTuple):
    """What a checkpoint holds beside the offset."""

    counters: Counters
    states: dict[str, Any]
    position: Any
    is_done: bool
    launch: int = 1
    """Which launch of the step committed it."""
