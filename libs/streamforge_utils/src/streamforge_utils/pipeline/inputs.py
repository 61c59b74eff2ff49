"""Where a worker's records come from, in one form: the streams it was given, or a source of its own."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from streamforge_utils.errors import NotConnected, TransientError
from streamforge_utils.pipeline.chain import Chain, Work
from streamforge_utils.pipeline.interfaces import Batching, Delivery, EndOfSource, Source
from streamforge_utils.pipeline.ports import Metadata, Observer, Partition, Position, Reader
from streamforge_utils.pipeline.retry import until_done


class Input(Protocol):
    """Gives work, and knows what is to be committed for it. One life long: made anew after a failure."""

    partitions: Sequence[Partition]
    """Under which of them offsets are kept."""

    async def open(self, committed: Mapping[Partition, Position], metadata: Mapping[Partition, Metadata]) -> None:
        """Go on behind what was committed."""

    async def take(self, chains: Mapping[Partition, Chain]) -> list[Work]:
        """Wait for records and process them. Cancelling it while it waits loses nothing.

        Raises:
            EndOfSource: a source of its own has no more.
        """

    async def offsets(self) -> dict[Partition, int]:
        """The offsets to be committed for all that was taken."""

    def position_of(self, partition: Partition) -> object:
        """A source's position, None for a stream."""

    async def lag(self) -> int:
        """How many records lie ahead, as far as is known."""

    async def close(self) -> None:
        """Idempotent."""


class StreamInput:
    """Partitions of streams."""

    def __init__(self, reader: Reader, *, partitions: Sequence[Partition], batching: Batching) -> None:
        self.partitions = partitions
        self._reader = reader
        self._batching = batching

    async def open(self, committed: Mapping[Partition, Position], metadata: Mapping[Partition, Metadata]) -> None:
        """Seek to what was committed."""
        await self._reader.start({partition: committed[partition].offset for partition in self.partitions})

    async def take(self, chains: Mapping[Partition, Chain]) -> list[Work]:
        """Fetch and process."""
        b = self._batching
        fetched = await self._reader.fetch(max_records=b.max_records, max_bytes=b.max_bytes, linger_s=b.linger_s)
        return [chains[partition].records(records) for partition, records in fetched.items()]

    async def offsets(self) -> dict[Partition, int]:
        """The reader's positions: they pass control records and aborted batches, last offset + 1 does not."""
        return {partition: await self._reader.position(partition) for partition in self.partitions}

    def position_of(self, partition: Partition) -> object:
        """A stream's position is its offset."""
        return None

    async def lag(self) -> int:
        """As the reader knows it."""
        return await self._reader.lag()

    async def close(self) -> None:
        """Close the reader."""
        await self._reader.close()


class SourceInput:
    """A source of its own. Its position lies under a partition of the first written stream, with a rising offset."""

    def __init__(self, source: Source, *, partition: Partition | None, batching: Batching, observer: Observer) -> None:
        self.partitions: Sequence[Partition] = [] if partition is None else [partition]
        self._partition: Partition = partition or ("", 0)
        self._source = source
        self._batching = batching
        self._observer = observer
        self._reading: asyncio.Task[Delivery] | None = None
        self._position: object = None
        self._count = 0
        self._is_done = False
        self._is_open = False
        self._is_lost = False

    async def open(self, committed: Mapping[Partition, Position], metadata: Mapping[Partition, Metadata]) -> None:
        """Go on behind the committed position."""
        if self.partitions:
            self._count = max(committed[self._partition].offset, 0)
            self._position = metadata[self._partition].position
            self._is_done = metadata[self._partition].is_done
        if not self._is_done:
            await until_done(self._ensure_open, part="source", observer=self._observer)

    async def _ensure_open(self) -> None:
        if not self._is_open:
            await self._source.open(self._position)
            self._is_open = True

    async def take(self, chains: Mapping[Partition, Chain]) -> list[Work]:
        """Gather deliveries until a batch is full or the first has waited for ``linger_s``."""
        if self._is_done:
            raise EndOfSource
        loop = asyncio.get_running_loop()
        chain = chains[self._partition]
        works = [chain.delivery(await self._next())]
        until = loop.time() + self._batching.linger_s
        taken = works[0].read
        while taken < self._batching.max_records and (left := until - loop.time()) > 0:
            self._start_reading()
            done, _ = await asyncio.wait({self._reading}, timeout=left)  # type: ignore[type-var]
            if not done or self._failed():
                break
            works.append(chain.delivery(await self._next()))
            taken += works[-1].read
        self._count += 1
        if not self._failed():
            self._start_reading()  # the source goes on while this batch is stored and committed
        return works

    def _start_reading(self) -> None:
        if self._reading is None:
            self._reading = asyncio.create_task(self._source.read(self._batching.max_records), name="source-read")

    def _failed(self) -> bool:
        """Whether the read in hand has ended without a delivery; its error is raised by the next ``take``."""
        return self._reading is not None and self._reading.done() and self._reading.exception() is not None

    async def _next(self) -> Delivery:
        delivery = await until_done(self._read, part="source", observer=self._observer)
        self._position = delivery.position
        return delivery

    async def _read(self) -> Delivery:
        await self._ensure_open()
        if self._is_lost:  # connected again: the next record may take hours
            self._is_lost = False
            self._observer.waiting("source", None)
        self._start_reading()
        reading = self._reading
        assert reading is not None
        try:
            # Shielded: who waits here may be cancelled (to look at a drain), the read in hand goes on.
            delivery = await asyncio.shield(reading)
        except NotConnected:
            self._reading = None
            self._is_open = False
            self._is_lost = True
            await self._source.close()
            raise
        except (TransientError, EndOfSource):
            self._reading = None
            raise
        except asyncio.CancelledError:
            if reading.cancelled():
                self._reading = None
            raise
        self._reading = None
        return delivery

    def finish(self) -> None:
        """Count the commit that says that the source is done."""
        self._count += 1
        self._is_done = True

    async def offsets(self) -> dict[Partition, int]:
        """The number of commits so far."""
        return dict.fromkeys(self.partitions, self._count)

    def position_of(self, partition: Partition) -> object:
        """Where the source goes on."""
        return self._position

    async def lag(self) -> int:
        """Unknown."""
        return 0

    async def close(self) -> None:
        """End the read in hand, then the source."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
            if not self._reading.cancelled():
                self._reading.exception()
            self._reading = None
        await self._source.close()
