from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from streamforge_utils.control import ControlListener, Handlers, Identity, Telemetry
from streamforge_utils.errors import PermanentError
from streamforge_utils.observability import Health, WorkerMetrics
from streamforge_utils.testing.control import MemoryControlTransport, MemoryTopics

ME = Identity(
    queue_id="wf-a",
    producer="load__abc123",
    target="loader",
    step="load",
    launch=2,
    ordinal=1,
    symbol="BTCUSDT",
    type="api_candles_1m",
    installation="inst",
)


@dataclass
class Worker:
    """One worker's control parts on topics in memory, and what its handlers were told."""

    topics: MemoryTopics
    offset: int | None = 0
    told: list = field(default_factory=list)

    def __post_init__(self):
        self.health = Health()
        self.registry = CollectorRegistry()
        self.metrics = WorkerMetrics(self.registry)
        self.transport = MemoryControlTransport(self.topics, offset=self.offset)
        self.telemetry = Telemetry(self.transport, ME, health=self.health, metrics=self.metrics)
        handlers = Handlers(
            on_stop=lambda is_drain: self.told.append(("stop", is_drain)),
            on_drain=lambda drain: self.told.append(("drain", drain.drain_id)),
            on_command=self.obey,
        )
        self.listener = ControlListener(
            self.transport, ME, self.telemetry, handlers, health=self.health, metrics=self.metrics
        )

    def obey(self, name, payload):
        if payload.get("bad"):
            raise PermanentError("a bad payload", code="wrong-schema")
        self.told.append((name, payload))

    def sample(self, name, **labels):
        return self.registry.get_sample_value(name, labels) or 0.0

    @property
    def skipped(self):
        return sum(
            s.value for m in self.metrics.messages_skipped.collect() for s in m.samples if s.name[-6:] == "_total"
        )

    @property
    def names(self):
        return [str(event.event) for event in self.transport.sent]


@pytest.fixture
def topics():
    return MemoryTopics()


@pytest.fixture
def worker(topics):
    return Worker(topics)


@pytest.fixture
def make_worker(topics):
    return lambda **given: Worker(topics, **given)
