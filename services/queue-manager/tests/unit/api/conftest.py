import textwrap
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from queue_manager.api import ApiSettings, Parts, create_app
from queue_manager.launcher.memory import MemoryLauncher
from queue_manager.model import WorkflowDocument
from queue_manager.resolve import Limits, Resolver
from queue_manager.store.memory import MemoryStore
from queue_manager.targets import Targets, read_targets
from queue_manager.templates import Templates, read_templates
from streamforge_utils.control.client import Pong
from streamforge_utils.errors import FencedError, NotConnected
from streamforge_utils.kafka.dead_letters import Kept, Redriven
from streamforge_utils.observability import Health

TARGETS = {
    "reader": """
        apiVersion: streamforge/v1
        kind: Target
        name: reader
        description: Reads a source.
        version: 0.1.0
        image: streamforge/reader:0.1.0
        command: [python, -m, reader]
        types: [api_candles, ws_candles]
        requires: [symbol]
        writes: [{stream: data, schema: candle.v1}]
        replicas: {default: 1, max: 4}
        params:
          type: object
          additionalProperties: false
          required: [source]
          properties:
            source: {type: string, minLength: 1}
            rate: {type: number, exclusiveMinimum: 0}
            retries: {type: integer, minimum: 0, maximum: 9, default: 3}
            mode: {enum: [fast, exact], default: exact}
            base_url: {type: string, pattern: "^https?://"}
            password: {type: string, writeOnly: true}
            nested: {$ref: "#/$defs/Nested"}
          $defs:
            Nested:
              type: object
              additionalProperties: false
              properties:
                depth: {type: integer, default: 7}
                url: {type: string}
        """,
    "stage": """
        apiVersion: streamforge/v1
        kind: Target
        name: stage
        description: Adds something, in order.
        version: 0.2.0
        image: streamforge/stage:0.2.0
        command: [python, -m, stage]
        types: [api_candles, ws_candles]
        reads: [{stream: data, schema: candle.v1}]
        writes: [{stream: enriched, schema: candle.v1}]
        order: stream
        """,
    "store": """
        apiVersion: streamforge/v1
        kind: Target
        name: store
        description: Stores records.
        version: 0.3.0
        image: streamforge/store:0.3.0
        command: [python, -m, store]
        types: ["*"]
        reads: [{stream: data, schema: candle.v1}]
        replicas: {default: 1, max: 64}
        """,
    "joiner": """
        apiVersion: streamforge/v1
        kind: Target
        name: joiner
        description: Reads two streams together.
        version: 0.1.0
        image: streamforge/joiner:0.1.0
        command: [python, -m, joiner]
        types: ["*"]
        reads: [{stream: left, schema: candle.v1}, {stream: right, schema: candle.v1}]
        replicas: {default: 1, max: 4}
        """,
    "flows": """
        apiVersion: streamforge/v1
        kind: Target
        name: flows
        description: Stores network flows.
        version: 0.1.0
        image: streamforge/flows:0.1.0
        command: [python, -m, flows]
        types: [api_flows, api_candles]
        reads: [{stream: data, schema: flow.v1}]
        """,
}
TEMPLATES = {
    "simple": """
        apiVersion: streamforge/v1
        kind: Template
        name: simple
        description: From a source into a store.
        retention: 2d
        on_failure: continue
        steps:
          - target: reader
          - target: store
        """,
    "enriched": """
        apiVersion: streamforge/v1
        kind: Template
        name: enriched
        description: With a stage between.
        steps:
          - {target: reader, params: {source: simulated}}
          - {target: stage}
          - {target: store, reads: [enriched]}
        """,
}


class QuietController:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def submitted(self, document: WorkflowDocument) -> None:
        self.told.append(document.queue_id)

    def nudge(self, queue_id: str) -> None:
        self.told.append(queue_id)


class MemoryPinger:
    """Answers with what a test put in."""

    def __init__(self) -> None:
        self.pongs: list[Pong] = []
        self.asked: list[tuple[str, int]] = []
        self.is_away = False

    async def ping(self, queue_id: str, *, expected: int, timeout_s: float) -> Sequence[Pong]:
        self.asked.append((queue_id, expected))
        if self.is_away:
            raise NotConnected("Kafka does not answer", code="broker-unreachable")
        return self.pongs


class MemoryDeadLetters:
    """The rules of the topic in a list."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self.is_fenced = False

    async def read(self, topic: str, *, after: int, limit: int) -> Sequence[Kept]:
        return [kept for kept in self.kept if kept.offset > after][:limit]

    async def redrive(self, queue_id: str, topic: str, offsets: Sequence[int] | None) -> Redriven:
        if self.is_fenced:
            raise FencedError("a successor took over")
        wanted = {kept.offset for kept in self.kept} if offsets is None else set(offsets)
        chosen = [kept for kept in self.kept if kept.offset in wanted and not kept.is_redriven and kept.can_return]
        sent = {kept.offset: kept.letter.step for kept in chosen}
        self.kept = [Kept(k.offset, k.at, k.letter, is_redriven=k.is_redriven or k.offset in sent) for k in self.kept]
        totals: dict[str, int] = {}
        for kept in self.kept:
            if kept.is_redriven:
                totals[kept.letter.step] = totals.get(kept.letter.step, 0) + 1
        skipped = {offset: "no such dead letter" for offset in wanted - {kept.offset for kept in self.kept}}
        return Redriven(sent, skipped, totals)

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Installed:
    """The targets and templates that there are."""

    targets: Targets
    templates: Templates


def write_manifests(folder: Path) -> Installed:
    """The test's targets and templates, in files of this folder."""
    for name, text in TARGETS.items():
        (folder / "targets" / name).mkdir(parents=True)
        (folder / "targets" / name / "target.yaml").write_text(textwrap.dedent(text))
    (folder / "templates").mkdir()
    for name, text in TEMPLATES.items():
        (folder / "templates" / f"{name}.yaml").write_text(textwrap.dedent(text))
    return Installed(read_targets([folder / "targets"]), read_templates([folder / "templates"]))


@pytest.fixture(scope="session")
def _shared_installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return write_manifests(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def own_installed(tmp_path: Path) -> Installed:
    """For a test that changes the files: they are its own, below its `tmp_path`."""
    return write_manifests(tmp_path)


@pytest.fixture
def installed(request: pytest.FixtureRequest, _shared_installed: Installed) -> Installed:
    """Read once for all tests but those that ask for their own."""
    is_own = "own_installed" in request.fixturenames
    return request.getfixturevalue("own_installed") if is_own else _shared_installed


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    (root / "candles.csv").write_text("1\n")
    (root / "way-out").symlink_to("/etc")
    return root


@pytest.fixture
def resolver(installed: Installed, data_root: Path) -> Resolver:
    limits = Limits(
        max_replicas=8,
        max_partitions=16,
        data_roots=(data_root,),
        reserved_collections=frozenset({"workflows", "meta"}),
    )
    return Resolver(installed.targets, installed.templates, limits)


@pytest.fixture
def parts(resolver: Resolver) -> Parts:
    return Parts(
        store=MemoryStore(),
        launcher=MemoryLauncher(),
        pinger=MemoryPinger(),
        dead_letters=MemoryDeadLetters(),
        targets=resolver.targets,
        templates=resolver.templates,
        resolver=resolver,
        health=Health(),
        registry=CollectorRegistry(),
        controller=QuietController(),
        settings=ApiSettings(max_pending=1000, poll_s=0.01, keep_alive_s=0.05, request_timeout_s=5.0),
        installation="test0001",
    )


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(parts))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as made:
        yield made
