"""The output of a Job's pods, line by line, across restarts of a container and rotation of its file.

A log never holds anything up: a connection that breaks is made again behind the last line that came.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from queue_manager.launcher.interface import LogLine
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterError
from queue_manager.launcher.kubernetes.objects import JOB_NAME, Job, Pod, job_of, pod_of, seconds
from queue_manager.launcher.kubernetes.refusals import refusal

SILENCE_S = 60.0
"""A followed log that says nothing for so long is asked for again."""
LOOK_S = 1.0
"""Between two looks for the next pod of an ordinal."""
MAX_WAITING = 1000
"""Lines that a slow reader may be behind."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the log is asked for; see Launcher.logs."""

    ordinal: int | None
    since: float | None
    tail: int | None
    follow: bool


async def read_logs(api: ClusterApi, jobs: str, name: str, wanted: Wanted) -> AsyncGenerator[LogLine]:
    """See Launcher.logs; ``jobs``: the path of the Jobs."""
    reader = _Reader(api, jobs, name, wanted)
    job = await reader.job()
    if job is None:
        return
    numbers = range(job.replicas) if wanted.ordinal is None else [wanted.ordinal]
    if not wanted.follow:
        for number in numbers:
            async with aclosing(reader.once(job, number)) as lines:
                async for line in lines:
                    yield line
        return
    async with aclosing(_merged(reader, job, numbers)) as lines:
        async for line in lines:
            yield line


async def _merged(reader: "_Reader", job: Job, numbers: Iterable[int]) -> AsyncGenerator[LogLine]:
    """All ordinals at once, as the lines come."""
    waiting: asyncio.Queue[LogLine | None] = asyncio.Queue(MAX_WAITING)

    async def feed(number: int) -> None:
        try:
            async with aclosing(reader.followed(job, number)) as lines:
                async for line in lines:
                    await waiting.put(line)
        finally:
            with contextlib.suppress(asyncio.QueueFull):
                waiting.put_nowait(None)

    tasks = [asyncio.create_task(feed(number), name="kubernetes-logs") for number in numbers]
    try:
        while not (all(task.done() for task in tasks) and waiting.empty()):
            line = await waiting.get()
            if line is not None:
                yield line
        for task in tasks:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class _Reader:
    """One request for a Job's log."""

    def __init__(self, api: ClusterApi, jobs: str, name: str, wanted: Wanted) -> None:
        self._api, self._jobs, self._name, self._wanted = api, jobs, name, wanted
        self._pods = f"/api/v1/namespaces/{api.namespace}/pods"

    async def job(self) -> Job | None:
        """The Job; None when it is gone."""
        try:
            return job_of(await self._api.get(f"{self._jobs}/{self._name}"))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise refusal(error) from error

    async def pods(self, number: int) -> list[Pod]:
        """The pods of an ordinal, oldest first."""
        try:
            found = await self._api.get(self._pods, labelSelector=f"{JOB_NAME}={self._name}")
        except ClusterError as error:
            raise refusal(error) from error
        pods = [pod for pod in map(pod_of, found["items"]) if pod.ordinal == number]
        return sorted(pods, key=lambda pod: pod.created_at)

    async def once(self, job: Job, number: int) -> AsyncGenerator[LogLine]:
        """What is there; ``tail`` lines of all lives together."""
        lines = [line for pod in await self.pods(number) async for line in self._lines(job, pod, self._wanted.since)]
        tail = self._wanted.tail
        for line in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
            yield line

    async def followed(self, job: Job, number: int) -> AsyncGenerator[LogLine]:
        """What is there, then what comes, until nothing of the ordinal will run again."""
        last = self._wanted.since
        begins = [line async for line in self.once(job, number)]
        for line in begins:
            last = line.ts
            yield line
        done: set[str] = set()
        while True:
            is_final = await self._is_final()
            for pod in await self.pods(number):
                if pod.uid in done or pod.started_at is None:
                    continue
                async with aclosing(self._lines(job, pod, last, follow=not pod.is_over)) as lines:
                    async for line in lines:
                        last = line.ts
                        yield line
                if pod.is_over:
                    done.add(pod.uid)
            if is_final:
                return
            await asyncio.sleep(LOOK_S)

    async def _is_final(self) -> bool:
        job = await self.job()
        return job is None or bool(job.conditions.keys() & {"Complete", "Failed"})

    async def _lines(
        self, job: Job, pod: Pod, behind: float | None, *, follow: bool = False
    ) -> AsyncGenerator[LogLine]:
        """Lines of one pod later than ``behind``; ends early when the connection breaks."""
        query = {"container": job.container, "timestamps": True, "follow": follow or None}
        if behind is not None:
            query["sinceTime"] = datetime.fromtimestamp(int(behind), UTC).isoformat().replace("+00:00", "Z")
        step, launch = job.labels.get("step", ""), int(job.labels.get("launch", 0))
        try:
            stream = self._api.stream(f"{self._pods}/{pod.name}/log", silence_s=SILENCE_S, **query)
            async with aclosing(stream) as raw:
                async for text in raw:
                    stamp, _, line = text.decode(errors="replace").rstrip("\n").partition(" ")
                    at = _at(stamp)
                    if behind is None or at > behind:
                        yield LogLine(ts=at, step=step, replica=pod.ordinal, launch=launch, line=line)
        except ClusterError:
            return  # gone, not started yet, or the connection broke: the next look goes on behind the last line


def _at(stamp: str) -> float:
    """Nanoseconds are more than a time of Python's has."""
    whole, dot, rest = stamp.partition(".")
    return seconds(f"{whole}Z" if dot else stamp) + (float(f"0.{rest.rstrip('Z')}") if dot else 0.0)
