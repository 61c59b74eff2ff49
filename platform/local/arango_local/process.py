"""The server process: socket, event loop, signals, the sweep of expired documents, the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

import orjson
import uvicorn

from arango_local import logs
from arango_local.api.application import Application
from arango_local.engine import Engine
from arango_local.errors import ArangoError
from arango_local.settings import Settings, SettingsError
from arango_local.storage import DataDirectoryInUseError

_SWEEP_SECONDS: Final = 30
_GRACE_SECONDS: Final = 0.3
_BACKLOG: Final = 512
_CONFIGURATION: Final = 78
_FAILED: Final = 1

_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """uvicorn, but it says when it accepts connections, and leaves signals to `_serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        port = sockets[0].getsockname()[1] if sockets else 0
        sys.stdout.write(orjson.dumps({"event": "ready", "port": port}).decode() + "\n")
        sys.stdout.flush()


def main() -> None:
    """Runs the server until SIGTERM or SIGINT; ends with 0, 78 for wrong settings, 1 when it cannot start."""
    logs.configure()
    try:
        settings = Settings.read(sys.argv[1:], os.environ)
    except SettingsError as error:
        _leave(_CONFIGURATION, f"arango-local: {error}")
    try:
        listener = _listen(settings.host, settings.port)
        engine = Engine(settings.data, user=settings.user, password=settings.password, max_pages=settings.max_pages)
        engine.ensure_database(settings.database)
    except (OSError, DataDirectoryInUseError, ArangoError) as error:
        _leave(_FAILED, f"arango-local: {error}")
    _log.info("development only: this is an emulator, not a database server", extra={"data": str(settings.data)})
    application = Application(engine)
    _run(application, engine, listener)
    application.close()
    engine.close()
    # A thread may still be in a query that nothing can interrupt; what it would write is not acknowledged, and not
    # stored.
    logging.shutdown()
    os._exit(0)


def _leave(code: int, sentence: str) -> NoReturn:
    sys.stderr.write(sentence + "\n")
    sys.exit(code)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def _run(application: Application, engine: Engine, listener: socket.socket) -> None:
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
    )
    server = _Server(config)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(server, engine, [listener]))


async def _serve(server: _Server, engine: Engine, sockets: Sequence[socket.socket]) -> None:
    loop = asyncio.get_running_loop()

    def force() -> None:
        server.force_exit = True

    def stop() -> None:
        _log.info("stopping")
        engine.queries.stop_all()
        server.should_exit = True
        loop.call_later(_GRACE_SECONDS, force)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    sweeper = asyncio.create_task(_sweep(engine), name="sweep")
    try:
        await server.serve(list(sockets))
    finally:
        sweeper.cancel()


async def _sweep(engine: Engine) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        try:
            removed = await asyncio.to_thread(engine.sweep)
        except ArangoError as error:
            _log.warning("expired documents could not be removed", extra={"reason": error.message})
        else:
            if removed:
                _log.info("expired documents removed", extra={"documents": removed})
