"""The composition root: settings, store, launcher, Kafka, controller and API in one process and one event loop.

Only here do concrete classes meet. Neither Kafka nor the store nor the launcher has to be there at the start: the API
answers 503 meanwhile, ``/health/ready`` and the log say what is missing.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Protocol, TypeVar

import structlog
import uvicorn
import uvloop
from prometheus_client import CollectorRegistry, Counter, Gauge

from queue_manager.api import ApiSettings, Parts, create_app
from queue_manager.controller.broker import KafkaBroker
from queue_manager.controller.controller import Controller, Limits
from queue_manager.controller.launch import Platform
from queue_manager.controller.ports import Counts, Election, Ports
from queue_manager.launcher.interface import Launcher
from queue_manager.launcher.process import ProcessLauncher
from queue_manager.pinger import KafkaPinger
from queue_manager.resolve import Limits as RequestLimits
from queue_manager.resolve import Resolver
from queue_manager.settings import QueueManagerSettings
from queue_manager.store.arango import EVENTS, META, WORKFLOWS, ArangoStore
from queue_manager.targets import read_targets
from queue_manager.templates import read_templates
from streamforge_utils.arango import ArangoClient
from streamforge_utils.errors import ConfigurationError, StreamForgeError
from streamforge_utils.kafka.dead_letters import KafkaDeadLetters
from streamforge_utils.observability import Health, logs
from streamforge_utils.settings import read_settings

EXIT_FAULT = 70
COLLECT_AFTER = (2_000, 10, 100)
"""Python's thresholds: thousands of open workflows make a full collection as long, and hardly any leaves a cycle."""
DRAIN_S = 10
"""What open requests get at the end."""
API_STORE_TIMEOUT_S = 10.0
"""A request is not kept longer by a store that does not answer; the controller, which only waits, is patient."""
TELL_AFTER_S, TELL_AGAIN_S = 5.0, 30.0
"""When the log says what is missing at the start, and how often again."""

