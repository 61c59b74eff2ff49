"""A whole controller on doubles, in virtual time, with hands to play the workers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from queue_manager import decisions
from queue_manager.controller.controller import Controller, Limits
from queue_manager.controller.launch import Platform
from queue_manager.controller.memory import MemoryBroker
from queue_manager.controller.ports import Counts, Ports
from queue_manager.launcher.memory import MemoryLauncher
from queue_manager.model import StepSpec, StreamSpec, WorkflowDocument, WorkflowSpec
from queue_manager.store.memory import MemoryStore
from streamforge_utils.contracts.events import Event
from streamforge_utils.observability import Health

EPOCH = 1_700_000_000.0


def step(name: str, *, reads: tuple[str, ...] = (), writes: tuple[str, ...] = (), **more: Any) -> StepSpec:
    return StepSpec(
        name=name,
        target=name,
        version="1",
        image=name,
        command=("python", "-m", name),
        reads={stream: stream for stream in reads},
        writes={stream: stream for stream in writes},
        **more,
    )


def spec(steps: list[StepSpec], *, installation: str, created_at: float, queue_id: str, **more: Any) -> WorkflowSpec:
    streams = {stream for made in steps for stream in made.writes.values()}
    partitions = max(made.replicas for made in steps)
    return WorkflowSpec(
        installation=installation,
        template="test",
        symbol="BTCUSDT",
        type="api_candles_1m",
        collection="candles",
        created_at=created_at,
        steps=tuple(steps),
        streams={name: StreamSpec(topic=f"{queue_id}-{name}", partitions=partitions) for name in streams},
        dead_letter_topic=f"{queue_id}-dead-letter",
        **more,
    )


@dataclass
class Stage:
    """The doubles, the controller, and what a test plays."""

    store: MemoryStore = field(default_factory=MemoryStore)
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    launcher: MemoryLauncher = field(init=False)
    health: Health = field(default_factory=Health)
    installation: str = ""
    count: int = 0
    runs: dict[tuple[str, str, int], int] = field(default_factory=dict)
    orphans: list[int] = field(default_factory=list)
    """As many as were told, look by look."""

    def __post_init__(self) -> None:
        self.launcher = MemoryLauncher(clock=self.clock)

    @staticmethod
    def clock() -> float:
        return EPOCH + asyncio.get_running_loop().time()

    def controller(self, **limits: Any) -> Controller:
        ports = Ports(
            store=self.store,
            broker=self.broker,
            launcher=self.launcher,
            platform=Platform({}, {}),
            clock=self.clock,
            counts=Counts(orphans=self.orphans.append),
        )
        return Controller(ports, limits=Limits(**limits), health=self.health)

    @asynccontextmanager
    async def running(self, **limits: Any) -> AsyncIterator[Controller]:
        controller = self.controller(**limits)
        task = asyncio.create_task(controller.run())
        try:
            yield controller
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def submit(self, *steps: StepSpec, controller: Controller | None = None, **more: Any) -> str:
        self.count += 1
        self.installation = await self.store.installation()
        queue_id = f"wf-btcusdt-api_candles_1m-20240801-{self.count:06d}"
        made = spec(list(steps), installation=self.installation, created_at=self.clock(), queue_id=queue_id, **more)
        document = await self.store.insert(decisions.accept(queue_id, made))
        if controller is not None:
            controller.submitted(document)
        return queue_id

    async def get(self, queue_id: str) -> WorkflowDocument:
        document = await self.store.get(queue_id)
        assert document is not None, queue_id
        return document

    async def until(self, queue_id: str, holds: Callable[[WorkflowDocument], bool], *, timeout: float = 300) -> Any:
        async with asyncio.timeout(timeout):
            while not holds(document := await self.get(queue_id)):
                await asyncio.sleep(0.05)
        return document

    async def until_state(self, queue_id: str, state: str, *, timeout: float = 300) -> WorkflowDocument:
        return await self.until(queue_id, lambda document: document.status.state == state, timeout=timeout)

    async def job(self, queue_id: str, name: str, launch: int = 1) -> str:
        """The name of a launch's Job, once it is created."""
        async with asyncio.timeout(300):
            while True:
                for made in self.launcher.created:
                    if (made.queue_id, made.step, made.launch) == (queue_id, name, launch):
                        return made.name
                await asyncio.sleep(0.01)

    def say(self, queue_id: str, name: str, event: str, *, launch: int = 1, ordinal: int = 0, **more: Any) -> None:
        key = (queue_id, name, ordinal)
        self.runs[key] = self.runs.get(key, 0) + 1
        run = more.pop("run", f"run-{launch}-{ordinal}")
        self.broker.say(
            Event(
                queue_id=queue_id,
                producer=f"{name}-{ordinal}",
                target=name,
                step=name,
                launch=launch,
                ordinal=ordinal,
                run=run,
                seq=self.runs[key],
                event=event,
                installation=self.installation,
                timestamp=self.clock(),
                payload=more,
            )
        )

    async def finish(self, queue_id: str, name: str, *, launch: int = 1, ordinal: int = 0, **more: Any) -> None:
        """A worker's whole life: started, finished, exit 0."""
        job = await self.job(queue_id, name, launch)
        self.say(queue_id, name, "started", launch=launch, ordinal=ordinal)
        self.say(queue_id, name, "finished", launch=launch, ordinal=ordinal, **more)
        self.launcher.exit(job, ordinal, 0)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def make_step() -> Callable[..., StepSpec]:
    return step
