"""One life of a worker, from its settings to its exit code (contract, section 6)."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

import structlog
import uvloop
from pydantic import BaseModel

from streamforge_utils.contracts.commands import Drain
from streamforge_utils.contracts.events import EventName
from streamforge_utils.control import ControlListener, Handlers
from streamforge_utils.errors import ConfigurationError, FatalError, FencedError, StreamForgeError
from streamforge_utils.kafka.admin import KafkaAdmin
from streamforge_utils.observability import ObservabilityServer, logs
from streamforge_utils.pipeline.runner import Outcome, Runner
from streamforge_utils.worker.context import Build, WorkerContext
from streamforge_utils.worker.settings import worker_settings
from streamforge_utils.worker.wiring import Parts, Watch, make_runner

EXIT_OK = 0
EXIT_FAULT = 70
EXIT_LATER = 75
EXIT_CONFIGURATION = 78
EXIT_TERMINATED = 143

LAST_WORD_SECONDS = 10.0
"""For telling an error before the process ends with it."""
LEAVE_SECONDS = 5.0
"""For closing connections when all is said; aiokafka's close never returns while the broker is away."""
COLLECT_AFTER = 50_000
"""New objects between two looks for cycles: a batch is many objects and no cycle (Python's 700 cost a fifth)."""
RESERVE_SECONDS = 5.0
"""Of the grace, kept for the end by our own hand before SIGKILL comes."""

P = TypeVar("P", bound=BaseModel)
T = TypeVar("T")
OnCommand = Callable[[str, dict[str, Any]], None]
_log = structlog.get_logger(component="worker")


def run_worker(
    target: str,
    params: type[P],
    build: Build[P],
    *,
    given: dict[str, Any] | None = None,
    debug: bool = False,
    on_command: OnCommand | None = None,
) -> int:
    """Run a worker to its end; the caller exits with the result.

    Args:
        target: its name in target.yaml.
        params: the model of its own settings.
        build: puts its pipeline together.
        given: params from a command line, in the place of PARAMS.
        debug: log lines for people, all of them.
        on_command: takes commands that only this target knows.
    """
    try:
        settings, own = worker_settings(target, params, given)
        logs.configure(level=settings.log_level, debug=debug, queue_id=settings.queue_id, step=settings.step)
    except (ConfigurationError, ValueError) as error:
        sys.stderr.write(f"{target}: {error}\n")
        return EXIT_CONFIGURATION
    gc.set_threshold(COLLECT_AFTER)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_Worker(Parts.of(settings, target), own, build, on_command).run())
        _log.info("leaves", exit_code=code)
        # The loop's end waits for tasks that may hang on a broker that is away, and for the loop's own threads; those
        # of adapters are daemons, which the interpreter's end leaves where they are.
        bound = threading.Timer(LEAVE_SECONDS, os._exit, (code,))
        bound.daemon = True
        bound.start()
    bound.cancel()
    return code


