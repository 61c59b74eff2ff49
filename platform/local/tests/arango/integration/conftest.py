"""The real server process, and unmodified python-arango to talk to it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from arango import ArangoClient
from arango.database import StandardDatabase
from arango.http import DefaultHTTPClient

USER, PASSWORD = "streamforge", "a secret"


@dataclass
class ServerProcess:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def connect(self, *, password: str = PASSWORD, database: str = "test") -> StandardDatabase:
        # Without retries, so that a test of a server's death does not wait for the backoff.
        client = ArangoClient(hosts=f"http://127.0.0.1:{self.port}", http_client=DefaultHTTPClient(retry_attempts=0))
        return client.db(database, username=USER, password=password)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


Start = Callable[..., ServerProcess]


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Starts a server on a data directory."""
    started: list[ServerProcess] = []

    def run(data: Path, **environment: str) -> ServerProcess:
        log = data.with_suffix(".log")
        command = [sys.executable, "-m", "arango_local", "--data", str(data), "--port", "0", "--database", "test"]
        variables = {**os.environ, "ARANGO_LOCAL_USER": USER, "ARANGO_LOCAL_PASSWORD": PASSWORD, **environment}
        with log.open("ab") as errors:
            process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        line = process.stdout.readline()
        process.stdout.close()
        assert line, log.read_text()
        ready = json.loads(line)
        assert ready["event"] == "ready"
        started.append(ServerProcess(process, ready["port"], log))
        return started[-1]

    yield run
    for server in started:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture(scope="module")
def server(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for the tests of a module."""
    running = start(tmp_path_factory.mktemp("arango") / "data")
    yield running
    assert running.stop() == 0
    assert '"level":"error"' not in running.log.read_text()


@pytest.fixture
def db(server: ServerProcess) -> Iterator[StandardDatabase]:
    """An empty database."""
    system = server.connect(database="_system")
    system.create_database("scratch")
    yield server.connect(database="scratch")
    system.delete_database("scratch")
