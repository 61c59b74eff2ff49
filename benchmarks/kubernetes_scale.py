"""``python -m benchmarks.kubernetes_scale``: waves of Jobs on simulated nodes through one queue-manager, one table.

Nothing else should run meanwhile; 5,000 Jobs a wave take seven minutes on two cores, all of it half an hour.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks import bare_jobs
from benchmarks.crowd import SAMPLES, Crowd
from benchmarks.figures import Figure, percentile, show
from benchmarks.job_ends import JobEnds
from benchmarks.simulated_cluster import Scene, simulated

MAX_BYTES = 250e6
MAX_GROWTH = 1.05
MAX_LAG_S = 5.0
MAX_SUBMIT_S = 0.1
MAX_RETURN_S = 30.0
TELL_S = 10.0
COUNT_AGE_S = 1.5
"""A count of workflows may be a second old."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for: Jobs of a wave, waves, submits a second, seconds for which each pod runs."""

    jobs: int
    waves: int
    rate: float
    run_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured beside the waves."""

    with_floor: bool
    with_restart: bool


@dataclass(slots=True)
class Wave:
    """What a wave showed."""

    submits: list[float] = field(default_factory=list)
    """Seconds to each answer."""
    lags: list[float] = field(default_factory=list)
    """Seconds from a Job's end to the answer that shows it."""
    seconds: float = 0.0
    """From the first submit to the last workflow's end."""
    peak: int = 0
    """Bytes of the queue-manager."""
    cpu_s: float = 0.0
    """Its processor time."""

    @property
    def summary(self) -> str:
        """All of it in a line."""
        return (
            f"{self.seconds:.0f} s, peak {self.peak / 1e6:.0f} MB, processor {self.cpu_s:.0f} s, "
            f"longest lag {max(self.lags):.2f} s, submits p99 {percentile(self.submits, 0.99) * 1000:.0f} ms"
        )


@dataclass(frozen=True, slots=True)
class Return:
    """How a queue-manager that was killed in the middle of a wave came back; seconds since its start."""

    ready_s: float
    agreed_s: float
    """Every workflow whose Job had ended when it was ready has ended too."""
    behind: int
    """How many these were."""
    peaks: tuple[int, int]
    """Bytes, of the one that was killed and of the one that was started."""


