"""kill -9 of a worker and of the broker while records pass: the results are those of an undisturbed run."""

import asyncio
import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from streamforge_utils.contracts import names
from streamforge_utils.contracts.commands import Command, Drain
from streamforge_utils.contracts.events import Event, from_json
from streamforge_utils.errors import FencedError
from streamforge_utils.kafka.admin import TopicSpec
from streamforge_utils.kafka.stream import StreamReader
from streamforge_utils.kafka.transactor import Transactor
from streamforge_utils.kafka.transport import KafkaClientTransport
from streamforge_utils.pipeline.ports import Output, OutputsRefused, Position

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
ADDER = Path(__file__).with_name("adder.py")


@pytest.fixture
async def topics(admin):
    """Input with 2 partitions, output with 2, dead letters."""
    short = names.short_id()
    made = (f"in-{short}", f"out-{short}", f"dead-{short}")
    await admin.create_topics([TopicSpec(made[0], 2), TopicSpec(made[1], 2), TopicSpec(made[2], 1)])
    return made


def transactor(settings, admin, transactional_id, *, former=(), group="g"):
    return Transactor(settings, transactional_id=transactional_id, former=former, group=group, admin=admin)


async def read_all(settings, admin, topic, partitions=2):
    ends = await admin.end_offsets([(topic, p) for p in range(partitions)])
    reader = StreamReader(settings)
    await reader.start(dict.fromkeys(ends, -1))
    rows = {p: [] for p in range(partitions)}
    try:
        async with asyncio.timeout(20):
            while any([await reader.position(tp) < end for tp, end in ends.items()]):
                fetching = asyncio.ensure_future(reader.fetch(max_records=5000, max_bytes=10**7, linger_s=0.01))
                await asyncio.wait({fetching}, timeout=0.3)
                if not fetching.done():
                    fetching.cancel()
                    await asyncio.wait({fetching})
                    continue
                for (_, p), records in fetching.result().items():
                    rows[p] += records
    finally:
        await reader.close()
    return rows


async def fill(settings, admin, topic, count):
    writer = transactor(settings, admin, f"fill-{topic}")
    values = [Output(topic, str(n).encode(), orjson.dumps({"_key": str(n), "n": n}), ()) for n in range(count)]
    try:
        await writer.start()
        await writer.commit(values, {})
    finally:
        await writer.close()


def sums(rows):
    total, out = 0, []
    for row in rows:
        n = orjson.loads(row.value)["n"]
        total += n
        out.append((n, total))
    return out


class Workers:
    """The replicas of a step, started again when they end before their time, as a launcher does."""

    def __init__(self, kafka, topics, folder, queue):
        self._env = {
            **os.environ,
            **kafka.environment,
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "TARGET": "adder",
            "QUEUE_ID": queue,
            "REPLICAS": "2",
            "METRICS_PORT": "0",
            "GRACE_S": "6",
            "STREAMS": orjson.dumps({"reads": {"in": topics[0]}, "writes": {"out": topics[1]}}).decode(),
            "DEAD_LETTER_TOPIC": topics[2],
            "QUEUE_CONTROL_OFFSETS": '{"0": 0}',
            "PARAMS": orjson.dumps({"folder": str(folder)}).decode(),
        }
        self.log = (folder.parent / "log").open("ab")
        self.running = {}
        self.exits = []

    def start(self, ordinal):
        env = {**self._env, "ORDINAL": str(ordinal)}
        command = [sys.executable, str(ADDER)]
        self.running[ordinal] = subprocess.Popen(command, env=env, stderr=self.log)

    def tend(self):
        """Start again who has left with anything but 0."""
        for ordinal, process in list(self.running.items()):
            code = process.poll()
            if code == 0:
                del self.running[ordinal]
            elif code is not None:
                self.exits.append(code)
                self.start(ordinal)

    def close(self):
        for process in self.running.values():
            process.kill()
            process.wait()
        self.log.close()


async def test_killed_workers_and_a_killed_broker_change_nothing(kafka, settings, admin, topics, tmp_path):
    count, draw, queue = 6000, random.Random(7), f"wf-kills-{names.short_id()}"
    await fill(settings, admin, topics[0], count)
    ends = await admin.end_offsets([(topics[0], p) for p in (0, 1)])
    workers = Workers(kafka, topics, tmp_path / "sink", queue)
    client = KafkaClientTransport(settings, control_topic="queue-control", events_topic="queue-events")
    try:
        await client.open()
        for ordinal in (0, 1):
            workers.start(ordinal)
        for round_ in range(8):
            await asyncio.sleep(draw.uniform(0.3, 0.9))
            workers.tend()
            victim = draw.choice((0, 1))
            if victim in workers.running:
                workers.running[victim].kill()
            if round_ == 4:
                kafka.kill()
                kafka.start()
                kafka.wait_ready()
        drain = Drain(drain_id=1, launch=1, ends={topics[0]: {p: end for (_, p), end in ends.items()}})
        await client.send(Command(command="drain", queue_id=queue, payload=drain.model_dump()))
        async with asyncio.timeout(60):
            while workers.running:
                workers.tend()
                await asyncio.sleep(0.05)
    finally:
        workers.close()
        await client.close()
    fed = await read_all(settings, admin, topics[0])
    out = await read_all(settings, admin, topics[1])
    assert sum(map(len, fed.values())) == count
    for p in (0, 1):
        assert [(orjson.loads(r.value)["n"], orjson.loads(r.value)["sum"]) for r in out[p]] == sums(fed[p])
    stored = {int(file.name): int(file.read_text()) for file in (tmp_path / "sink").iterdir()}
    assert stored == {n: s for p in (0, 1) for n, s in sums(fed[p])}
    assert -9 in workers.exits


