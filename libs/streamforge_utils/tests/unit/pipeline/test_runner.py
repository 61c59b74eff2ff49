import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamforge_utils.contracts.commands import Drain
from streamforge_utils.contracts.dead_letters import FOR_STEP, DeadLetter
from streamforge_utils.errors import ConfigurationError, FencedError, NotConnected, PermanentError, TransientError
from streamforge_utils.pipeline import Batch, Batching, Pipeline, letters
from streamforge_utils.pipeline.runner import Job, Outcome, Runner
from streamforge_utils.testing import (
    ListSource,
    MemoryCommitter,
    MemoryKafka,
    MemoryReader,
    MemorySink,
    RecordingObserver,
)

IN, OUT, DEAD = "in", "out", "dead"


pytestmark = pytest.mark.usefixtures("no_pause")


class Sum:
    """Adds the running sum: a processor whose results tell whether its state was kept exactly."""

    name = "sum"

    def __init__(self) -> None:
        self.total = 0

    def process(self, batch: Batch) -> Batch:
        out: list[Any] = []
        for i, value in enumerate(batch.values):
            if value["n"] < 0:
                batch.refuse(i, "rejected", "negative")
                out.append(None)
            elif value["n"] % 10 == 9:
                batch.drop(i, "nine")
                out.append(None)
            else:
                if not batch.is_late:
                    self.total += value["n"]
                out.append({**value, "sum": self.total})
        return batch.derived(out, batch.origins)

    def state(self) -> int:
        return self.total

    def restore(self, state: int) -> None:
        self.total = state


def record(n: int) -> dict[str, Any]:
    return {"_key": str(n), "n": n}


def fill(kafka: MemoryKafka, numbers, partition: int = 0) -> None:
    kafka.append((IN, partition), *(orjson.dumps(record(n)) for n in numbers))


def make(kafka: MemoryKafka, pipeline: Pipeline, *, partitions=1, **job: Any):
    committer = MemoryCommitter(kafka)
    reads = [] if pipeline.source else [(IN, p) for p in range(partitions)]
    made = Runner(
        pipeline,
        Job(step="step", reads=reads, writes={"out": OUT}, dead_letter_topic=DEAD, **job),
        committer=committer,
        reader=MemoryReader(kafka),
        observer=RecordingObserver(),
    )
    return made, committer


def drain(kafka: MemoryKafka, partitions=1, drain_id=1) -> Drain:
    return Drain(drain_id=drain_id, launch=1, ends={IN: {p: kafka.end((IN, p)) for p in range(partitions)}})


def expected(numbers) -> list[dict[str, Any]]:
    total, out = 0, []
    for n in numbers:
        if n >= 0 and n % 10 != 9:
            total += n
            out.append({**record(n), "sum": total})
    return out


def check(kafka: MemoryKafka, made: Runner, numbers) -> None:
    good = expected(numbers)
    assert [orjson.loads(v) for v in kafka.values(OUT)] == good
    counters = made.counters
    assert counters.read == len(numbers)
    assert counters.dead_lettered == sum(n < 0 for n in numbers)
    assert counters.dropped.get("nine", 0) == sum(n >= 0 and n % 10 == 9 for n in numbers)
    assert counters.read == counters.stored + counters.dead_lettered + sum(counters.dropped.values())
    assert counters.written == len(good)


async def test_a_drained_step_finishes_at_the_given_end():
    kafka, numbers = MemoryKafka(), list(range(100))
    fill(kafka, numbers)
    made, _ = make(kafka, Pipeline(processors=lambda: [Sum()], batching=Batching(max_records=7)))
    made.drain(drain(kafka))
    assert await made.run() is Outcome.FINISHED
    check(kafka, made, numbers)


async def test_a_drain_that_comes_while_nothing_arrives_is_followed():
    kafka = MemoryKafka()
    fill(kafka, range(5))
    made, _ = make(kafka, Pipeline(processors=lambda: [Sum()]))
    running = asyncio.create_task(made.run())
    while made.counters.read < 5:
        await asyncio.sleep(0.001)
    made.drain(drain(kafka))
    assert await asyncio.wait_for(running, 1) is Outcome.FINISHED


async def test_a_step_whose_end_is_its_start_has_finished_at_once():
    kafka = MemoryKafka()
    made, _ = make(kafka, Pipeline())
    made.drain(Drain(drain_id=1, launch=1, ends={IN: {0: 0}}))
    assert await made.run() is Outcome.FINISHED


