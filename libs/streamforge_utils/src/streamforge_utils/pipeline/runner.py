"""The loop: take -> process once -> the sink confirms -> one transaction.

The only place that decides what is committed.

The protocol, step by step, with what was measured for each step: ``docs/explanation/commit.md``.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import structlog

from streamforge_utils.contracts.commands import Drain
from streamforge_utils.contracts.events import Counters
from streamforge_utils.errors import BatchError, ConfigurationError, FencedError, StreamForgeError
from streamforge_utils.pipeline import checkpoint
from streamforge_utils.pipeline.chain import Chain, Work
from streamforge_utils.pipeline.inputs import Input, SourceInput, StreamInput
from streamforge_utils.pipeline.interfaces import EndOfSource, Pipeline
from streamforge_utils.pipeline.letters import cut, dead_letter
from streamforge_utils.pipeline.ports import (
    Committer,
    Metadata,
    Observer,
    Output,
    OutputsRefused,
    Partition,
    Position,
    Progress,
    Reader,
)
from streamforge_utils.pipeline.retry import is_transient, told_when_slow, until_done

DRAIN_POLL_SECONDS = 0.02
PAUSE_SECONDS = 0.5
"""Between a failure and the next life."""


class Outcome(Enum):
    """Why the runner returned."""

    FINISHED = "finished"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the runner needs to know of its step."""

    step: str
    launch: int = 1
    ordinal: int = 0
    reads: Sequence[Partition] = ()
    writes: Mapping[str, str] = field(default_factory=dict)
    """Written stream -> topic."""
    dead_letter_topic: str = ""
    max_dead_letters: int = 1000


@dataclass(slots=True)
class _Life:
    """What begins anew after a failure."""

    input: Input
    chains: dict[Partition, Chain]
    counters: dict[Partition, Counters]
    committed: dict[Partition, int]