_log = structlog.get_logger(component="main")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the end concerns the controller too."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def main() -> None:
    """Run until SIGTERM or SIGINT; exit code 78 for settings that can never work, 70 for a fault."""
    try:
        settings = read_settings(QueueManagerSettings)
        logs.configure(level=settings.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(serve(settings))
    except ConfigurationError as error:
        sys.stderr.write(f"queue-manager: {error.message}\n")
        code = error.exit_code
    raise SystemExit(code)


async def serve(settings: QueueManagerSettings) -> int:
    """Everything, until a signal comes; the exit code.

    Raises:
        ConfigurationError: a target, template or certificate that is wrong, a port that is taken.
    """
    listening = _bound(settings)
    health = Health(awaited=("store", "kafka", "launcher"))
    async with contextlib.AsyncExitStack() as stack:
        chosen, election = _launcher(settings)
        launcher = await stack.enter_async_context(_closing(chosen))
        broker = await stack.enter_async_context(
            _closing(KafkaBroker(settings.kafka, control=settings.control_topic, events=settings.events_topic))
        )
        patient = await stack.enter_async_context(_closing(ArangoStore(ArangoClient(settings.arango))))
        registry = CollectorRegistry()
        skipped = Counter(
            "streamforge_messages_skipped", "Messages of queue-events that are no events.", registry=registry
        )
        orphans = Gauge("streamforge_orphan_jobs", "Jobs of which no workflow knows.", registry=registry)
        ports = Ports(
            store=patient,
            broker=broker,
            launcher=launcher,
            platform=Platform.of(settings),
            clock=time.time,
            replication=settings.topic_replication,
            election=election,
            counts=Counts(skipped=skipped.inc, orphans=orphans.set),
        )
        limits = Limits(
            max_running=settings.max_running,
            concurrency=settings.concurrency,
            lease_s=settings.lease_s,
            resync_s=settings.resync_s,
            removes_orphans=settings.remove_orphans,
        )
        controller = Controller(ports, limits=limits, health=health)
        parts = await _parts(
            settings, stack, launcher=launcher, controller=controller, health=health, registry=registry
        )
        return await _run(controller, parts, listening)


async def _parts(
    settings: QueueManagerSettings,
    stack: contextlib.AsyncExitStack,
    *,
    launcher: Launcher,
    controller: Controller,
    health: Health,
    registry: CollectorRegistry,
) -> Parts:
    targets, templates = read_targets(settings.targets_dirs), read_templates(settings.templates_dirs)
    limits = RequestLimits(
        max_replicas=settings.max_replicas,
        max_partitions=settings.max_partitions,
        data_roots=settings.data_roots,
        reserved_collections=frozenset({WORKFLOWS, EVENTS, META}),
    )
    hurried = ArangoClient(settings.arango, threads=8, timeout_s=API_STORE_TIMEOUT_S)
    store = await stack.enter_async_context(_closing(ArangoStore(hurried)))
    topics = {"control_topic": settings.control_topic, "events_topic": settings.events_topic}
    return Parts(
        store=store,
        launcher=launcher,
        pinger=await stack.enter_async_context(_closing(KafkaPinger(settings.kafka, **topics))),
        dead_letters=await stack.enter_async_context(_closing(KafkaDeadLetters(settings.kafka))),
        targets=targets,
        templates=templates,
        resolver=Resolver(targets, templates, limits),
        health=health,
        registry=registry,
        controller=controller,
        settings=ApiSettings(topic_prefix=settings.kafka.topic_prefix, max_pending=settings.max_pending),
    )


async def _run(controller: Controller, parts: Parts, listening: socket.socket) -> int:
    """API and controller until a signal, or until one of them fails; the API ends first."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, parts.closing.set)
    config = uvicorn.Config(
        create_app(parts),
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = _Server(config)
    works = {
        "api": asyncio.create_task(server.serve(sockets=[listening]), name="api"),
        "controller": asyncio.create_task(controller.run(), name="controller"),
        "start": asyncio.create_task(_start(parts), name="start"),
        "end": asyncio.create_task(parts.closing.wait(), name="end"),
    }
    gc.freeze()  # code and routes stay: a full collection that walks them stops every request for a tenth of a second
    gc.set_threshold(*COLLECT_AFTER)
    gc.enable()
    host, port = listening.getsockname()[:2]
    _log.info("listening", host=host, port=port)
    essential = {works[name] for name in ("api", "controller", "end")}
    await asyncio.wait(essential, return_when=asyncio.FIRST_COMPLETED)
    parts.closing.set()
    server.should_exit = True
    await asyncio.wait({works["api"]})
    for work in works.values():
        work.cancel()
    await asyncio.wait(works.values())
    failed = {name: work.exception() for name, work in works.items() if not work.cancelled() and work.exception()}
    for name, error in failed.items():
        _log.error("part_failed", part=name, exc_info=error)
    _log.info("ended", failed=sorted(failed))
    return EXIT_FAULT if failed else 0


async def _start(parts: Parts) -> None:
    """Prepare the API's store, however long that takes, and say what is missing until all is ready."""
    began = told = time.monotonic()
    while parts.installation is None or not parts.health.is_ready:
        if parts.installation is None:
            try:
                await parts.store.ensure()
                parts.installation = await parts.store.installation()
            except StreamForgeError as error:
                parts.health.set("store", ok=False, reason=error.message)
        now = time.monotonic()
        if now - told >= (TELL_AFTER_S if told == began else TELL_AGAIN_S):
            told = now
            _log.error("not_ready", waits_for=_missing(parts.health))
        await asyncio.sleep(0.1)
    _log.info("ready", after_s=round(time.monotonic() - began, 2))


def _missing(health: Health) -> dict[str, str]:
    conditions = health.ready()[1]["conditions"]
    return {name: condition["reason"] for name, condition in conditions.items() if not condition["ok"]}


def _launcher(settings: QueueManagerSettings) -> tuple[Launcher, Election | None]:
    """The launcher that the settings name, and where its platform agrees who acts; a further one is a line more."""
    if settings.launcher == "kubernetes":
        # two megabytes that no laptop needs
        from queue_manager.launcher.kubernetes.launcher import KubernetesLauncher  # noqa: PLC0415
        from queue_manager.launcher.kubernetes.patch import check_patch  # noqa: PLC0415
        from queue_manager.launcher.kubernetes.settings import KubernetesSettings  # noqa: PLC0415

        platform, cluster = Platform.of(settings), read_settings(KubernetesSettings)
        targets = read_targets(settings.targets_dirs).all()
        own = {secret.env for installed in targets.values() for secret in installed.target.secrets}
        reserved = own.union(platform.env, platform.secret_env)
        check_patch(cluster.pod_template_patch, targets=targets.keys(), reserved=reserved)
        # the values in it are the queue-manager's own: a worker gets them from the namespace's ConfigMap
        launcher = KubernetesLauncher(cluster, shared=frozenset(platform.env))
        # as the cluster's own controllers do it, so that a person finds who acts with their tools
        return launcher, launcher.election()
    return ProcessLauncher(settings.node_socket), None


def _bound(settings: QueueManagerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): set HOST and PORT"
        ) from error
    return listening


class _Closes(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=_Closes)


@contextlib.asynccontextmanager
async def _closing(what: C) -> AsyncIterator[C]:
    try:
        yield what
    finally:
        await what.close()