async def test_the_higher_drain_id_holds():
    kafka = MemoryKafka()
    fill(kafka, range(5))
    made, _ = make(kafka, Pipeline())
    made.drain(Drain(drain_id=2, launch=1, ends={IN: {0: 5}}))
    made.drain(Drain(drain_id=1, launch=1, ends={IN: {0: 2}}))
    await made.run()
    assert made.counters.read == 5


async def test_a_stopped_step_says_so_and_the_next_life_goes_on_where_it_left():
    kafka, numbers = MemoryKafka(), list(range(50))
    fill(kafka, numbers)
    made, committer = make(kafka, Pipeline(processors=lambda: [Sum()], batching=Batching(max_records=10)))
    running = asyncio.create_task(made.run())
    while committer.commits < 2:
        await asyncio.sleep(0)
    made.stop()
    assert await running is Outcome.STOPPED
    again, _ = make(kafka, Pipeline(processors=lambda: [Sum()], batching=Batching(max_records=10)))
    again.drain(drain(kafka))
    assert await again.run() is Outcome.FINISHED
    check(kafka, again, numbers)


async def test_a_stopped_idle_step_leaves_at_once():
    kafka = MemoryKafka()
    made, _ = make(kafka, Pipeline())
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0.01)
    made.stop()
    assert await asyncio.wait_for(running, 1) is Outcome.STOPPED


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.integers(-5, 200), max_size=80, unique=True),
    crashes=st.lists(st.integers(0, 12), max_size=6),
    size=st.integers(1, 30),
)
async def test_failed_commits_at_any_moment_change_nothing(numbers, crashes, size):
    kafka = MemoryKafka()
    fill(kafka, numbers)
    made, committer = make(kafka, Pipeline(processors=lambda: [Sum()], batching=Batching(max_records=size)))
    for gap in crashes:
        committer.fails += [None] * gap + [TransientError("the coordinator moved")]
    made.drain(drain(kafka))
    assert await made.run() is Outcome.FINISHED
    check(kafka, made, numbers)


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 200), max_size=80, unique=True),
    fails=st.dictionaries(
        st.integers(0, 80), st.sampled_from([NotConnected("away"), TransientError("slow")]), max_size=5
    ),
    crashes=st.lists(st.integers(0, 9), max_size=4),
    size=st.integers(1, 30),
)
async def test_a_source_goes_on_exactly_where_it_was_whatever_fails(numbers, fails, crashes, size):
    kafka = MemoryKafka()
    source = ListSource([record(n) for n in numbers], fails=fails)
    made, committer = make(
        kafka,
        Pipeline(source=source, processors=lambda: [Sum()], batching=Batching(max_records=size, linger_s=0.0005)),
    )
    for gap in crashes:
        committer.fails += [None] * gap + [TransientError("the coordinator moved")]
    assert await made.run() is Outcome.FINISHED
    check(kafka, made, numbers)


async def test_a_source_that_had_finished_says_so_again_without_reading():
    kafka = MemoryKafka()
    values = [record(n) for n in range(5)]
    made, _ = make(kafka, Pipeline(source=ListSource(values)))
    await made.run()
    source = ListSource(values)
    again, _ = make(kafka, Pipeline(source=source))
    assert await again.run() is Outcome.FINISHED
    assert source.opened == []
    assert again.counters.read == 5
    assert len(kafka.values(OUT)) == 5


async def test_what_the_store_refuses_is_dead_lettered_with_its_bytes_and_place():
    kafka = MemoryKafka()
    fill(kafka, range(4))
    sink = MemorySink(refused={"2": PermanentError("no such schema", code="rejected")})
    made, _ = make(kafka, Pipeline(sink=sink))
    made.drain(drain(kafka))
    await made.run()
    assert sorted(sink.documents) == ["0", "1", "3"]
    [dead] = kafka.log[DEAD, 0]
    letter = DeadLetter.read(dead.key, dead.value, dead.headers)
    assert (letter.code, letter.reason, letter.topic, letter.offset) == ("rejected", "no such schema", IN, 2)
    assert letter.value == orjson.dumps(record(2))
    assert made.counters.stored == 3
    assert len(kafka.values(OUT)) == 3


async def test_a_store_that_fails_gets_the_same_batch_again_and_is_opened_again():
    kafka = MemoryKafka()
    fill(kafka, range(10))
    sink = MemorySink(fails=[NotConnected("away"), TransientError("lock")])
    made, _ = make(kafka, Pipeline(sink=sink))
    made.drain(drain(kafka))
    await made.run()
    assert len(sink.documents) == 10
    assert sink.opened == 3
    assert made.counters.stored == 10