class Runner:
    """Runs one pipeline until its input has ended, it is drained, or it is told to stop."""

    def __init__(
        self, pipeline: Pipeline, job: Job, *, committer: Committer | None, reader: Reader, observer: Observer
    ) -> None:
        self._pipeline = pipeline
        self._job = job
        self._committer = committer
        self._reader = reader
        self._observer = observer
        self._log = structlog.get_logger(component="runner")
        self._stopping = False
        self._drain: Drain | None = None
        self._told = asyncio.Event()
        self._sink_is_open = False
        self.counters = Counters()
        self.lag = 0

    def stop(self) -> None:
        """Take no further batch; the batch in hand is finished and committed."""
        self._stopping = True
        self._told.set()

    def drain(self, drain: Drain) -> None:
        """Read up to the given ends, then finish. A higher ``drain_id`` replaces a lower one."""
        if self._drain is None or drain.drain_id > self._drain.drain_id:
            self._drain = drain
            self._told.set()

    async def run(self) -> Outcome:
        """Until the end; begins again after every transient failure.

        Raises:
            FencedError: a successor lives.
            ConfigurationError, FatalError: it cannot go on.
        """
        try:
            for cache in self._pipeline.caches:
                opening = asyncio.ensure_future(until_done(cache.open, part="cache", observer=self._observer))
                if not await self._unless_stopped(opening):
                    return Outcome.STOPPED
            while True:
                try:
                    return await self._live()
                except StreamForgeError as error:
                    if not is_transient(error):
                        raise
                    self._log.warning("begin_again", reason=error.message)
                    self._observer.waiting("kafka", error.message)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await self._close()

    async def _close(self) -> None:
        for part in (self._pipeline.sink, *self._pipeline.caches, self._committer):
            if part is not None:
                await part.close()

    async def _live(self) -> Outcome:
        """One life: from the fencing of the former one to the end, or to a failure after which it begins again."""
        life = _Life(self._input(), {}, {}, {})
        beginning = asyncio.ensure_future(self._begin(life))
        try:
            if not await self._unless_stopped(beginning):
                return Outcome.STOPPED
            return await self._loop(life)
        finally:
            await life.input.close()

    async def _unless_stopped(self, task: asyncio.Future[Any]) -> bool:
        """Whether the task was done before a stop; nothing is in hand while a life begins, so it is simply left."""
        while not task.done() and not self._stopping:
            told = asyncio.ensure_future(self._told.wait())
            await asyncio.wait([task, told], return_when=asyncio.FIRST_COMPLETED)
            self._told.clear()
            told.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.wait({task})
        return False

    def _input(self) -> Input:
        job, pipeline = self._job, self._pipeline
        if pipeline.source is None:
            return StreamInput(self._reader, partitions=job.reads, batching=pipeline.batching)
        first = next(iter(job.writes.values()), None)
        slot = None if first is None or self._committer is None else (first, job.ordinal)
        return SourceInput(pipeline.source, partition=slot, batching=pipeline.batching, observer=self._observer)

    async def _begin(self, life: _Life) -> None:
        """Fence first, then read what was committed: the other way round gave stale offsets in 1 of 10 runs."""
        partitions = life.input.partitions
        committed: dict[Partition, Position] = {}
        if self._committer is not None:
            committer = self._committer
            await until_done(committer.start, part="kafka", observer=self._observer)
            committed = await until_done(lambda: committer.committed(partitions), part="kafka", observer=self._observer)
        self._observer.waiting("kafka", None)
        metadata = {p: checkpoint.decode(c.metadata, step=self._job.step) for p, c in committed.items()}
        self._must_be_newest(metadata.values())
        for partition in partitions or [("", 0)]:
            chain = Chain(self._pipeline, partition=partition, step=self._job.step, writes=self._job.writes)
            if partition in metadata:
                chain.restore(metadata[partition].states)
            life.chains[partition] = chain
            life.counters[partition] = metadata[partition].counters if partition in metadata else Counters()
            life.committed[partition] = committed[partition].offset if partition in committed else 0
        self._count(life)
        self._observer.resumed(self.counters)
        await life.input.open(committed, metadata)
        await self._open_sink()

    def _must_be_newest(self, metadata: Iterable[Metadata]) -> None:
        """Its id is its own again after ``start``, also for a worker whose node was taken for lost."""
        newest = max((found.launch for found in metadata), default=0)
        if newest > self._job.launch:
            raise FencedError(f"{self._job.step}: launch {newest} took over from launch {self._job.launch}")

    async def _open_sink(self) -> None:
        sink = self._pipeline.sink
        if sink is not None and not self._sink_is_open:
            await until_done(sink.open, part="sink", observer=self._observer)
            self._sink_is_open = True

    async def _loop(self, life: _Life) -> Outcome:
        while True:
            if await self._is_drained(life):
                await self._commit_controls(life)
                return Outcome.FINISHED
            if self._stopping:
                return Outcome.STOPPED
            try:
                works = await self._take(life)
            except EndOfSource:
                return await self._end_of_source(life)
            if works is not None:
                await self._finish_batch(life, works)

    async def _take(self, life: _Life) -> list[Work] | None:
        """The next batch, or None when there is something else to look at first."""
        taking = asyncio.ensure_future(life.input.take(life.chains))
        told = asyncio.ensure_future(self._told.wait())
        try:
            while True:
                # A commit's control record moves the position without giving a record: a drain has to look.
                timeout = None if self._drain is None else DRAIN_POLL_SECONDS
                await asyncio.wait({taking, told}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if taking.done():
                    return taking.result()
                self._told.clear()
                if self._stopping or await self._is_drained(life):
                    return taking.result() if taking.done() else None  # it may have come while this was asked
                if told.done():
                    told = asyncio.ensure_future(self._told.wait())
        finally:
            for task in (taking, told):
                task.cancel()
            await asyncio.wait({taking, told})
            if not taking.cancelled():
                taking.exception()

    async def _is_drained(self, life: _Life) -> bool:
        """Whether every partition was read up to the drain's ends. It changes nothing: a take may be under way."""
        if self._drain is None or self._pipeline.source is not None:
            return False
        if not life.input.partitions:
            return True
        for (topic, number), position in (await life.input.offsets()).items():
            end = self._drain.ends.get(topic, {}).get(number)
            if end is None or max(position, 0) < end:
                return False
        return True

    async def _commit_controls(self, life: _Life) -> None:
        """Control records alone lie behind what was committed: nothing to store, but the position is told."""
        positions = await life.input.offsets()
        if any(life.committed[partition] < position for partition, position in positions.items()):
            await self._commit(life, [])

    async def _end_of_source(self, life: _Life) -> Outcome:
        assert isinstance(life.input, SourceInput)
        life.input.finish()
        await self._commit(life, [], is_done=True)
        return Outcome.FINISHED

    async def _finish_batch(self, life: _Life, works: list[Work]) -> None:
        """Store, then commit; the observer learns what it took."""
        began = time.perf_counter()
        await self._write(works)
        stored = time.perf_counter()
        await self._commit(life, works)
        committed = time.perf_counter()
        self.lag = await life.input.lag()
        self._observer.progress(
            Progress(
                counters=self.counters.model_copy(deep=True),
                lag=self.lag,
                records=sum(work.read for work in works),
                sink_seconds=stored - began,
                commit_seconds=committed - stored,
            )
        )

    async def _write(self, works: Sequence[Work]) -> None:
        """Hand the values to the sink until it has confirmed them; what it refuses becomes a dead letter."""
        values: list[Any] = []
        for work in works:
            values += work.sinkable()
        if self._pipeline.sink is None or not values:
            return
        try:
            await until_done(lambda: self._write_once(values), part="sink", observer=self._observer)
        except BatchError as error:
            places = [(work, o) for work in works for o in work.sink_origins if o not in work.letters]
            for index, fault in error.failed.items():
                work, origin = places[index]
                work.refuse(origin, fault.code, fault.message)

    async def _write_once(self, values: Sequence[Any]) -> None:
        sink = self._pipeline.sink
        assert sink is not None
        if not self._sink_is_open:
            await sink.open()
            self._sink_is_open = True
        try:
            await sink.write(values)
        except StreamForgeError as error:
            if is_transient(error):
                self._sink_is_open = False
                await sink.close()
            raise

    async def _commit(self, life: _Life, works: Sequence[Work], *, is_done: bool = False) -> None:
        """One transaction: outputs, dead letters, offsets, states, counters."""
        offsets = await life.input.offsets()
        states = {partition: life.chains[partition].states() for partition in offsets}
        while True:
            counters = self._counted(life, works)
            metadata = {
                partition: Metadata(
                    counters[partition],
                    states[partition],
                    life.input.position_of(partition),
                    is_done=is_done,
                    launch=self._job.launch,
                )
                for partition in offsets
            }
            positions = {p: Position(offsets[p], checkpoint.encode(metadata[p], step=self._job.step)) for p in offsets}
            try:
                if self._committer is not None:
                    with told_when_slow("a transaction", part="kafka", observer=self._observer):
                        await self._committer.commit(self._outputs(works), positions)
                break
            except OutputsRefused as error:
                places = self._places(works)
                for index, reason in error.refused.items():
                    work, origin = places[index]
                    if origin in work.letters:
                        cut(work.letters[origin], reason)
                    work.refuse(origin, error.code, reason)
        life.counters = counters
        life.committed = {**life.committed, **offsets}
        self._count(life)

    def _counted(self, life: _Life, works: Sequence[Work]) -> dict[Partition, Counters]:
        counters = {partition: c.model_copy(deep=True) for partition, c in life.counters.items()}
        for work in works:
            checkpoint.add(counters[work.partition], work.counters())
        letters = sum(c.dead_lettered for c in counters.values())
        if letters > self._job.max_dead_letters and any(work.letters for work in works):
            first = next(letter for work in works for letter in work.letters.values())
            raise ConfigurationError(
                f"{self._job.step}: {letters} dead letters, more than max_dead_letters={self._job.max_dead_letters};"
                f" the last reason: {first.reason}",
                code="too-many-dead-letters",
            )
        return counters

    def _count(self, life: _Life) -> None:
        total = Counters()
        for counters in life.counters.values():
            checkpoint.add(total, counters)
        self.counters = total

    def _outputs(self, works: Sequence[Work]) -> list[Output]:
        """All that is to be written."""
        outputs: list[Output] = []
        for work in works:
            outputs += work.writable()
            for letter in work.letters.values():
                self._log.warning("dead_letter", code=letter.code, reason=letter.reason, offset=letter.offset)
                if self._job.dead_letter_topic:
                    outputs.append(dead_letter(work, letter, step=self._job.step, topic=self._job.dead_letter_topic))
        return outputs

    def _places(self, works: Sequence[Work]) -> list[tuple[Work, int]]:
        """The input record of each of ``_outputs``."""
        places: list[tuple[Work, int]] = []
        for work in works:
            places += [(work, origin) for origin in work.output_origins if origin not in work.letters]
            if self._job.dead_letter_topic:
                places += [(work, origin) for origin in work.letters]
        return places
