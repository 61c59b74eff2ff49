"""The whole process against real servers: ``python -m queue_manager``."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from queue_manager.main import serve
from queue_manager.settings import QueueManagerSettings
from streamforge_utils import codec
from streamforge_utils.settings import read_settings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[5]
BODY = {
    "template": "candles",
    "symbol": "BTCUSDT",
    "type": "api_candles_1m",
    "time_range": "2024-08-01:2024-08-02",
    "steps": [{"target": "loader-candles", "params": {"source": "simulated"}}],
}
URL = "/api/v1/workflows"


class Process:
    """A queue-manager with its log; unless a test starts one there is no node, so that no worker is started."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.log = folder / f"{time.monotonic_ns()}.log"
        home = {
            "PATH": os.environ["PATH"],
            "PORT": "0",
            "NODE_SOCKET": str(folder / "nobody.sock"),
            "SECRETS_FILE": str(folder / "none"),
            "TARGETS_DIRS": str(ROOT / "services"),
            "TEMPLATES_DIRS": str(ROOT / "templates"),
            "LEASE_S": "2",
        }
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "queue_manager"], env=home | env, stderr=out, stdout=out, cwd=folder
            )

    def lines(self) -> list[dict]:
        return [codec.decode(line) for line in self.log.read_bytes().splitlines() if line.startswith(b"{")]

    async def line(self, event: str, *, within_s: float = 20.0) -> dict:
        until = time.monotonic() + within_s
        while time.monotonic() < until and self.process.poll() is None:
            if found := [line for line in self.lines() if line["event"] == event]:
                return found[0]
            await asyncio.sleep(0.05)
        raise AssertionError(f"no line {event!r} in: {self.log.read_text()[-2000:]}")

    async def client(self) -> httpx.AsyncClient:
        told = await self.line("listening")
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{told['port']}", timeout=30)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def started(tmp_path):
    made: list[Process] = []

    def start(**env: str) -> Process:
        made.append(Process(tmp_path, **env))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


async def until_started(client):
    async with asyncio.timeout(20):
        while (await client.get("/health/startup")).status_code != 200:
            await asyncio.sleep(0.05)


AWAY = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "ARANGO_URL": "http://127.0.0.1:9"}


async def test_a_start_without_any_server_says_so_and_waits(started):
    process = started(**AWAY)
    async with await process.client() as client:
        assert (await client.get("/health/live")).status_code == 200
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        assert set(ready.json()["conditions"]) == {"store", "kafka", "launcher"}
        answer = await client.post(URL, json=BODY)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        told = await process.line("not_ready", within_s=10)
        assert told["level"] == "error"
        assert "127.0.0.1:9" in told["waits_for"]["store"]
    assert process.end() == 0


