"""What the runner must not do at unlucky moments: on the doubles, where each moment can be had."""

import asyncio

import orjson
import pytest
import stamina

from streamforge_utils.contracts.commands import Drain
from streamforge_utils.errors import FatalError, FencedError, NotConnected, TransientError
from streamforge_utils.pipeline import Batching, Pipeline
from streamforge_utils.pipeline.ports import OutputsRefused
from streamforge_utils.pipeline.runner import Job, Outcome, Runner
from streamforge_utils.testing import (
    ListSource,
    MemoryCommitter,
    MemoryKafka,
    MemoryReader,
    RecordingObserver,
)
from streamforge_utils.testing.pipeline import MemoryRecord

IN, OUT, DEAD = "in", "out", "dead"


pytestmark = pytest.mark.usefixtures("no_pause")


def fill(kafka, numbers):
    kafka.append((IN, 0), *(orjson.dumps({"_key": str(n), "n": n}) for n in numbers))


def make(kafka, pipeline=None, *, committer=None, reader=None, observer=None, **job):
    pipeline = pipeline or Pipeline()
    reads = [] if pipeline.source else [(IN, 0)]
    return Runner(
        pipeline,
        Job(step="s", reads=reads, writes={"out": OUT}, dead_letter_topic=DEAD, **job),
        committer=committer or MemoryCommitter(kafka),
        reader=reader or MemoryReader(kafka),
        observer=observer or RecordingObserver(),
    )


class ControlReader(MemoryReader):
    """Like Kafka: a commit's control record moves the position without giving a record."""

    controls = 0

    async def position(self, partition):
        return await super().position(partition) + self.controls


class During(MemoryCommitter):
    """Something happens while the next commit is under way."""

    act = None

    async def commit(self, outputs, positions):
        if self.act is not None:
            act, self.act = self.act, None
            act()
            for _ in range(5):
                await asyncio.sleep(0)
        await super().commit(outputs, positions)


async def test_a_record_that_comes_while_a_drain_is_committed_is_not_committed_past():
    kafka = MemoryKafka()
    fill(kafka, range(3))
    committer, reader = During(kafka), ControlReader(kafka)
    made = make(kafka, committer=committer, reader=reader)
    running = asyncio.ensure_future(made.run())
    while committer.commits < 1:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    reader.controls = 1
    committer.act = lambda: fill(kafka, [99])
    made.drain(Drain(drain_id=1, launch=1, ends={IN: {0: 4}}))
    assert await asyncio.wait_for(running, 5) is Outcome.FINISHED
    assert kafka.positions["g", (IN, 0)].offset == 4  # three records and one control record
    assert made.counters.read == 3


async def test_a_value_of_a_source_that_cannot_be_encoded_is_a_dead_letter():
    kafka = MemoryKafka()
    source = ListSource([{"_key": "1", "n": 1}, {"_key": "2", "n": 2**70}, {"_key": "3", "n": 3}])
    made = make(kafka, Pipeline(source=source))
    assert await made.run() is Outcome.FINISHED
    assert (made.counters.read, made.counters.stored, made.counters.dead_lettered) == (3, 2, 1)
    assert kafka.values(DEAD) == [b"{'_key': '2', 'n': 1180591620717411303424}"]


class Quiet:
    """Connected, and without a record for ever; the first connection breaks."""

    name = "quiet"

    def __init__(self):
        self.opened = 0
        self.connected = asyncio.Event()

    async def open(self, position):
        self.opened += 1

    async def read(self, max_records):
        if self.opened == 1:
            raise NotConnected("the connection broke")
        self.connected.set()
        await asyncio.Event().wait()

    async def close(self):
        pass


async def test_the_wait_for_a_source_is_over_when_it_is_connected_not_when_the_next_record_comes():
    kafka, source, observer = MemoryKafka(), Quiet(), RecordingObserver()
    made = make(kafka, Pipeline(source=source), observer=observer)
    running = asyncio.ensure_future(made.run())
    await asyncio.wait_for(source.connected.wait(), 5)
    assert [wait for wait in observer.waits if wait[0] == "source"] == [
        ("source", "the connection broke"),
        ("source", None),
    ]
    made.stop()
    assert await asyncio.wait_for(running, 5) is Outcome.STOPPED


class AwayCache:
    name = "cache"

    async def open(self):
        raise NotConnected("it is away")

    async def close(self):
        pass


async def test_a_stop_is_obeyed_while_a_cache_is_away():
    stamina.set_testing(False)
    made = make(MemoryKafka(), Pipeline(caches=[AwayCache()]))
    running = asyncio.ensure_future(made.run())
    await asyncio.sleep(0.05)
    made.stop()
    assert await asyncio.wait_for(running, 2) is Outcome.STOPPED


class Limited(MemoryCommitter):
    """Refuses what a broker would: key, value and headers together."""

    limit = 100_000
    tries = 0

    async def commit(self, outputs, positions):
        self.tries += 1
        assert self.tries < 10
        sizes = [len(o.key or b"") + len(o.value or b"") + sum(len(v) for _, v in o.headers) for o in outputs]
        if refused := {i: "too large" for i, size in enumerate(sizes) if size > self.limit}:
            raise OutputsRefused(refused)
        await super().commit(outputs, positions)


@pytest.mark.parametrize(("key", "value"), [(99_990, 10), (99_990, 99_990), (10, 200_000)])
async def test_a_dead_letter_that_is_too_large_by_its_key_is_cut_there_too(key, value):
    kafka = MemoryKafka()
    kafka.log[IN, 0] = [MemoryRecord(b"k" * key, b"?" * value, 0)]
    committer = Limited(kafka)
    made = make(kafka, committer=committer)
    made.drain(Drain(drain_id=1, launch=1, ends={IN: {0: 1}}))
    assert await made.run() is Outcome.FINISHED
    assert made.counters.dead_lettered == 1
    assert len(kafka.values(DEAD)) == 1


async def test_a_broker_that_takes_no_dead_letter_at_all_ends_the_worker():
    kafka = MemoryKafka()
    kafka.log[IN, 0] = [MemoryRecord(b"k", b"not json", 0)]
    committer = Limited(kafka)
    committer.limit = 1
    with pytest.raises(FatalError, match="is refused: too large"):
        await make(kafka, committer=committer).run()


async def test_a_worker_whose_launch_was_taken_over_while_it_was_cut_off_does_not_begin_again():
    kafka = MemoryKafka()
    fill(kafka, range(10))
    batching = Batching(max_records=5)
    parted, healed = asyncio.Event(), asyncio.Event()

    class CutOff(MemoryCommitter):
        async def commit(self, outputs, positions):
            parted.set()
            await healed.wait()
            raise TransientError("no answer")

    first = CutOff(kafka, transactional_id="s-1-0")
    old = asyncio.ensure_future(make(kafka, Pipeline(batching=batching), committer=first).run())
    await parted.wait()
    second = MemoryCommitter(kafka, transactional_id="s-2-0", former=("s-1-0",))
    successor = make(kafka, Pipeline(batching=batching), committer=second, launch=2)
    new = asyncio.ensure_future(successor.run())
    while second.commits < 2:
        await asyncio.sleep(0)
    healed.set()
    with pytest.raises(FencedError, match="launch 2 took over from launch 1"):
        await asyncio.wait_for(old, 5)
    fill(kafka, range(10, 20))
    successor.drain(Drain(drain_id=1, launch=2, ends={IN: {0: 20}}))
    assert await asyncio.wait_for(new, 5) is Outcome.FINISHED
    assert [orjson.loads(value)["n"] for value in kafka.values(OUT)] == list(range(20))
