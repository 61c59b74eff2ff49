"""kill -9 of every part of the platform, at drawn points of the main job, one and two at a time.

A round is drawn by its number alone. Phases are reached by what can be seen and done from outside (counts, SIGSTOP);
each is proved to be alive at the moment of the kill. STREAMFORGE_FAULT_ROUNDS says how many of the 30 rounds run.
"""

import asyncio
import contextlib
import os
import random
import signal
from dataclasses import dataclass, replace

import httpx
import pytest

from streamforge_local.scenario import PARTS, WARM, frozen, is_alive, until

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(240)]

ROUNDS = 30
RUN = int(os.environ.get("STREAMFORGE_FAULT_ROUNDS") or 5)
CANDLES, RATE = 14_400, 4_800
STEPS = ("loader-candles", "candle-indicators", "arango-candles")
LOADER, SINK = STEPS[0], STEPS[-1]
AT_RECORD, STORED, DRAIN, LAST = "at a record", "between store and commit", "in the drain", "before the last event"
PHASES = (AT_RECORD, STORED, DRAIN, LAST)
VICTIMS = (*PARTS, WARM, *STEPS)
TRIES = 4


class Missed(Exception):
    """The phase was over before it could be held; a fresh workflow tries again."""


@dataclass(frozen=True)
class Round:
    number: int
    phase: str
    subject: str
    victims: tuple[str, ...]
    share: float
    """How far the job is, 0 to 1."""
    slice_s: float
    """For how long the broker answers before the last event is held."""

    def __str__(self):
        return f"{self.number:02} {'+'.join(self.victims)} {self.phase}".replace(" ", "-")


def possible(phase):
    """Who lives in a phase: the loader has ended when the others drain."""
    return tuple(victim for victim in VICTIMS if phase != DRAIN or victim != LOADER)


