"""What a worker is made of, put together from its environment: the only place where adapters and core meet."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from streamforge_utils.contracts import names
from streamforge_utils.contracts.events import Counters
from streamforge_utils.control import Identity, Telemetry
from streamforge_utils.errors import TransientError
from streamforge_utils.kafka.admin import KafkaAdmin
from streamforge_utils.kafka.stream import StreamReader
from streamforge_utils.kafka.transactor import Transactor
from streamforge_utils.kafka.transport import KafkaControlTransport
from streamforge_utils.observability import Health, WorkerMetrics
from streamforge_utils.pipeline import Pipeline
from streamforge_utils.pipeline.ports import Partition, Progress
from streamforge_utils.pipeline.retry import until_done
from streamforge_utils.pipeline.runner import Job, Runner
from streamforge_utils.settings import WorkerSettings

_log = structlog.get_logger(component="worker")


@dataclass(frozen=True, slots=True)
class Parts:
    """The environment of a worker, and its ports that live as long as it does."""

    settings: WorkerSettings
    registry: CollectorRegistry
    metrics: WorkerMetrics
    health: Health
    transport: KafkaControlTransport
    telemetry: Telemetry
    identity: Identity

    @classmethod
    def of(cls, settings: WorkerSettings, target: str) -> "Parts":
        """Connects to nothing yet."""
        registry = CollectorRegistry()
        metrics = WorkerMetrics(registry)
        health = Health(awaited=("control", "pipeline"))
        identity = Identity.of(settings, target)
        transport = KafkaControlTransport(
            settings.kafka,
            control_topic=settings.queue_control_topic,
            events_topic=settings.queue_events_topic,
            offsets=settings.queue_control_offsets,
        )
        telemetry = Telemetry(transport, identity, health=health, metrics=metrics)
        return cls(settings, registry, metrics, health, transport, telemetry, identity)


class Watch:
    """The runner's Observer: what it does becomes metrics, health and telemetry."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._before = Counters()
        self._waits: dict[str, str] = {}

    def progress(self, progress: Progress) -> None:
        """Count what this commit added."""
        m, now, before = self._parts.metrics, progress.counters, self._before
        m.records.labels("stored").inc(now.stored - before.stored)
        m.records.labels("dead_lettered").inc(now.dead_lettered - before.dead_lettered)
        m.records.labels("dropped").inc(sum(now.dropped.values()) - sum(before.dropped.values()))
        m.written.inc(now.written - before.written)
        m.sink_seconds.observe(progress.sink_seconds)
        m.commit_seconds.observe(progress.commit_seconds)
        m.batch_seconds.observe(progress.sink_seconds + progress.commit_seconds)
        m.lag.set(progress.lag)
        m.last_commit.set_to_current_time()
        self._before = now
        self._parts.telemetry.progress(now, lag=progress.lag)

    def resumed(self, counters: Counters) -> None:
        """What was committed by former lives is not counted again by this process' metrics."""
        self._before = counters

    def waiting(self, part: str, reason: str | None) -> None:
        """Told once when a wait begins and once when it ends."""
        if reason is None:
            if self._waits.pop(part, None) is not None:
                _log.info("goes_on", part=part)
                self._parts.telemetry.report(f"{part} is there again")
        else:
            if part not in self._waits:
                _log.warning("waiting", part=part, reason=reason)
                self._parts.telemetry.report(f"waits for {part}: {reason}", waiting={"part": part, "reason": reason})
            self._waits[part] = reason
            self._parts.metrics.retries.labels(part).inc()
        told = "; ".join(f"waits for {name}: {why}" for name, why in self._waits.items())
        self._parts.health.set("pipeline", ok=not self._waits, reason=told)


async def make_runner(settings: WorkerSettings, pipeline: Pipeline, watch: Watch, admin: KafkaAdmin) -> Runner:
    """The runner of this ordinal; waits for Kafka as long as it takes."""
    streams = settings.streams
    reads: list[Partition] = []
    if streams.reads:
        counts = await until_done(_counter(admin, list(streams.reads.values())), part="kafka", observer=watch)
        reads = [
            (topic, number)
            for topic, count in counts.items()
            for number in range(count)
            if number % settings.replicas == settings.ordinal
        ]
    queue, step = settings.queue_id, settings.step
    committer = Transactor(
        settings.kafka,
        transactional_id=names.transactional_id(queue, step, settings.launch, settings.ordinal),
        former=[
            names.transactional_id(queue, step, launch, ordinal)
            for launch, replicas in settings.former
            for ordinal in range(replicas)
        ],
        group=names.group(queue, step),
        admin=admin,
    )
    watch.waiting("kafka", None)
    return Runner(
        pipeline,
        Job(
            step=step,
            launch=settings.launch,
            ordinal=settings.ordinal,
            reads=reads,
            writes=streams.writes,
            dead_letter_topic=settings.dead_letter_topic,
            max_dead_letters=settings.max_dead_letters,
        ),
        committer=committer if streams.reads or streams.writes else None,
        reader=StreamReader(settings.kafka),
        observer=watch,
    )


def _counter(admin: KafkaAdmin, topics: list[str]) -> Callable[[], Any]:
    async def count() -> dict[str, int]:
        counts = await admin.partitions(topics)
        if missing := [topic for topic in topics if topic not in counts]:
            raise TransientError(f"the topic {missing[0]} does not exist (yet); the queue-manager makes it")
        return counts

    return count
