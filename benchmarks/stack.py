"""A stack of its own for the measurements, started by the real supervisor, and the few calls they make of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from streamforge_local.node.sweep import mark_of, marked
from streamforge_local.paths import Home
from streamforge_local.stack import daemon
from streamforge_utils.settings import ArangoSettings, KafkaSettings, local_env, read_settings

TERMINAL = ("finished", "failed", "interrupted")


@dataclass(frozen=True, slots=True)
class Bench:
    """A running stack."""

    home: Home
    variables: dict[str, str]

    @property
    def url(self) -> str:
        """Of the queue-manager."""
        return self.variables["QUEUE_MANAGER_URL"]

    @property
    def kafka(self) -> KafkaSettings:
        """Where Kafka is."""
        return KafkaSettings(bootstrap_servers=self.variables["KAFKA_BOOTSTRAP_SERVERS"])

    @property
    def arango(self) -> ArangoSettings:
        """Where the store is."""
        names = ("url", "db", "user", "password")
        return read_settings(ArangoSettings, **{name: self.variables[f"ARANGO_{name.upper()}"] for name in names})

    def client(self) -> httpx.AsyncClient:
        """Of the API."""
        return httpx.AsyncClient(base_url=self.url + "/api/v1", timeout=60)

    def pids(self) -> dict[str, list[int]]:
        """Processes of each part; the node's with its warm process."""
        state = daemon.read_state(self.home)
        assert state is not None
        found = {part.name: [part.pid] for part in state.parts if part.pid is not None}
        found["node"] += marked(mark_of(self.home.data / "node"))
        return found


@contextmanager
def running(folder: Path) -> Iterator[Bench]:
    """The whole stack, stopped at the end."""
    home = Home.at(folder)
    daemon.up(home, security="plaintext")
    try:
        yield Bench(home, local_env(environ={"STREAMFORGE_HOME": str(home.root)}))
    finally:
        daemon.down(home)


def dummy(**params: Any) -> dict[str, Any]:
    """A request for one dummy step."""
    return {
        "symbol": "BTCUSDT",
        "type": "ws_bench",
        "steps": [{"target": "dummy-service", "params": {"simulate_loading": True, "records": 0, **params}}],
    }


async def submit(client: httpx.AsyncClient, body: dict[str, Any]) -> str:
    """POST; the workflow's id."""
    answer = await client.post("/workflows", json=body)
    if answer.status_code != httpx.codes.ACCEPTED:
        raise RuntimeError(f"POST /workflows: {answer.status_code} {answer.text}")
    return str(answer.json()["queue_id"])


def pss_bytes(pids: list[int]) -> int:
    """Proportional set size: shared pages counted by share (proc(5), smaps_rollup)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def timed_start(folder: Path) -> float:
    """Seconds from nothing to a stack that is ready; its data is there already."""
    home = Home.at(folder)
    began = time.perf_counter()
    daemon.up(home, security="plaintext")
    seconds = time.perf_counter() - began
    daemon.down(home)
    return seconds
