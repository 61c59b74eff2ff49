"""A controller on real Kafka and a real store; workers are played by writing their events."""

import asyncio
import time
import uuid
from contextlib import asynccontextmanager
from typing import Any

import pytest

from queue_manager import decisions
from queue_manager.controller.broker import KafkaBroker
from queue_manager.controller.controller import Controller, Limits
from queue_manager.controller.launch import Platform
from queue_manager.controller.ports import Ports
from queue_manager.launcher.memory import MemoryLauncher
from queue_manager.model import StepSpec, StreamSpec, WorkflowSpec
from queue_manager.store.arango import ArangoStore
from streamforge_utils.arango import ArangoClient
from streamforge_utils.contracts.events import Event
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.log import TopicWriter
from streamforge_utils.observability import Health
from streamforge_utils.settings import ArangoSettings, KafkaSettings


class Stage:
    def __init__(self, kafka: KafkaSettings, arango: ArangoSettings) -> None:
        self.kafka = kafka
        self.arango = arango
        mark = uuid.uuid4().hex[:8]
        self.control, self.events = f"control-{mark}", f"events-{mark}"
        self.launcher = MemoryLauncher()
        self.writer = TopicWriter(kafka)
        self.store = self.new_store()
        self.health = Health()
        self.installation = ""
        self.seq = 0
        self.count = 0

    def new_store(self) -> ArangoStore:
        return ArangoStore(ArangoClient(self.arango))

    def broker(self) -> KafkaBroker:
        return KafkaBroker(self.kafka, control=self.control, events=self.events)

    async def open(self) -> None:
        admin = KafkaAdmin(self.kafka)
        await admin.create_topics([TopicSpec(self.control), TopicSpec(self.events, partitions=3)])
        await admin.close()
        await self.store.ensure()
        for collection in ("workflows", "workflow_events", "meta"):
            await self.store._client.drop_collection(collection)
        await self.store.ensure()
        self.installation = await self.store.installation()

    async def close(self) -> None:
        await self.writer.close()
        await self.store.close()

    @asynccontextmanager
    async def running(self, **limits: Any):
        store, broker = self.new_store(), self.broker()
        ports = Ports(store=store, broker=broker, launcher=self.launcher, platform=Platform({}, {}), clock=time.time)
        controller = Controller(ports, limits=Limits(lease_s=3.0, **limits), health=self.health)
        task = asyncio.create_task(controller.run())
        try:
            yield controller
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait([task])
            await broker.close()
            await store.close()

    async def submit(self, *steps: StepSpec, controller: Controller | None = None) -> str:
        self.count += 1
        queue_id = f"wf-btcusdt-api_candles_1m-20240801-{uuid.uuid4().hex[:6]}"
        spec = WorkflowSpec(
            installation=self.installation,
            symbol="BTCUSDT",
            type="api_candles_1m",
            collection="candles",
            created_at=time.time(),
            steps=steps,
            streams={s: StreamSpec(topic=f"{queue_id}-{s}") for step in steps for s in step.writes.values()},
            dead_letter_topic=f"{queue_id}-dead-letter",
        )
        document = await self.store.insert(decisions.accept(queue_id, spec))
        if controller is not None:
            controller.submitted(document)
        return queue_id

    async def say(self, queue_id: str, step: str, event: str, *, launch: int = 1, **payload: Any) -> None:
        self.seq += 1
        made = Event(
            queue_id=queue_id,
            producer=step,
            target=step,
            step=step,
            launch=launch,
            run=f"run-{launch}",
            seq=self.seq,
            event=event,
            installation=self.installation,
            payload=payload,
        )
        await self.writer.write(self.events, [(queue_id, made.to_json())])

    async def job(self, queue_id: str, step: str, launch: int = 1) -> str:
        async with asyncio.timeout(30):
            while True:
                for made in self.launcher.created:
                    if (made.queue_id, made.step, made.launch) == (queue_id, step, launch):
                        return made.name
                await asyncio.sleep(0.005)

    async def finish(self, queue_id: str, step: str, *, launch: int = 1, **payload: Any) -> None:
        job = await self.job(queue_id, step, launch)
        await self.say(queue_id, step, "started", launch=launch)
        await self.say(queue_id, step, "finished", launch=launch, **payload)
        self.launcher.exit(job, 0, 0)

    async def until(self, queue_id: str, holds: Any, *, timeout: float = 30) -> Any:
        async with asyncio.timeout(timeout):
            while True:
                document = await self.store.get(queue_id)
                if holds(document):
                    return document
                await asyncio.sleep(0.02)

    async def until_state(self, queue_id: str, state: str, *, timeout: float = 30) -> Any:
        return await self.until(queue_id, lambda d: d.status.state == state, timeout=timeout)


def _step(name: str, *, reads: tuple[str, ...] = (), writes: tuple[str, ...] = ()) -> StepSpec:
    return StepSpec(
        name=name,
        target=name,
        version="1",
        image=name,
        command=("x",),
        reads={s: s for s in reads},
        writes={s: s for s in writes},
    )


@pytest.fixture
def make_step():
    return _step


@pytest.fixture
async def stage(kafka, arango):
    made = Stage(
        KafkaSettings(bootstrap_servers=kafka.bootstrap_servers),
        ArangoSettings(url=arango.url, db=arango.database, user=arango.user, password=arango.password),
    )
    await made.open()
    yield made
    await made.close()