async def test_a_broker_that_is_away_is_202_and_the_store_decides(started, arango):
    process = started(**arango.environment, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")
    async with await process.client() as client:
        await until_started(client)
        headers = {"Idempotency-Key": f"race-{time.time_ns()}"}
        answers = await asyncio.gather(*(client.post(URL, json=BODY, headers=headers) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["queue_id"] for answer in answers}) == 1
        other = await client.post(URL, json=BODY | {"symbol": "ETHUSDT"}, headers=headers)
        assert other.status_code == 409
        queue_id = answers[0].json()["queue_id"]
        listed = (await client.get(URL, params={"q": queue_id})).json()["items"]
        assert [row["queue_id"] for row in listed] == [queue_id]
        told = await process.line("not_ready", within_s=10)
        assert "kafka" in told["waits_for"]
    assert process.end() == 0


async def test_an_accepted_workflow_survives_kill_9(started, arango):
    env = arango.environment | {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}
    first = started(**env)
    async with await first.client() as client:
        await until_started(client)
        queue_id = (await client.post(URL, json=BODY)).json()["queue_id"]
        first.process.kill()
    second = started(**env)
    async with await second.client() as client:
        await until_started(client)
        assert (await client.get(f"{URL}/{queue_id}")).json()["queue_id"] == queue_id


async def test_the_store_comes_back_and_requests_go_on(started, arango):
    process = started(**arango.environment, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")
    async with await process.client() as client:
        await until_started(client)
        arango.stop()
        try:
            assert (await client.post(URL, json=BODY)).status_code == 503
        finally:
            arango.start()
            await asyncio.to_thread(arango.wait_ready)
        assert (await client.post(URL, json=BODY)).status_code == 202


@pytest.fixture
def node(tmp_path):
    path = tmp_path / "node.sock"
    arguments = ["--socket", str(path), "--data", str(tmp_path / "node")]
    command = [sys.executable, "-m", "streamforge_local.node", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.readline()
        try:
            yield str(path)
        finally:
            process.terminate()
            process.wait(20)


async def test_it_is_ready_with_all_parts_and_streams_a_workflow_to_its_end(started, arango, kafka, node):
    process = started(**arango.environment, **kafka.environment, NODE_SOCKET=node)
    async with await process.client() as client:
        await until_started(client)
        queue_id = (await client.post(URL, json=BODY)).json()["queue_id"]
        headers, told = {"Accept": "text/event-stream"}, []
        async with asyncio.timeout(40), client.stream("GET", f"{URL}/{queue_id}/events", headers=headers) as stream:
            told = [line async for line in stream.aiter_lines() if line.startswith("event: ")]
        assert {"event: accepted", "event: launched", "event: started", "event: finished"} <= set(told)
        shown = (await client.get(f"{URL}/{queue_id}")).json()
        assert (shown["state"], [step["stored"] for step in shown["steps"]]) == ("finished", [1440, 1440])
        assert (await client.get(f"{URL}/{queue_id}/logs")).json()["items"]
        assert (await client.get("/health/ready")).json()["conditions"]["kafka"]["ok"]
        assert (await client.get(f"{URL}/{queue_id}/dead-letters")).json() == {"items": [], "next": None}
    began = time.monotonic()
    assert process.end() == 0
    assert time.monotonic() - began < 12


async def test_workers_answer_pings_until_the_workflow_is_stopped(monkeypatch, tmp_path, arango, kafka, node):
    """In this process, so that the way from the signal to the end is measured too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in (arango.environment | kafka.environment).items():
        monkeypatch.setenv(name, value)
    folders = {"targets_dirs": (ROOT / "services",), "templates_dirs": (ROOT / "templates",)}
    settings = read_settings(QueueManagerSettings, port=port, node_socket=Path(node), lease_s=2.0, **folders)
    serving = asyncio.create_task(serve(settings))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client, asyncio.timeout(60):
        while not serving.done() and await status(client, "/health/ready") != 200:
            await asyncio.sleep(0.05)
        body = {name: value for name, value in BODY.items() if name != "time_range"} | {"type": "ws_candles_1m"}
        url = (await client.post(URL, json=body)).headers["location"]
        while (await client.get(url)).json()["state"] != "running":
            await asyncio.sleep(0.05)
        trips: list[float | None] = [None]
        while None in trips:
            pinged = (await client.post(f"{url}/ping", params={"timeout_s": 2})).json()
            trips = [step["round_trip_s"] for step in pinged["steps"]]
        assert all(0 < trip < 2 for trip in trips)
        assert len((await client.get("/prometheus/targets")).json()) == 2
        assert (await client.post(f"{url}/stop")).status_code == 202
        while (await client.get(url)).json()["state"] != "interrupted":
            await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(serving, 20) == 0


async def status(client, path):
    try:
        return (await client.get(path)).status_code
    except httpx.TransportError:
        return None


def run(tmp_path, **env):
    process = Process(tmp_path, **env)
    return process.process.wait(20), process.log.read_text()


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"PORT": "many"}, "PORT"),
        ({"TARGETS_DIRS": "/nowhere"}, "/nowhere"),
        ({"KAFKA_USER": "me"}, "KAFKA_PASSWORD"),
    ],
)
def test_settings_that_can_never_work_end_with_one_line_and_78(tmp_path, env, named):
    code, text = run(tmp_path, **env)
    assert code == 78
    assert named in text
    assert text.count("\n") == 1


def test_a_wrong_target_ends_with_file_and_field(tmp_path):
    folder = tmp_path / "targets" / "x"
    folder.mkdir(parents=True)
    (folder / "target.yaml").write_text("apiVersion: streamforge/v1\nkind: Target\nname: x\n")
    code, text = run(tmp_path, TARGETS_DIRS=str(tmp_path / "targets"))
    assert code == 78
    assert f"{folder / 'target.yaml'}: " in text
    assert "command" in text


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = run(tmp_path, PORT=str(taken.getsockname()[1]))
    assert code == 78
    assert "cannot listen" in text
