"""Thousands of workflows at once: submits at a pace, and when the queue-manager says that each has ended.

Ends are told by queue-events: asking the API about thousands of workflows would be a load of its own.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Collection
from functools import partial

import orjson

from benchmarks.http_caller import Caller
from benchmarks.job_ends import JobEnds
from benchmarks.pace import at_pace
from benchmarks.simulated_cluster import Scene
from streamforge_utils.contracts.events import Decision, DecisionName, from_json
from streamforge_utils.kafka.transport import KafkaClientTransport

CALLERS = 16
SAMPLES = 50
"""Workflows of a wave whose ends are looked for in the API itself."""
LOOK_S = 0.02
"""Between two looks at one of them."""
FIRST_S, PER_JOB_S = 180.0, 0.3
"""How long a wave may take."""

_WORKFLOWS = "/api/v1/workflows"
_BODY = orjson.dumps({"symbol": "BTCUSDT", "type": "ws_bench", "steps": [{"target": "played"}]})
_FINISHED = re.compile(rb'^streamforge_workflows\{state="finished"\} ([0-9.e+]+)$', re.MULTILINE)


class Crowd:
    """The load's side of one queue-manager."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.ended: dict[str, str] = {}
        """Every workflow that has ended, by ``queue_id``: its state."""

    async def follow(self, opened: asyncio.Event) -> None:
        """Keep ``ended`` up to date until cancelled; ``opened``: nothing will be missed from now on."""
        transport = KafkaClientTransport(self._scene.kafka, control_topic="queue-control", events_topic="queue-events")
        await transport.open()
        opened.set()
        try:
            async for value in transport.events():
                told = from_json(value)
                if isinstance(told, Decision) and told.decision is DecisionName.ENDED and told.payload["step"] is None:
                    self.ended[told.queue_id] = told.payload["state"]
        finally:
            await transport.close()

    async def submit(self, count: int, rate: float, *, taken: list[str], latencies: list[float]) -> None:
        """``count`` workflows, ``rate`` a second; a request counts from its turn."""

        async def send(caller: Caller, _: int, turn: float) -> None:
            status, answer = await caller.call("POST", _WORKFLOWS, _BODY)
            if status != 202:
                raise RuntimeError(f"POST {_WORKFLOWS}: {status} {answer.decode()}")
            latencies.append(time.perf_counter() - turn)
            taken.append(orjson.loads(answer)["queue_id"])

        async with contextlib.AsyncExitStack() as stack:
            await at_pace(count, rate, [partial(send, await self._caller(stack)) for _ in range(CALLERS)])

    async def until_ended(self, queue_ids: Collection[str], *, share: float = 1.0) -> None:
        """Wait for the ends of a share of them.

        Raises:
            RuntimeError: one has not finished but ended otherwise, or it takes too long.
        """
        number = round(share * len(queue_ids))
        deadline = time.perf_counter() + FIRST_S + PER_JOB_S * len(queue_ids)
        while (ended := sum(queue_id in self.ended for queue_id in queue_ids)) < number:
            if time.perf_counter() > deadline:
                late = next(queue_id for queue_id in queue_ids if queue_id not in self.ended)
                shown = await self.shown(late)
                raise RuntimeError(f"{ended} of {number} workflows have ended in time; {late} is {shown}")
            await asyncio.sleep(0.1)
        for queue_id in queue_ids:
            if self.ended.get(queue_id, "finished") != "finished":
                raise RuntimeError(f"{queue_id} is {self.ended[queue_id]}: {await self.shown(queue_id)}")

    def behind(self, job_ends: JobEnds, queue_ids: Collection[str]) -> list[str]:
        """Those of which the Job has ended and the workflow has not."""
        over = {queue_id for queue_id, _ in job_ends.ends}
        return [queue_id for queue_id in queue_ids if queue_id in over and queue_id not in self.ended]

    async def sample(self, job_ends: JobEnds, done: asyncio.Event, lags: list[float], *, every: int) -> None:
        """Until done: seconds from a Job's end in the cluster to the answer that shows it, of every so many-th Job."""
        position = 0
        async with asyncio.TaskGroup() as looks:
            while not done.is_set():
                job_ends.check()
                for queue_id, at in job_ends.ends[position:]:
                    if position % every == 0:
                        looks.create_task(self._look(queue_id, at, lags))
                    position += 1
                await asyncio.sleep(LOOK_S)

    async def _look(self, queue_id: str, at: float, lags: list[float]) -> None:
        async with contextlib.AsyncExitStack() as stack:
            caller = await self._caller(stack)
            state = None
            while state != "finished":
                await asyncio.sleep(LOOK_S if state else 0)
                _, answer = await caller.call("GET", f"{_WORKFLOWS}/{queue_id}")
                state = orjson.loads(answer)["state"]
        lags.append(time.perf_counter() - at)

    async def shown(self, queue_id: str) -> str:
        """The API's answer about a workflow."""
        async with contextlib.AsyncExitStack() as stack:
            return (await (await self._caller(stack)).call("GET", f"{_WORKFLOWS}/{queue_id}"))[1].decode()

    async def finished(self) -> int:
        """How many workflows are finished as the queue-manager counts them in its store, at most a second ago."""
        async with contextlib.AsyncExitStack() as stack:
            _, answer = await (await self._caller(stack)).call("GET", "/metrics")
        found = _FINISHED.search(answer)
        return int(float(found[1])) if found else 0

    async def _caller(self, stack: contextlib.AsyncExitStack) -> Caller:
        caller = await Caller.open(self._scene.url)
        stack.push_async_callback(caller.close)
        return caller