def drawn_rounds():
    """All rounds: every phase in turn, and in each every victim that it can have."""
    draw = random.Random("faults")
    open_ = {phase: draw.sample(possible(phase), len(possible(phase))) for phase in PHASES}
    rounds = []
    for number in range(ROUNDS):
        phase = PHASES[number % len(PHASES)]
        victims = []
        for _ in range(1 + (number + number // len(PHASES)) % 2):
            left = [victim for victim in open_[phase] or possible(phase) if victim not in victims]
            victims.append(left[0] if open_[phase] else draw.choice(left))
            open_[phase] = [victim for victim in open_[phase] if victim not in victims]
        workers = [step for step in STEPS if step in victims]
        subjects = workers[:1] or (STEPS[1:] if phase == DRAIN else STEPS)
        subject = SINK if phase in (AT_RECORD, STORED) else draw.choice(subjects)
        share = draw.uniform(0.75, 0.97) if phase == DRAIN else draw.uniform(0.05, 0.6)
        rounds.append(Round(number, phase, subject, tuple(victims), share, draw.uniform(0, 0.02)))
    return rounds


def test_the_rounds_kill_each_part_in_each_phase_alone_and_in_pairs():
    rounds = drawn_rounds()
    killed = {(r.phase, victim) for r in rounds for victim in r.victims}
    assert killed == {(phase, victim) for phase in PHASES for victim in possible(phase)}
    assert {len(r.victims) for r in rounds[:5]} == {1, 2}
    assert {r.phase for r in rounds[:5]} == set(PHASES)
    assert {r.subject for r in rounds if r.phase == LAST} == set(STEPS)


@contextlib.asynccontextmanager
async def at_a_record(live, queue_id, round_):
    worker = await live.worker(queue_id, SINK)
    await _committed(live, worker, round_.share * CANDLES)
    yield


@contextlib.asynccontextmanager
async def between_store_and_commit(live, queue_id, round_):
    """The sink's worker waits for a store that is frozen; the broker freezes; the store goes on and confirms."""
    worker = await live.worker(queue_id, SINK)
    await _committed(live, worker, round_.share * CANDLES)
    arango, kafka = await live.pid("arango"), await live.pid("kafka")
    with contextlib.ExitStack() as broker:
        with frozen(arango):
            await asyncio.sleep(0.5)  # five deliveries of the loader: the worker has one in hand
            broker.enter_context(frozen(kafka))
        collection = (await live.get(queue_id))["collection"]

        async def is_stored():
            return await live.count(collection) > await live.committed(worker)

        await until(is_stored, "a batch is stored and not committed", timeout_s=15)
        yield


@contextlib.asynccontextmanager
async def in_the_drain(live, queue_id, round_):
    """The worker freezes with records left; all before it ends, and the controller says up to where it shall read."""
    worker = await live.worker(queue_id, round_.subject)
    await _committed(live, worker, round_.share * CANDLES)
    with frozen(worker.pid):
        await _drain_is_asked(live, queue_id, round_.subject)
        yield


@contextlib.asynccontextmanager
async def before_the_last_event(live, queue_id, round_):
    """Everything is committed, the worker knows that it is done, and the broker has not acknowledged `finished`."""
    worker = await live.worker(queue_id, round_.subject)
    kafka = await live.pid("kafka")
    with contextlib.ExitStack() as broker:
        await _committed(live, worker, CANDLES)
        if round_.subject == LOADER:  # its end follows the last delivery by a tenth of a second
            broker.enter_context(frozen(kafka))
        else:
            with frozen(worker.pid):
                await _drain_is_asked(live, queue_id, round_.subject)
                await asyncio.sleep(0.3)  # the command is in the worker's socket
                broker.enter_context(frozen(kafka))
        is_told = round_.subject == LOADER
        pause = round_.slice_s
        for _ in range(100):
            os.kill(kafka, signal.SIGCONT)
            await asyncio.sleep(pause)
            os.kill(kafka, signal.SIGSTOP)
            await asyncio.sleep(0.05)
            try:
                samples = await live.metrics(worker)
            except httpx.HTTPError as error:
                raise Missed from error
            if not is_alive(worker.pid) or samples.get("streamforge_events_total{finished}"):
                raise Missed
            if is_told or samples.get("streamforge_commands_total{drain}"):
                break
            pause = 0.002
        else:
            raise Missed
        yield


HOLD = {
    AT_RECORD: at_a_record,
    STORED: between_store_and_commit,
    DRAIN: in_the_drain,
    LAST: before_the_last_event,
}


async def _committed(live, worker, records):
    async def look():
        if not is_alive(worker.pid):
            raise Missed
        return await live.committed(worker) >= records

    await until(look, f"{worker.step} has committed {records:.0f} records", timeout_s=30, poll_s=0.005)


async def _drain_is_asked(live, queue_id, step):
    async def look():
        asked = [m["payload"] for m in await live.history(queue_id) if m.get("decision") == "asked"]
        return any(payload.get("ask") == "drain" and payload.get("step") == step for payload in asked)

    await until(look, f"{step} is told to drain", timeout_s=30)


async def _kill(live, queue_id, round_):
    """Everybody is found, proved alive, and killed in one go."""
    pids = {}
    for victim in round_.victims:
        if victim in STEPS:
            pids[victim] = (await live.worker(queue_id, victim)).pid
        else:
            pids[victim] = await live.pid(victim)
    workflow = await live.get(queue_id)
    states = {step["name"]: step["state"] for step in workflow["steps"]}
    assert workflow["state"] == "running", workflow
    assert states[round_.subject] == "running", states
    assert all(is_alive(pid) for pid in pids.values()), pids
    for pid in pids.values():
        # One of two may take the other along: a node's workers die with it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return states


@pytest.fixture(scope="session")
def clean_runs():
    """Documents of uninterrupted runs, by file."""
    return {}


async def _clean_run(live, path, request_of, clean_runs):
    if path not in clean_runs:
        body = request_of(path, template="candles-with-indicators", collection="clean_run")
        workflow = await live.ended((await live.submit(body))["queue_id"])
        assert workflow["state"] == "finished", workflow
        clean_runs[path] = await live.documents("clean_run")
        assert len(clean_runs[path]) == CANDLES
    return clean_runs[path]


async def _run(live, path, request_of, round_):
    """Run the job and kill in the phase; the workflow's id, its Jobs as they were, the parts' former processes."""
    collection = f"round_{round_.number}_{random.randrange(10**9)}"
    body = request_of(path, template="candles-with-indicators", collection=collection, rate=RATE)
    queue_id = (await live.submit(body))["queue_id"]
    for step in STEPS:
        await live.worker(queue_id, step)
    jobs = {job["name"]: job["created_at"] for job in await live.jobs(queue_id)}
    former = {victim: await live.pid(victim) for victim in round_.victims if victim not in STEPS}
    try:
        async with HOLD[round_.phase](live, queue_id, round_):
            await _kill(live, queue_id, round_)
    except Missed:
        await live.ended(queue_id)
        raise
    return queue_id, jobs, former


@pytest.mark.parametrize("round_", drawn_rounds()[:RUN], ids=str)
async def test_the_job_ends_as_if_nothing_had_been_killed(live, round_, made_file, request_of, clean_runs):
    clean = await _clean_run(live, made_file, request_of, clean_runs)
    processes = len(live.processes())
    for attempt in range(TRIES):
        with contextlib.suppress(Missed):
            sooner = replace(round_, slice_s=round_.slice_s / 4**attempt)
            queue_id, jobs, former = await _run(live, made_file, request_of, sooner)
            break
    else:
        pytest.fail(f"{round_}: the phase could not be held in {TRIES} workflows")

    workflow = await live.ended(queue_id)
    assert workflow["state"] == "finished", workflow
    for step in workflow["steps"]:
        assert step["records_read"] == step["stored"] == CANDLES, step
        assert step["dead_lettered"] == step["dropped"] == 0, step
        assert [launch["number"] for launch in step["launches"]] == [1], step
    assert await live.documents(workflow["collection"]) == clean
    await live.all_ready()
    for victim, pid in former.items():
        assert await live.pid(victim) != pid
    await _is_launched_once(live, queue_id, jobs, round_)

    async def nobody_is_left():
        return len(live.processes()) == processes and not any(is_alive(pid) for pid in live.seen)

    await until(nobody_is_left, "nothing of the workflow runs", timeout_s=15)


async def _is_launched_once(live, queue_id, jobs, round_):
    """The same three Jobs as before the kill, and no life of a worker that no death explains."""
    ended = await live.jobs(queue_id)
    assert {job["name"]: job["created_at"] for job in ended} == jobs
    assert len(jobs) == len(ended) == len(STEPS)
    history = await live.history(queue_id)
    assert sorted(m["payload"]["step"] for m in history if m.get("decision") == "launched") == sorted(STEPS)
    for job in ended:
        step, (ordinal,) = job["labels"]["step"], job["ordinals"]
        deaths = ordinal["restarts"] + ordinal["disruptions"]
        lives = {m["run"] for m in history if m.get("event") == "started" and m["step"] == step}
        assert (job["condition"], job["live"]) == ("complete", 0)
        assert len(lives) <= 1 + deaths, (step, lives, ordinal)
        assert deaths >= (step in round_.victims), (step, ordinal)