async def test_records_that_are_not_json_are_dead_lettered():
    kafka = MemoryKafka()
    fill(kafka, [1])
    kafka.append((IN, 0), b"{", b"", None, b"\xff")
    fill(kafka, [2])
    made, _ = make(kafka, Pipeline(processors=lambda: [Sum()]))
    made.drain(drain(kafka))
    await made.run()
    assert made.counters.dead_lettered == 4
    assert kafka.values(DEAD) == [b"{", b"", None, b"\xff"]
    assert len(kafka.values(OUT)) == 2


async def test_an_output_that_the_broker_refuses_makes_its_input_a_dead_letter():
    kafka = MemoryKafka(max_bytes=100)
    kafka.append((IN, 0), orjson.dumps({"_key": "big", "text": "x" * 200}))
    fill(kafka, [1])
    made, _ = make(kafka, Pipeline())
    made.drain(drain(kafka))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(letters, "TRUNCATED_BYTES", 50)
        await made.run()
    [dead] = kafka.log[DEAD, 0]
    assert dict(dead.headers)["code"] == b"too-large"
    assert dict(dead.headers)["truncated"] == b"1"
    assert len(dead.value or b"") == 50
    assert (made.counters.stored, made.counters.dead_lettered) == (1, 1)


async def test_too_many_dead_letters_end_the_step_without_the_commit():
    kafka = MemoryKafka()
    kafka.append((IN, 0), b"{", b"{", b"{")
    made, committer = make(kafka, Pipeline(), max_dead_letters=2)
    made.drain(drain(kafka))
    with pytest.raises(ConfigurationError, match="3 dead letters") as caught:
        await made.run()
    assert caught.value.code == "too-many-dead-letters"
    assert committer.commits == 0


async def test_a_fenced_life_ends():
    kafka = MemoryKafka()
    fill(kafka, range(3))
    made, _ = make(kafka, Pipeline(batching=Batching(max_records=1)))
    running = asyncio.create_task(made.run())
    while made.counters.read < 3:
        await asyncio.sleep(0)
    await MemoryCommitter(kafka).start()
    fill(kafka, [4])
    with pytest.raises(FencedError):
        await running


async def test_a_redriven_record_is_for_one_step_and_leaves_the_state_alone():
    kafka = MemoryKafka()
    fill(kafka, [1, 2])
    kafka.append((IN, 0), orjson.dumps(record(100)), headers=((FOR_STEP, b"step"),))
    kafka.append((IN, 0), orjson.dumps(record(200)), headers=((FOR_STEP, b"other"),))
    fill(kafka, [3])
    made, _ = make(kafka, Pipeline(processors=lambda: [Sum()]))
    made.drain(drain(kafka))
    await made.run()
    sums = {row["n"]: row["sum"] for row in map(orjson.loads, kafka.values(OUT))}
    assert sums == {1: 1, 2: 3, 3: 6, 100: 6}
    assert made.counters.dropped == {"for-other-step": 1}


async def test_a_processor_may_route_to_several_outputs():
    class Route:
        name = "route"

        def process(self, batch: Batch):
            even = [i for i, v in enumerate(batch.values) if v["n"] % 2 == 0]
            return {"out": batch.derived([batch.values[i] for i in even], even), "sink": batch}

    kafka = MemoryKafka()
    fill(kafka, range(6))
    sink = MemorySink()
    made, _ = make(kafka, Pipeline(processors=lambda: [Route()], sink=sink))
    made.drain(drain(kafka))
    await made.run()
    assert len(sink.documents) == 6
    assert len(kafka.values(OUT)) == 3
    assert (made.counters.stored, made.counters.written) == (6, 3)


async def test_a_state_that_no_commit_can_carry_is_a_configuration_error():
    class Hoarder(Sum):
        def state(self):
            return "x" * 5000

    kafka = MemoryKafka()
    fill(kafka, [1])
    made, _ = make(kafka, Pipeline(processors=lambda: [Hoarder()]))
    made.drain(drain(kafka))
    with pytest.raises(ConfigurationError, match="4096") as caught:
        await made.run()
    assert caught.value.code == "state-too-large"


async def test_every_partition_keeps_its_own_state_and_end():
    kafka = MemoryKafka()
    fill(kafka, [1, 2, 3], 0)
    fill(kafka, [10, 20], 1)
    made, _ = make(kafka, Pipeline(processors=lambda: [Sum()]), partitions=2)
    made.drain(drain(kafka, 2))
    await made.run()
    sums = {row["n"]: row["sum"] for row in map(orjson.loads, kafka.values(OUT))}
    assert sums == {1: 1, 2: 3, 3: 6, 10: 10, 20: 30}
    assert made.counters.read == 5