async def test_the_last_event_carries_totals_that_add_up(kafka, settings, admin, topics, tmp_path):
    queue = f"wf-totals-{names.short_id()}"
    await fill(settings, admin, topics[0], 300)
    ends = await admin.end_offsets([(topics[0], p) for p in (0, 1)])
    workers = Workers(kafka, topics, tmp_path / "sink", queue)
    client = KafkaClientTransport(settings, control_topic="queue-control", events_topic="queue-events")
    last = {}
    try:
        await client.open()
        for ordinal in (0, 1):
            workers.start(ordinal)
        drain = Drain(drain_id=1, launch=1, ends={topics[0]: {p: end for (_, p), end in ends.items()}})
        await client.send(Command(command="drain", queue_id=queue, payload=drain.model_dump()))
        async with asyncio.timeout(20):
            async for value in client.events():
                event = from_json(value)
                if isinstance(event, Event) and event.queue_id == queue and event.finished:
                    last[event.ordinal] = event
                    if len(last) == 2:
                        break
    finally:
        workers.close()
        await client.close()
    assert sum(event.counters.read for event in last.values()) == 300
    for event in last.values():
        c = event.counters
        assert c.read == c.stored + c.dead_lettered + sum(c.dropped.values())


async def test_a_record_too_large_is_named_and_the_rest_goes_through_without_it(settings, admin, topics):
    writer = transactor(settings, admin, f"large-{topics[1]}")
    await writer.start()
    outputs = [Output(topics[1], b"k", b"x", (), 0), Output(topics[1], b"k", b"x" * 2_000_000, (), 0)]
    try:
        with pytest.raises(OutputsRefused) as caught:
            await writer.commit(outputs, {(topics[0], 0): Position(1, "{}")})
        assert list(caught.value.refused) == [1]
        assert (await writer.committed([(topics[0], 0)]))[topics[0], 0].offset == -1
        await writer.commit(outputs[:1], {(topics[0], 0): Position(1, "{}")})
        await writer.start()
        assert (await writer.committed([(topics[0], 0)]))[topics[0], 0] == Position(1, "{}")
    finally:
        await writer.close()
    rows = await read_all(settings, admin, topics[1])
    assert [r.value for r in rows[0]] == [b"x"]


@pytest.mark.parametrize("size", [0, 3])
async def test_a_writer_whose_successor_has_started_may_not_commit(settings, admin, topics, size):
    zombie, successor = (transactor(settings, admin, f"fenced-{topics[1]}") for _ in range(2))
    outputs = [Output(topics[1], b"k", b"%d" % n, (), 0) for n in range(size)]
    position = {(topics[0], 0): Position(1, "{}")}
    try:
        await zombie.start()
        await zombie.commit(outputs, position)
        await successor.start()
        with pytest.raises(FencedError):
            await zombie.commit(outputs, {(topics[0], 0): Position(2, "{}")})
        await successor.commit(outputs, {(topics[0], 0): Position(3, "{}")})
        await successor.start()  # only behind the fence has the former transaction certainly ended
        assert (await successor.committed([(topics[0], 0)]))[topics[0], 0].offset == 3
    finally:
        await zombie.close()
        await successor.close()
    rows = await read_all(settings, admin, topics[1])
    assert len(rows[0]) == 2 * size


async def test_a_writer_that_is_fenced_at_any_moment_of_its_transactions_leaves(settings, admin, topics):
    """Also at the one at which the broker says "unknown server error" to the end of a transaction."""
    outputs = [Output(topics[1], b"k", b"x", (), 0)]
    for number in range(25):
        zombie, successor = (transactor(settings, admin, f"any-{number}-{topics[1]}") for _ in range(2))

        async def commit_for_ever(writer=zombie):
            for offset in itertools.count(1):
                await writer.commit(outputs, {(topics[0], 0): Position(offset, "{}")})

        try:
            await zombie.start()
            committing = asyncio.create_task(commit_for_ever())
            await asyncio.sleep(0.02 + number / 1000)
            await successor.start()
            with pytest.raises(FencedError):
                await asyncio.wait_for(committing, 20)
        finally:
            await zombie.close()
            await successor.close()


async def test_the_fence_ends_the_lives_of_former_launches(settings, admin, topics):
    former = transactor(settings, admin, f"former-{topics[1]}-1")
    own = transactor(settings, admin, f"former-{topics[1]}-2", former=[f"former-{topics[1]}-1"])
    try:
        await former.start()
        await own.start()
        with pytest.raises(FencedError):
            await former.commit([Output(topics[1], b"k", b"x", (), 0)], {(topics[0], 0): Position(1, "{}")})
    finally:
        await former.close()
        await own.close()
