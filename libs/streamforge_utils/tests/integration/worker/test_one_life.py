"""One life of a worker in this very process, from its environment to its exit code, on real Kafka."""

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import structlog
from pydantic import BaseModel, ConfigDict

from streamforge_utils.contracts import names
from streamforge_utils.contracts.commands import Command, Drain
from streamforge_utils.contracts.events import EventName, from_json
from streamforge_utils.errors import ConfigurationError, TransientError
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.log import TopicTail, TopicWriter
from streamforge_utils.kafka.transactor import fence
from streamforge_utils.kafka.transport import KafkaControlTransport
from streamforge_utils.pipeline import Batching, Delivery, Pipeline
from streamforge_utils.settings import KafkaSettings
from streamforge_utils.testing import ListSource, MemorySink
from streamforge_utils.worker import run_worker

# by a thread: what a signal raises within the worker's event loop ends nothing
pytestmark = [pytest.mark.integration, pytest.mark.timeout(60, method="thread")]

TARGET = "adder"
STORES = """
import sys
from streamforge_utils.arango import ArangoSink
from streamforge_utils.pipeline import Pipeline
from streamforge_utils.settings import NoParams
from streamforge_utils.testing import ListSource
from streamforge_utils.worker import run_worker

def build(context):
    return Pipeline(source=ListSource([{"_key": "1"}]), sink=ArangoSink(context.settings.arango, "things"))

sys.exit(run_worker("adder", NoParams, build))
"""
VALUES = [{"_key": str(n), "n": n} for n in range(20)]


class Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = 0


class Endless:
    """Gives a record every now and then, for ever; or raises."""

    name = "endless"

    def __init__(self, error=None):
        self._error = error
        self._count = 0

    async def open(self, position):
        self._count = position or 0

    async def read(self, max_records):
        await asyncio.sleep(0.01)
        if self._error is not None:
            raise self._error
        self._count += 1
        return Delivery([{"_key": str(self._count)}], self._count)

    async def close(self):
        pass


