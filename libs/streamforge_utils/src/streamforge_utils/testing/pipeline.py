"""Doubles of the pipeline's ports: a broker in a dict, readers and writers on it, sources and sinks of lists."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamforge_utils.contracts.dead_letters import Headers
from streamforge_utils.contracts.events import Counters
from streamforge_utils.errors import BatchError, FencedError, StreamForgeError
from streamforge_utils.pipeline.interfaces import Delivery, EndOfSource
from streamforge_utils.pipeline.ports import Output, OutputsRefused, Partition, Position, Progress


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A record of a partition in memory."""

    key: bytes | None
    value: bytes | None
    offset: int
    headers: Headers = ()


@dataclass(slots=True)
class MemoryKafka:
    """Partitions, committed positions and who may write. ``max_bytes``: larger values are refused."""

    log: dict[Partition, list[MemoryRecord]] = field(default_factory=dict)
    positions: dict[tuple[str, Partition], Position] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    max_bytes: int = 1_000_000
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def append(self, partition: Partition, *values: bytes | None, headers: Headers = ()) -> None:
        """Write records past every transaction, as a test's input."""
        log = self.log.setdefault(partition, [])
        for value in values:
            log.append(MemoryRecord(None, value, len(log), headers))
        self._notify()

    def values(self, topic: str, partition: int = 0) -> list[bytes | None]:
        """All values of a partition."""
        return [record.value for record in self.log.get((topic, partition), [])]

    def end(self, partition: Partition) -> int:
        """The next offset to be written."""
        return len(self.log.get(partition, []))

    def write(self, outputs: Sequence[Output]) -> None:
        """Append the outputs of a transaction."""
        for topic, key, value, headers, partition in outputs:
            log = self.log.setdefault((topic, partition or 0), [])
            log.append(MemoryRecord(key, value, len(log), headers))
        self._notify()

    def _notify(self) -> None:
        self.arrived.set()
        self.arrived = asyncio.Event()


class MemoryCommitter:
    """A Committer on a MemoryKafka; ``fails`` are raised by the next commits, one each (None: that one works)."""

    def __init__(
        self, kafka: MemoryKafka, *, transactional_id: str = "t", former: Sequence[str] = (), group: str = "g"
    ) -> None:
        self._kafka = kafka
        self._ids = (*former, transactional_id)
        self._id = transactional_id
        self._group = group
        self._epoch = 0
        self.fails: list[StreamForgeError | None] = []
        self.commits = 0

    async def start(self) -> None:
        """Fence every former life."""
        for transactional_id in self._ids:
            self._kafka.epochs[transactional_id] = self._kafka.epochs.get(transactional_id, 0) + 1
        self._epoch = self._kafka.epochs[self._id]

    async def committed(self, partitions: Sequence[Partition]) -> dict[Partition, Position]:
        """What was committed last."""
        return {p: self._kafka.positions.get((self._group, p), Position(-1, "")) for p in partitions}

    async def commit(self, outputs: Sequence[Output], positions: Mapping[Partition, Position]) -> None:
        """All or nothing."""
        await asyncio.sleep(0)
        if self._kafka.epochs[self._id] != self._epoch:
            raise FencedError(f"{self._id}: a successor took over")
        if self.fails and (error := self.fails.pop(0)) is not None:
            raise error
        limit = self._kafka.max_bytes
        refused = {i: f"larger than {limit} bytes" for i, o in enumerate(outputs) if len(o.value or b"") > limit}
        if refused:
            raise OutputsRefused(refused)
        self._kafka.write(outputs)
        for partition, position in positions.items():
            self._kafka.positions[self._group, partition] = position
        self.commits += 1

    async def close(self) -> None:
        """Nothing to close."""


class MemoryReader:
    """A Reader on a MemoryKafka."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka
        self._at: dict[Partition, int] = {}

    async def start(self, positions: Mapping[Partition, int]) -> None:
        """Begin at the given offsets."""
        self._at = {partition: max(offset, 0) for partition, offset in positions.items()}

    async def fetch(
        self, *, max_records: int, max_bytes: int, linger_s: float
    ) -> Mapping[Partition, Sequence[MemoryRecord]]:
        """What is there, waiting while nothing is."""
        while True:
            arrived = self._kafka.arrived
            found = {}
            for partition, at in self._at.items():
                if records := self._kafka.log.get(partition, [])[at : at + max_records]:
                    found[partition] = records
                    self._at[partition] = at + len(records)
            if found:
                return found
            await arrived.wait()

    async def position(self, partition: Partition) -> int:
        """The next offset to be given."""
        return self._at.get(partition, 0)

    async def lag(self) -> int:
        """Records ahead."""
        return sum(self._kafka.end(partition) - at for partition, at in self._at.items())

    async def close(self) -> None:
        """Nothing to close."""


class ListSource:
    """A Source over a list; its position is the index. ``fails``: index -> error raised once before that record."""

    name = "list"

    def __init__(self, values: Sequence[Any], *, fails: Mapping[int, StreamForgeError] | None = None) -> None:
        self._values = values
        self._fails = dict(fails or {})
        self._at = 0
        self.opened: list[Any] = []

    async def open(self, position: Any | None) -> None:
        """Go on behind ``position`` records."""
        self.opened.append(position)
        self._at = position or 0

    async def read(self, max_records: int) -> Delivery:
        """The next records, up to the next one that fails."""
        await asyncio.sleep(0)
        if error := self._fails.pop(self._at, None):
            raise error
        if self._at >= len(self._values):
            raise EndOfSource
        end = min([len(self._values), self._at + max_records, *(i for i in self._fails if i > self._at)])
        values, self._at = list(self._values[self._at : end]), end
        return Delivery(values, self._at)

    async def close(self) -> None:
        """Nothing to close."""


class MemorySink:
    """A Sink that upserts by ``_key``. ``fails``: raised by the next writes, one each; ``refused``: key -> error."""

    name = "memory"

    def __init__(
        self, *, fails: Sequence[StreamForgeError] = (), refused: Mapping[str, StreamForgeError] | None = None
    ) -> None:
        self.documents: dict[str, Any] = {}
        self.writes = 0
        self.opened = 0
        self._fails = list(fails)
        self._refused = dict(refused or {})

    async def open(self) -> None:
        """Counted."""
        self.opened += 1

    async def write(self, values: Sequence[Any]) -> None:
        """Store, or fail as told. A failing write stores half, as a real one may."""
        await asyncio.sleep(0)
        self.writes += 1
        if self._fails:
            self._store(values[: len(values) // 2])
            raise self._fails.pop(0)
        self._store(values)
        failed = {i: self._refused[v["_key"]] for i, v in enumerate(values) if v["_key"] in self._refused}
        if failed:
            raise BatchError(failed)

    def _store(self, values: Sequence[Any]) -> None:
        for value in values:
            if value["_key"] not in self._refused:
                self.documents[value["_key"]] = value

    async def close(self) -> None:
        """Nothing to close."""


class NullSink:
    """Takes everything and keeps nothing: for measurements."""

    name = "null"

    async def open(self) -> None:
        """Nothing to open."""

    async def write(self, values: Sequence[Any]) -> None:
        """Forget."""

    async def close(self) -> None:
        """Nothing to close."""


class RecordingObserver:
    """An Observer that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[Progress] = []
        self.waits: list[tuple[str, str | None]] = []

    def resumed(self, counters: Counters) -> None:
        """Not kept."""

    def progress(self, progress: Progress) -> None:
        """Keep it."""
        self.told.append(progress)

    def waiting(self, part: str, reason: str | None) -> None:
        """Keep it."""
        self.waits.append((part, reason))
