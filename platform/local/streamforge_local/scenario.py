"""A whole stack as a test sees it: its API, its store, its processes, and the hands to kill, freeze and keep away each.

A client like any other: nothing here is inside of the platform, and only signals are sent to its processes.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

from streamforge_local.paths import Home
from streamforge_local.stack import daemon
from streamforge_local.stack.leftovers import leftovers
from streamforge_local.stack.parts import PARTS
from streamforge_utils.arango.client import ArangoClient
from streamforge_utils.errors import StreamForgeError
from streamforge_utils.settings import ArangoSettings, local_env, read_settings

Json = dict[str, Any]
TERMINAL = ("finished", "failed", "interrupted")
WARM = "warm process"
POLL_S = 0.02
TIMEOUT_S = 90.0
IN_ORDER = "FOR d IN @@collection SORT d.open_time RETURN UNSET(d, '_id', '_rev', 'queue_id')"

T = TypeVar("T")
S = TypeVar("S", bound="Scenario")


class ScenarioError(AssertionError):
    """The stack did not get to where the scenario needs it; the message says what was waited for."""


async def until(
    look: Callable[[], Awaitable[T | None]], what: str, *, timeout_s: float = TIMEOUT_S, poll_s: float = POLL_S
) -> T:
    """Look again and again until there is something; parts that are away meanwhile are looked at again.

    Raises:
        ScenarioError: there was nothing for ``timeout_s`` seconds.
    """
    deadline = time.monotonic() + timeout_s
    last = ""
    while time.monotonic() < deadline:
        try:
            if found := await look():
                return found
        except (httpx.HTTPError, OSError, StreamForgeError) as error:
            last = f"; last: {error!r}"
        await asyncio.sleep(poll_s)
    raise ScenarioError(f"{what}: not within {timeout_s:g} s{last}")


@dataclass(frozen=True, slots=True)
class Worker:
    """A living worker: which, its process, where its metrics are."""

    step: str
    ordinal: int
    pid: int
    address: str


@dataclass(slots=True)
class Scenario:
    """One running stack. ``api`` waits up to 15 s for an answer; ``store`` is the services' own client."""

    home: Home
    variables: dict[str, str]
    api: httpx.AsyncClient
    store: ArangoClient
    workers: httpx.AsyncClient
    """For the workers' own addresses."""
    seen: set[int] = field(default_factory=set)
    """Process ids of all workers that were ever looked at."""

    # --- the API -----------------------------------------------------------------------------------------------------

    async def submit(self, body: Json, **headers: str) -> Json:
        """POST a workflow; the accepted workflow."""
        answer = await self.api.post("/api/v1/workflows", json=body, headers=headers)
        if answer.status_code != httpx.codes.ACCEPTED:
            raise ScenarioError(f"POST /workflows: {answer.status_code} {answer.text}")
        return dict(answer.json())

    async def get(self, path: str, **query: Any) -> Json:
        """GET below ``/api/v1/workflows/``; raises httpx errors for anything but 2xx."""
        answer = await self.api.get(f"/api/v1/workflows/{path}", params=query)
        answer.raise_for_status()
        return dict(answer.json())

    async def post(self, path: str, **query: Any) -> Json:
        """POST below ``/api/v1/workflows/``."""
        answer = await self.api.post(f"/api/v1/workflows/{path}", params=query)
        answer.raise_for_status()
        return dict(answer.json())

    async def ended(self, queue_id: str, *, timeout_s: float = TIMEOUT_S) -> Json:
        """The workflow, once it is in a terminal state."""

        async def look() -> Json | None:
            workflow = await self.get(queue_id)
            return workflow if workflow["state"] in TERMINAL else None

        return await until(look, f"{queue_id} ends", timeout_s=timeout_s, poll_s=0.05)

    async def history(self, queue_id: str) -> list[Json]:
        """All messages of its history, oldest first."""
        found: list[Json] = []
        cursor: Json = {}
        while True:
            page = await self.get(f"{queue_id}/events", limit=500, **cursor)
            found += [item["message"] for item in page["items"]]
            if page["next"] is None:
                return found
            cursor = {"cursor": page["next"]}

    async def documents(self, collection: str) -> list[Json]:
        """Its documents in the order of time, without what names the run that wrote them."""
        return await self.store.query(IN_ORDER, {"@collection": collection})

    async def count(self, collection: str) -> int:
        """How many documents a collection has; 0 when there is none."""
        try:
            return await self.store.count(collection)
        except StreamForgeError:
            return 0

    # --- workers -----------------------------------------------------------------------------------------------------

    async def node(self, call: str, **arguments: Any) -> Json:
        """The local node's answer to one call."""
        reader, writer = await asyncio.open_unix_connection(self.home.node_socket, limit=1 << 24)
        try:
            writer.write(json.dumps({"call": call, **arguments}).encode() + b"\n")
            answer = json.loads(await reader.readline() or b"{}")
        finally:
            writer.close()
        if "result" not in answer:
            raise OSError(f"the node answers {call} with {answer}")
        return dict(answer["result"])

    async def jobs(self, queue_id: str) -> list[Json]:
        """The Jobs of a workflow, as the node has them."""
        found = [job for job in (await self.node("list"))["jobs"] if job["labels"].get("queue_id") == queue_id]
        self.seen |= {ordinal["pid"] for job in found for ordinal in job["ordinals"] if ordinal["pid"]}
        return found

    async def worker(self, queue_id: str, step: str, ordinal: int = 0, *, former: int | None = None) -> Worker:
        """A worker that lives and has said where its metrics are, and is not the process ``former``."""

        async def look() -> Worker | None:
            for job in await self.jobs(queue_id):
                status = job["ordinals"][ordinal] if job["labels"]["step"] == step else None
                if status and status["pid"] and status["pid"] != former:
                    for address in self.addresses_of(status["pid"]):
                        return Worker(step, ordinal, status["pid"], address)
            return None

        return await until(look, f"{step}/{ordinal} of {queue_id} lives", timeout_s=30)

    @staticmethod
    def addresses_of(pid: int) -> list[str]:
        """Where a process listens on TCP (proc(5)); none when it is gone."""
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
            with open(f"/proc/{pid}/net/tcp") as table:
                rows = [line.split() for line in table.readlines()[1:]]
        except OSError:
            return []
        inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
        return [f"127.0.0.1:{int(row[1].split(':')[1], 16)}" for row in rows if row[3] == "0A" and row[9] in inodes]

    async def metrics(self, worker: Worker) -> dict[str, float]:
        """A worker's samples: ``name`` or ``name{label values}`` -> value."""
        answer = await self.workers.get(f"http://{worker.address}/metrics")
        samples: dict[str, float] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                labels = ",".join(sample.labels.values())
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples

    async def committed(self, worker: Worker) -> int:
        """Records that this life of a worker has stored and committed."""
        return int((await self.metrics(worker)).get("streamforge_records_total{stored}", 0))

    async def readiness(self, address: str) -> tuple[int, Json]:
        """Status and body of a process' ``/health/ready``."""
        answer = await self.workers.get(f"http://{address}/health/ready")
        return answer.status_code, answer.json()

    # --- processes ---------------------------------------------------------------------------------------------------

    @property
    def supervisor(self) -> int:
        """The supervisor's process id."""
        if pid := daemon.supervisor_pid(self.home):
            return pid
        raise ScenarioError("the stack's supervisor does not run")

    async def pid(self, name: str) -> int:
        """The process of a part, or the node's warm process."""
        if name == WARM:
            return int((await self.node("info"))["warm_pid"])

        async def look() -> int | None:
            state = daemon.read_state(self.home)
            parts = state.parts if state is not None else []
            return next((part.pid for part in parts if part.name == name and part.state == "ready"), None)

        return await until(look, f"{name} is ready", timeout_s=60)

    async def all_ready(self) -> None:
        """Wait until every part of the stack is ready, and the node can start workers."""
        for name in PARTS:
            await self.pid(name)

        async def look() -> bool:
            answer = await self.api.get("/health/ready")
            return answer.is_success and bool((await self.node("info"))["ready"])

        await until(look, "the stack is ready", timeout_s=60)

    @contextlib.asynccontextmanager
    async def away(self, name: str) -> AsyncIterator[None]:
        """A part is not there, its port is closed, and nobody starts it again while the block lasts."""
        pid = await self.pid(name)
        supervisor = self.supervisor
        os.kill(supervisor, signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGKILL)
            await until(lambda: _done(not is_alive(pid)), f"{name} is gone", timeout_s=10)
            yield
        finally:
            os.kill(supervisor, signal.SIGCONT)

        async def back() -> bool:
            return await self.pid(name) != pid

        await until(back, f"{name} is back", timeout_s=60)

    def processes(self) -> list[int]:
        """All living processes of this stack (they carry its mark)."""
        return leftovers(self.home)


async def _done(is_done: bool) -> bool:
    return is_done


def is_alive(pid: int) -> bool:
    """Whether a process runs or is stopped; a zombie is dead."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """SIGSTOP while the block lasts; what was killed in it stays dead."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def scenario(home: Home, make: Callable[..., S]) -> AsyncIterator[S]:
    """The clients of the stack that runs in ``home``, for one event loop; ``make``: Scenario or one of its kind."""
    variables = local_env(environ={"STREAMFORGE_HOME": str(home.root)})
    names = ("url", "db", "user", "password")
    settings = read_settings(ArangoSettings, **{name: variables[f"ARANGO_{name.upper()}"] for name in names})
    store = ArangoClient(settings, threads=2)
    # Made once: a client makes an SSL context, which takes longer than the calls.
    api = httpx.AsyncClient(base_url=variables["QUEUE_MANAGER_URL"], timeout=15.0)
    async with api, httpx.AsyncClient(timeout=3.0, verify=False) as workers:  # noqa: S501 (plain HTTP on loopback)
        try:
            await store.open()
            yield make(home, variables, api, store, workers)
        finally:
            await store.close()