class Life:
    """What is done to the worker from outside, while it lives and afterwards."""

    def __init__(self, kafka, monkeypatch):
        self.settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
        self.queue_id = f"wf-life-{names.short_id()}"
        self._monkeypatch = monkeypatch
        self._before = self.ends()
        given = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "QUEUE_ID": self.queue_id, "METRICS_PORT": "0"}
        self.set(**given, QUEUE_CONTROL_OFFSETS=json.dumps(self.ends("queue-control")))

    def set(self, **variables):
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def ends(self, topic="queue-events"):
        async def ask():
            admin = KafkaAdmin(self.settings)
            try:
                return {number: end for (_, number), end in (await admin.end_offsets([(topic, 0)])).items()}
            finally:
                await admin.close()

        return asyncio.run(ask())

    def make_topics(self, *topics):
        async def make():
            admin = KafkaAdmin(self.settings)
            await admin.create_topics([TopicSpec(topic) for topic in topics])
            await admin.close()

        asyncio.run(make())

    def write(self, topic, values):
        async def send():
            writer = TopicWriter(self.settings)
            await writer.write(topic, [(v["_key"], json.dumps(v).encode()) for v in values])
            await writer.close()

        asyncio.run(send())

    def command(self, name, payload=None):
        async def send():
            writer = TopicWriter(self.settings)
            command = Command(command=name, queue_id=self.queue_id, payload=payload or {})
            await writer.write("queue-control", [(self.queue_id, command.to_json())])
            await writer.close()

        asyncio.run(send())

    def events(self):
        """What the worker has said so far."""

        async def read():
            tail, found = TopicTail(self.settings, "queue-events", self._before), []
            await tail.open()
            while any(tail.positions[number] < end for number, end in tail.ends.items()):
                found += [from_json(value) for _, _, value in await tail.read(0.1)]
            await tail.close()
            return [event for event in found if event.queue_id == self.queue_id]

        return asyncio.run(read())

    def said(self, name):
        """The event, once it was said."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if found := next((event for event in self.events() if event.event == name), None):
                return found
        raise AssertionError(f"{name} was not said")

    def names(self):
        return [str(event.event) for event in self.events() if event.event != "loading"]

    @contextmanager
    def meanwhile(self, act):
        """Another thread acts on the worker, which needs the main one for its signals."""
        faults = []

        def run():
            try:
                act()
            except BaseException as error:
                faults.append(error)
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join()
        assert not faults, faults


@pytest.fixture
def life(kafka, monkeypatch):
    configured, threshold = structlog.get_config(), gc.get_threshold()
    yield Life(kafka, monkeypatch)
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()
    gc.set_threshold(*threshold)


def of(source=None, sink=None):
    batching = Batching(max_records=7, linger_s=0.01)
    return lambda _: Pipeline(source=source, sink=sink or MemorySink(), batching=batching)


def test_a_worker_that_has_read_everything_says_so_and_leaves_with_0(life):
    topic = f"{life.queue_id}-data"
    life.make_topics(topic)
    life.set(STREAMS=json.dumps({"writes": {"data": topic}}))
    assert run_worker(TARGET, Params, of(ListSource(VALUES))) == 0
    assert life.names() == ["started", "finished"]
    finished = life.said("finished")
    assert finished.payload["counters"]["stored"] == finished.payload["counters"]["written"] == len(VALUES)
    assert life.ends(topic)[0] > len(VALUES)


def test_a_reader_is_drained(life):
    topic = f"{life.queue_id}-data"
    sink = MemorySink()
    life.set(STREAMS=json.dumps({"reads": {"data": topic}}))

    def act():
        life.said("loading")  # it waits for a topic that is not there
        life.command("drain", Drain(drain_id=1, launch=1, ends={topic: {0: len(VALUES)}}).model_dump(mode="json"))
        life.make_topics(topic)
        life.write(topic, VALUES)

    with life.meanwhile(act):
        assert run_worker(TARGET, Params, of(sink=sink)) == 0
    assert f"the topic {topic} does not exist" in life.said("loading").message
    assert life.names()[-1] == "finished"
    assert sorted(sink.documents) == sorted(v["_key"] for v in VALUES)


@pytest.mark.parametrize(("payload", "last"), [({}, "interrupted"), ({"drain": True}, "finished")])
def test_a_stopped_worker_says_how_far_it_came(life, payload, last):
    topic = f"{life.queue_id}-data"
    life.make_topics(topic)
    life.set(STREAMS=json.dumps({"writes": {"data": topic}}))

    def act():
        life.said("started")
        life.command("stop", payload)

    with life.meanwhile(act):
        assert run_worker(TARGET, Params, of(Endless())) == 0
    assert life.names()[-1] == last
    assert life.said(last).payload.get("partial", False) is (last == "finished")


def test_a_worker_that_is_stopped_before_it_could_begin_says_so(life):
    life.set(STREAMS=json.dumps({"reads": {"data": f"{life.queue_id}-never"}}))

    def act():
        life.said("loading")
        life.command("stop")

    with life.meanwhile(act):
        assert run_worker(TARGET, Params, of()) == 0
    assert life.names()[-1] == "interrupted"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_without_a_last_word(life, number, code):
    def act():
        life.said("started")
        os.kill(os.getpid(), number)

    with life.meanwhile(act):
        assert run_worker(TARGET, Params, of(Endless())) == code
    assert life.names() == ["started"]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigurationError("line 3 is no candle", code="bad-input"), 78, "bad-input"),
        (ZeroDivisionError("of ours"), 70, "fatal"),
    ],
)
def test_an_error_is_told_and_is_the_exit_code(life, error, code, told):
    assert run_worker(TARGET, Params, of(Endless(error))) == code
    event = life.said("error")
    assert str(error) in event.message
    assert event.payload["reason"]["code"] == told
    assert life.names() == ["started", "error"]


def test_an_error_that_names_a_file_whose_name_is_no_text_is_told(life):
    assert run_worker(TARGET, Params, of(Endless(ConfigurationError("/data/\udcff.csv is empty")))) == 78
    assert life.said("error").message == "/data/?.csv is empty"


@pytest.mark.parametrize(
    ("refusal", "code"),
    [(ConfigurationError("no right to write", code="not-authorized"), 78), (ValueError("ours"), 75)],
)
def test_a_last_word_that_can_never_be_said_is_not_waited_for(life, monkeypatch, refusal, code):
    send = KafkaControlTransport.send

    async def refusing(transport, event):
        if event.event is EventName.FINISHED:
            raise refusal
        await send(transport, event)

    monkeypatch.setattr(KafkaControlTransport, "send", refusing)
    before = time.monotonic()
    assert run_worker(TARGET, Params, of(ListSource(VALUES))) == code
    assert time.monotonic() - before < 20
    assert life.names() == ["started"]


def test_a_store_that_never_answers_does_not_hold_up_the_end(life):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        life.set(ARANGO_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        child = subprocess.Popen([sys.executable, "-c", STORES])
        try:
            asked, _ = silent.accept()
            life.command("stop")
            life.said("interrupted")
            assert child.wait(8) == 0  # LEAVE_SECONDS, and what an end takes on a busy machine
        finally:
            child.kill()
            child.wait()
        asked.close()


def test_a_worker_whose_place_was_taken_leaves_without_a_word(life):
    topic = f"{life.queue_id}-data"
    life.make_topics(topic)
    life.set(STREAMS=json.dumps({"writes": {"data": topic}}))

    def act():
        life.said("loading")
        asyncio.run(fence(life.settings, [names.transactional_id(life.queue_id, TARGET, 1, 0)]))

    with life.meanwhile(act):
        assert run_worker(TARGET, Params, of(Endless())) == 75
    assert life.names() == ["started"]


def test_a_source_that_is_away_is_waited_for(life, capfd):
    source, sink = ListSource(VALUES, fails={5: TransientError("not now")}), MemorySink()
    assert run_worker(TARGET, Params, of(source, sink)) == 0
    assert len(sink.documents) == len(VALUES)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["part"] for line in lines if line["event"] in ("waiting", "goes_on")] == ["source", "source"]


def test_wrong_params_are_named_before_anything_is_connected(life, capfd):
    assert run_worker(TARGET, Params, of(), given={"size": "many", "other": 1}) == 78
    told = capfd.readouterr().err
    assert "SIZE" in told
    assert "OTHER" in told
    assert life.events() == []


def test_a_taken_port_is_named(life, capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        life.set(METRICS_PORT=str(port))
        assert run_worker(TARGET, Params, of()) == 78
    assert str(port) in capfd.readouterr().err
    assert str(port) in life.said("error").message
    assert life.names() == ["error"]


def test_a_worker_started_by_hand_makes_a_name_and_finds_the_local_stack(life, kafka, monkeypatch, tmp_path):
    (tmp_path / "local.env").write_text(f"# made by hand\nKAFKA_BOOTSTRAP_SERVERS={kafka.bootstrap_servers}\n")
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "QUEUE_ID"):
        monkeypatch.delenv(name)
    life.set(STREAMFORGE_HOME=str(tmp_path))
    seen = []

    def build(context):
        seen.append(context.settings)
        return Pipeline(source=ListSource(VALUES), sink=MemorySink())

    assert run_worker(TARGET, Params, build) == 0
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS")
    assert seen[0].queue_id.startswith(f"wf-{TARGET}-by-hand-")
    assert seen[0].step == TARGET
