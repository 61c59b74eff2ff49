"""Many workflows at once: those that run do not wait for those that begin."""

import asyncio
import itertools
from collections import deque

import pytest

from queue_manager import decisions
from queue_manager.controller.actions import Actions
from queue_manager.controller.documents import Documents
from queue_manager.controller.event_reader import EventReader
from queue_manager.controller.outbox import Outbox
from queue_manager.controller.work_queue import WorkQueue

pytestmark = pytest.mark.looptime

CROWD = 40
CREATE_S = 1.0
WORKERS = 2


async def test_news_of_a_workflow_that_runs_do_not_wait_for_jobs_that_are_to_be_created(stage, make_step):
    turn = asyncio.Lock()

    class Paced(type(stage.launcher)):
        async def create(self, spec):
            async with turn:
                await asyncio.sleep(CREATE_S)
            return await super().create(spec)

    stage.launcher.__class__ = Paced
    async with stage.running(concurrency=WORKERS, max_running=CROWD) as controller:
        await asyncio.sleep(2)
        crowd = [await stage.submit(make_step("loader"), controller=controller) for _ in range(CROWD)]
        await stage.finish(crowd[0], "loader")
        # its two or three looks each wait for a worker, of which all may be creating a Job
        await stage.until_state(crowd[0], "finished", timeout=4 * WORKERS * CREATE_S)
        assert len(stage.launcher.created) < CROWD / 2
        for queue_id in crowd[1:]:
            await stage.finish(queue_id, "loader")
        await stage.until_state(crowd[-1], "finished")


@pytest.mark.parametrize(("takes_s", "rest_s"), [(0.01, 1.0), (0.5, 4.5), (5.0, 10.0)])
async def test_a_look_at_all_workflows_that_takes_long_is_taken_more_rarely(stage, takes_s, rest_s):
    looks = []

    class Slow(type(stage.store)):
        async def open_workflows(self):
            await asyncio.sleep(takes_s)
            looks.append(stage.clock())
            return await super().open_workflows()

    stage.store.__class__ = Slow
    async with stage.running(resync_s=1.0):
        await asyncio.sleep(60)
    rests = [later - earlier - takes_s for earlier, later in itertools.pairwise(looks)]
    assert rests == pytest.approx([rest_s] * len(rests), abs=0.05)
    assert len(rests) >= 3


async def test_a_controller_that_comes_back_reads_all_workflows_in_few_requests(stage, make_step):
    reads = []

    class Counting(type(stage.store)):
        async def get_many(self, queue_ids):
            reads.append(len(queue_ids))
            return await super().get_many(queue_ids)

        async def open_workflows(self):
            reads.append("all")
            return await super().open_workflows()

    async with stage.running(max_running=CROWD) as controller:
        await asyncio.sleep(2)
        crowd = [await stage.submit(make_step("loader"), controller=controller) for _ in range(CROWD)]
        for queue_id in crowd:
            await stage.job(queue_id, "loader")
    stage.store.__class__ = Counting
    for queue_id in crowd:
        await stage.finish(queue_id, "loader")
    async with stage.running(max_running=CROWD):
        for queue_id in crowd:
            await stage.until_state(queue_id, "finished")
    assert reads[:2] == ["all", CROWD]
    assert set(reads[2:]) <= {"all"}
    assert len(stage.launcher.created) == CROWD


async def test_the_documents_of_workflows_that_run_rest_until_something_happens(stage, make_step):
    async with stage.running(max_running=CROWD) as controller:
        await asyncio.sleep(2)
        crowd = [await stage.submit(make_step("loader"), controller=controller) for _ in range(CROWD)]
        for queue_id in crowd:
            await stage.job(queue_id, "loader")
        await asyncio.sleep(60)
        documents = controller._reign.documents
        assert sorted(documents) == sorted(crowd)
        assert not documents._awake
        await stage.finish(crowd[0], "loader")
        await stage.until_state(crowd[0], "finished")


async def test_nothing_is_kept_of_workflows_that_have_ended_or_are_gone(stage, make_step):
    async with stage.running(max_running=CROWD // 2) as controller:
        await asyncio.sleep(2)
        crowd = [await stage.submit(make_step("loader"), controller=controller) for _ in range(CROWD)]
        for queue_id in crowd:
            await stage.finish(queue_id, "loader")
            await stage.until_state(queue_id, "finished")
        for queue_id in crowd[::2]:
            await stage.store.change(queue_id, lambda d: decisions.ask_delete(d, purge=False, now=stage.clock()))
            controller.nudge(queue_id)
        for queue_id in crowd[::2]:
            while await stage.store.get(queue_id) is not None:
                await asyncio.sleep(0.1)
        await asyncio.sleep(60)
        reign = controller._reign
        # the Jobs of those that are not deleted are still there
        kept = [_mentions(getattr(reign, name), set(crowd), name) for name in reign.__slots__ if name != "jobs"]
    assert not list(itertools.chain(*kept))


def _mentions(what, names, path=""):
    """Where in what the controller remembers one of the names stands."""
    if isinstance(what, str):
        return [path] * (what in names)
    if isinstance(what, dict):
        parts = [("{}", value) for pair in what.items() for value in pair]
    elif isinstance(what, (set, list, tuple, deque)):
        parts = [("[]", value) for value in what]
    elif isinstance(what, (Actions, Documents, EventReader, Outbox, WorkQueue)):
        parts = [(f".{name}", value) for name, value in vars(what).items()]
    else:
        return []
    return sorted({found for name, value in parts for found in _mentions(value, names, path + name)})
