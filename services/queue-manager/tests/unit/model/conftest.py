"""Small workflows for the pure parts."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from queue_manager import decisions
from queue_manager.fold import Sent, fold
from queue_manager.launcher.interface import JobStatus, OrdinalStatus
from queue_manager.model import DrainRecord, Launch, StepEnd, StepSpec, StreamSpec, WorkflowDocument, WorkflowSpec
from streamforge_utils.contracts.events import Event

QUEUE_ID = "wf-btcusdt-api_candles_1m-20240801-abc123"


@dataclass
class Story:
    """A workflow's document, told step by step."""

    document: WorkflowDocument
    now: float = 1000.0
    seq: int = 0
    offset: int = 0
    sent: list[Sent] = field(default_factory=list)

    def launch(self, name: str, **more: Any) -> Launch:
        number = len(self.document.step(name).launches) + 1
        record = Launch(
            number=number,
            attempt=self.document.status.attempt,
            job=f"job-{name}-{number}",
            decision_id=f"{name}-{number}",
            replicas=self.document.spec.step(name).replicas,
            control_offsets={0: 0},
            digest="d",
            recorded_at=self.now,
            **more,
        )
        self.document = decisions.launch(self.document, name, record)
        return record

    def event(self, name: str, event: str, **more: Any) -> Sent:
        self.seq += 1
        self.offset += 1
        latest = self.document.step(name).launch
        given = {
            "launch": latest.number if latest else 1,
            "ordinal": 0,
            "run": "r1",
            "seq": self.seq,
            "timestamp": self.now,
        } | {k: more.pop(k) for k in ("launch", "ordinal", "run", "seq", "timestamp") if k in more}
        made = Event(queue_id=QUEUE_ID, producer=name, target=name, step=name, event=event, payload=more, **given)
        return Sent(0, self.offset, made)

    def say(self, name: str, event: str, **more: Any) -> None:
        self.document = fold(self.document, [self.event(name, event, **more)])

    def end(self, name: str, state: str, **more: Any) -> None:
        latest = self.document.step(name).launch
        end = StepEnd(
            attempt=self.document.status.attempt,
            launch=latest.number if latest else 0,
            state=state,
            at=self.now,
            **more,
        )
        self.document = decisions.end_step(self.document, name, end, now=self.now)

    def drain(self, name: str) -> None:
        record = DrainRecord(drain_id=1, ends={f"{QUEUE_ID}-data": {0: 5}})
        self.document = decisions.drain(self.document, name, record, now=self.now)

    def job(self, name: str, *, live: int = 1, condition: Any = None, **more: Any) -> JobStatus:
        launch = self.document.step(name).launch
        assert launch is not None
        ordinals = more.pop("ordinals", (OrdinalStatus(ordinal=0, phase="running"),))
        labels = {"decision_id": launch.decision_id, "queue_id": QUEUE_ID} | more.pop("labels", {})
        return JobStatus(
            name=launch.job,
            labels=labels,
            condition=condition,
            ordinals=ordinals,
            live=live,
            created_at=self.now,
            **more,
        )


def _step(name: str, *, reads: tuple[str, ...] = (), writes: tuple[str, ...] = (), **more: Any) -> StepSpec:
    return StepSpec(
        name=name,
        target=name,
        version="1",
        image=name,
        command=("x",),
        reads={s: s for s in reads},
        writes={s: s for s in writes},
        **more,
    )


@pytest.fixture
def make_step():
    return _step


@pytest.fixture
def tell():
    def made(*steps: StepSpec, **more: Any) -> Story:
        chosen = steps or (_step("loader", writes=("data",)), _step("sink", reads=("data",)))
        spec = WorkflowSpec(
            installation="inst",
            symbol="BTCUSDT",
            type="api_candles_1m",
            time_range="2024-08-01:2024-08-02",
            collection="candles",
            created_at=1000.0,
            steps=chosen,
            streams={
                s: StreamSpec(topic=f"{QUEUE_ID}-{s}", partitions=2) for step in chosen for s in step.writes.values()
            },
            dead_letter_topic=f"{QUEUE_ID}-dead-letter",
            **more,
        )
        return Story(decisions.accept(QUEUE_ID, spec))

    return made