class _Worker(Generic[P]):
    """Puts the parts to work together and decides how the process ends."""

    def __init__(self, parts: Parts, params: P, build: Build[P], on_command: OnCommand | None) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._params = params
        self._build = build
        self._on_command = on_command
        self._runner: Runner | None = None
        self._drain: Drain | None = None
        self._is_stopped = False
        self._is_early = False
        self._signal: int | None = None
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> int:
        """The exit code."""
        parts, settings = self._parts, self._settings
        structlog.contextvars.bind_contextvars(run=parts.telemetry.run)
        _log.info("starts", launch=settings.launch, ordinal=settings.ordinal, target=parts.identity.target)
        server = ObservabilityServer(parts.registry, parts.health)
        handlers = Handlers(on_stop=self._stop, on_drain=self._drained, on_command=self._on_command)
        listener = ControlListener(
            parts.transport, parts.identity, parts.telemetry, handlers, health=parts.health, metrics=parts.metrics
        )
        with self._signals():
            try:
                port = await server.start(port=settings.metrics_port, host=settings.metrics_host)
            except ConfigurationError as error:
                return await self._supervise(self._fail(error))
            else:
                parts.telemetry.started(metrics_port=port)
                return await self._supervise(self._live(listener))
            finally:
                await server.close()
                await parts.transport.close()

    async def _supervise(self, life: Coroutine[Any, Any, int]) -> int:
        """Run a life beside its telemetry, whose end is the worker's too: nobody would hear the last word."""
        telling = self._start(self._parts.telemetry.serve(), "telemetry")
        living = self._start(life, "life")
        try:
            await asyncio.wait({telling, living}, return_when=asyncio.FIRST_COMPLETED)
            return living.result() if living.done() else _unheard(telling)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=LEAVE_SECONDS)
            for task in self._tasks:
                if task.done() and not task.cancelled():
                    task.exception()

    def _start(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        return task

    async def _live(self, listener: ControlListener) -> int:
        """Work and listen; the pipeline's end is the worker's, an error of the listener too."""
        listening = self._start(listener.serve(), "control")
        working = self._start(self._work(), "pipeline")
        await asyncio.wait({listening, working}, return_when=asyncio.FIRST_COMPLETED)
        return await self._end(working if working.done() else listening)

    async def _work(self) -> Outcome:
        admin = KafkaAdmin(self._settings.kafka)
        watch = Watch(self._parts)
        try:
            report = self._parts.telemetry.report
            context = WorkerContext(self._settings, self._params, self._parts.registry, report)
            pipeline = self._build(context)
            making = asyncio.ensure_future(make_runner(self._settings, pipeline, watch, admin))
            ended = asyncio.ensure_future(self._ended.wait())
            await asyncio.wait([making, ended], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if not making.done():
                making.cancel()
                await asyncio.wait([making])
                return Outcome.STOPPED
            self._runner = making.result()
            if self._drain is not None:
                self._runner.drain(self._drain)
            if self._ended.is_set():
                self._runner.stop()
            return await self._runner.run()
        finally:
            await admin.close()

    def _stop(self, is_drain: bool) -> None:
        self._is_stopped = True
        self._is_early = is_drain
        self._leave("stop")

    def _drained(self, drain: Drain) -> None:
        self._drain = drain
        if self._runner is not None:
            self._runner.drain(drain)

    def _terminated(self, number: int) -> None:
        self._signal = number
        self._leave(signal.Signals(number).name)

    def _leave(self, why: str) -> None:
        """Finish the batch in hand; the deadline is hard, for nothing that waits for a broker can be cancelled."""
        if self._ended.is_set():
            return
        grace = self._settings.grace_s
        deadline = max(grace - RESERVE_SECONDS, grace / 2)
        _log.info("leaving", why=why, deadline_seconds=deadline)
        asyncio.get_running_loop().call_later(deadline, _give_up)
        self._ended.set()
        if self._runner is not None:
            self._runner.stop()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self._terminated, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def _end(self, ended: "asyncio.Task[Outcome] | asyncio.Task[None]") -> int:
        """Say the last word, and the exit code that goes with it."""
        try:
            outcome = ended.result()
        except FencedError as error:
            _log.warning("fenced", reason=error.message)
            return EXIT_LATER
        except StreamForgeError as error:
            return await self._fail(error)
        except Exception as error:
            _log.exception("fault")
            return await self._fail(FatalError(f"{type(error).__name__}: {error}"))
        return await self._last_word(outcome)

    async def _last_word(self, outcome: Outcome | None) -> int:
        telemetry = self._parts.telemetry
        counters = None if self._runner is None else self._runner.counters
        lag = 0 if self._runner is None else self._runner.lag
        if outcome is Outcome.FINISHED:
            await telemetry.finish(EventName.FINISHED, "Finished", counters=counters, lag=lag)
            return EXIT_OK
        if self._is_stopped and self._is_early and self._settings.streams.writes and not self._settings.streams.reads:
            await telemetry.finish(
                EventName.FINISHED, "Stopped, everything read was written", counters=counters, partial=True
            )
            return EXIT_OK
        if self._is_stopped:
            await telemetry.finish(EventName.INTERRUPTED, "Stopped", counters=counters, lag=lag)
            return EXIT_OK
        return EXIT_TERMINATED if self._signal is None else 128 + self._signal

    async def _fail(self, error: StreamForgeError) -> int:
        _log.error("failed", code=error.code, reason=error.message)
        self._parts.telemetry.error(error)
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self._parts.telemetry.flush()
        except TimeoutError:
            return EXIT_LATER  # nobody has heard why: the next life shall say it
        return error.exit_code


def _unheard(telling: "asyncio.Task[None]") -> int:
    """The exit code when telemetry has ended before the worker; the next life shall say what this one could not."""
    error = telling.exception()
    if isinstance(error, ConfigurationError):
        _log.error("cannot_run", code=error.code, reason=error.message)
        return error.exit_code
    _log.error("fault", part="telemetry", exc_info=error)
    return EXIT_LATER


def _give_up() -> None:
    _log.error("deadline", reason="the batch in hand or the last event could not be finished in time")
    sys.stderr.flush()
    os._exit(EXIT_LATER)