def main(argv: Sequence[str]) -> int:
    """Measure and print; 1 when a promise is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kubernetes_scale", description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000, help="Jobs of each wave (5000)")
    parser.add_argument("--waves", type=int, default=3, help="waves one after the other (3); 0: the restart alone")
    parser.add_argument("--rate", type=float, default=50.0, help="submits a second (50)")
    parser.add_argument("--run", type=float, default=10.0, metavar="S", help="seconds for which each pod runs (10)")
    parser.add_argument("--nice", type=int, default=10, help="how far the cluster's servers give way to the rest (10)")
    parser.add_argument("--no-restart", action="store_true", help="without the wave in which it is killed")
    parser.add_argument("--floor", action="store_true", help="and a wave by a bare program, with no queue-manager")
    parser.add_argument("--folder", type=Path, help="where data and logs are left; a temporary one")
    asked = parser.parse_args(argv)
    load = Load(asked.jobs, asked.waves, asked.rate, asked.run)
    with tempfile.TemporaryDirectory(prefix="streamforge-scale-") as name:
        folder = (asked.folder or Path(name)).resolve()
        with simulated(folder, places=load.jobs, run_s=load.run_s, nice=asked.nice) as scene:
            plan = Plan(with_floor=asked.floor, with_restart=not asked.no_restart)
            figures = uvloop.run(_measure(scene, load, plan))
    show(figures)
    return 1 if any(figure.is_met is False for figure in figures) else 0


async def _measure(scene: Scene, load: Load, plan: Plan) -> list[Figure]:
    at_rest = scene.memory()
    waves: list[Wave] = []
    floor = back = None
    if plan.with_floor:
        sys.stderr.write("floor ...\n")
        floor = await bare_jobs.seconds(scene, load.jobs, rate=load.rate, run_s=load.run_s)
    async with _crowd(scene) as crowd:
        for number in range(1, load.waves + 1):
            async with _told(f"wave {number}", scene, crowd):
                waves.append(await _wave(scene, crowd, load))
            sys.stderr.write(f"wave {number}: {waves[-1].summary}\n")  # an interrupted run is not for nothing
            await asyncio.to_thread(scene.clear)
        if plan.with_restart:
            async with _told("restart", scene, crowd):
                back = await _restart(scene, crowd, load)
    figures = _wave_figures(load, waves, at_rest=at_rest, floor=floor) if waves else []
    return figures + (_return_figures(load, back) if back else [])


@asynccontextmanager
async def _crowd(scene: Scene) -> AsyncIterator[Crowd]:
    """A crowd that follows."""
    crowd, opened = Crowd(scene), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(crowd.follow(opened))
        await opened.wait()
        yield crowd
        following.cancel()


@asynccontextmanager
async def _told(what: str, scene: Scene, crowd: Crowd) -> AsyncIterator[None]:
    """Say now and then how far it is."""
    began, before = time.perf_counter(), len(crowd.ended)

    async def tell() -> None:
        while True:
            seconds, ended = time.perf_counter() - began, len(crowd.ended) - before
            memory = 0
            with contextlib.suppress(OSError):  # it is being killed
                memory = scene.memory()
            sys.stderr.write(f"{what}: {seconds:4.0f} s, {ended} ended, queue-manager {memory / 1e6:.0f} MB\n")
            await asyncio.sleep(TELL_S)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling


async def _wave(scene: Scene, crowd: Crowd, load: Load) -> Wave:
    """All of a wave's workflows, from nothing to their ends; the store says the same as the topic."""
    wave, done = Wave(), asyncio.Event()
    taken: list[str] = []
    await asyncio.to_thread(scene.forget_peak)
    began, before, cpu_s = time.perf_counter(), await crowd.finished(), scene.cpu_s()
    with JobEnds(scene) as job_ends:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(crowd.sample(job_ends, done, wave.lags, every=max(1, load.jobs // SAMPLES)))
            await crowd.submit(load.jobs, load.rate, taken=taken, latencies=wave.submits)
            await crowd.until_ended(taken)
            wave.seconds = time.perf_counter() - began
            done.set()
    wave.peak, wave.cpu_s = scene.memory("VmHWM"), scene.cpu_s() - cpu_s
    await asyncio.sleep(COUNT_AGE_S)
    if (counted := await crowd.finished() - before) != load.jobs:
        raise RuntimeError(f"the store counts {counted} finished workflows of {load.jobs} whose ends were told")
    return wave


async def _restart(scene: Scene, crowd: Crowd, load: Load) -> Return:
    """Killed when half of the workflows have ended, and started at once; then all of them come to their ends."""
    taken: list[str] = []
    with JobEnds(scene) as job_ends:
        await crowd.submit(load.jobs, load.rate, taken=taken, latencies=[])
        await crowd.until_ended(taken, share=0.5)
        peak = scene.memory("VmHWM")
        await asyncio.to_thread(scene.queue_manager.kill)
        began = time.perf_counter()
        await asyncio.to_thread(scene.queue_manager.start)
        await asyncio.to_thread(scene.queue_manager.wait_ready)
        ready_s = time.perf_counter() - began
        job_ends.check()
        behind = crowd.behind(job_ends, taken)
    await crowd.until_ended(behind)
    agreed_s = time.perf_counter() - began
    await crowd.until_ended(taken)
    return Return(ready_s, agreed_s, len(behind), (peak, scene.memory("VmHWM")))


def _wave_figures(load: Load, waves: Sequence[Wave], *, at_rest: int, floor: float | None) -> list[Figure]:
    submits = [seconds for wave in waves for seconds in wave.submits]
    lags = [seconds for wave in waves for seconds in wave.lags]
    peaks = [wave.peak for wave in waves]
    by_wave = ", ".join(f"{peak / 1e6:.0f}" for peak in peaks)
    growth = peaks[-1] / peaks[0]
    p99 = percentile(submits, 0.99)
    return [
        Figure(
            f"{load.jobs:,} Jobs, {load.rate:g} submits/s: first submit -> last end, by wave",
            ", ".join(f"{wave.seconds:.0f}" for wave in waves) + " s",
            "" if floor is None else f"{floor:.0f} s",
            "",
            None,
        ),
        Figure(
            "processor time of the queue-manager, a workflow",
            f"{sum(wave.cpu_s for wave in waves) / (load.jobs * len(waves)) * 1000:.1f} ms",
            "",
            "",
            None,
        ),
        Figure(
            "memory of the queue-manager (RSS), peak by wave",
            f"{by_wave} MB (at rest {at_rest / 1e6:.0f}), last/first {growth:.2f}x",
            "",
            f"< {MAX_BYTES / 1e6:.0f} MB, <= {MAX_GROWTH}x",
            max(peaks) < MAX_BYTES and growth <= MAX_GROWTH,
        ),
        Figure(
            f"a Job's end -> its workflow is finished, {len(lags)} samples",
            f"p50 {percentile(lags, 0.5):.2f} s, p99 {percentile(lags, 0.99):.2f} s, longest {max(lags):.2f} s",
            "",
            f"< {MAX_LAG_S:g} s",
            max(lags) < MAX_LAG_S,
        ),
        Figure(
            "submits meanwhile",
            f"p50 {percentile(submits, 0.5) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest {max(submits):.2f} s",
            "",
            f"p99 < {MAX_SUBMIT_S * 1000:.0f} ms",
            p99 < MAX_SUBMIT_S,
        ),
    ]


def _return_figures(load: Load, back: Return) -> list[Figure]:
    return [
        Figure(
            f"queue-manager killed amid {load.jobs:,} Jobs and started: ready, in agreement",
            f"{back.ready_s:.1f} s, {back.agreed_s:.1f} s ({back.behind:,} ends to catch up with)",
            "",
            f"< {MAX_RETURN_S:g} s",
            back.agreed_s < MAX_RETURN_S,
        ),
        Figure(
            "memory of the one that was killed and of the one that was started (RSS), peak",
            ", ".join(f"{peak / 1e6:.0f}" for peak in back.peaks) + " MB",
            "",
            f"< {MAX_BYTES / 1e6:.0f} MB",
            max(back.peaks) < MAX_BYTES,
        ),
    ]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
