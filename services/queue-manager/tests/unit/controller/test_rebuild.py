"""A rebuild from queue-events comes to the documents that the live controller made."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queue_manager import decisions, view
from queue_manager.controller.broker import Line
from queue_manager.rebuild import read_all, rebuild, restore
from queue_manager.store.memory import MemoryStore

pytestmark = pytest.mark.looptime


def comparable(document):
    stored = document.to_store()
    stored["outbox"] = []
    stored["is_open"] = None
    # made by the controller without a decision: it does it again
    stored["status"]["topics"] = None
    return stored


async def live(stage, make_step):
    """Two workflows: one with a vanished reader, stopped with drain and retried; one that failed."""
    async with stage.running() as controller:
        first = await stage.submit(make_step("loader", writes=("data",)), make_step("sink", reads=("data",)))
        second = await stage.submit(make_step("loader", writes=("data",)), make_step("sink", reads=("data",)))
        for name in ("loader", "sink"):
            await stage.job(first, name)
            stage.say(first, name, "started", metrics_port=1234)
        stage.say(first, "loader", "loading", counters={"read": 4, "stored": 4, "written": 4})
        await stage.until_state(first, "running")
        stage.launcher.vanish(await stage.job(first, "sink"))
        await stage.job(first, "sink", 2)
        stage.say(first, "sink", "heartbeat", launch=1)
        await stage.store.change(first, lambda d: decisions.ask_stop(d, drain=True, now=stage.clock()))
        controller.nudge(first)
        await stage.finish(first, "loader", partial=True)
        await stage.finish(first, "sink", launch=2, counters={"read": 4, "stored": 4})
        await stage.until_state(first, "finished")
        stage.say(first, "sink", "loading", launch=2, counters={"read": 9, "stored": 9})
        await stage.store.change(first, lambda d: decisions.ask_retry(d, now=stage.clock()))
        controller.nudge(first)
        await stage.finish(first, "loader", launch=2)
        await stage.finish(first, "sink", launch=3)
        await stage.until_state(first, "finished")
        job = await stage.job(second, "loader")
        stage.launcher.complain(job, "BackOff: restarting it")
        for _ in range(3):
            stage.launcher.say(job, "it broke")
            stage.launcher.exit(job, 0, 1)
        await stage.until(second, lambda d: d.status.stopping is not None)
        stage.say(second, "sink", "interrupted")
        stage.launcher.exit(await stage.job(second, "sink"), 0, 0)
        await stage.until_state(second, "failed")
        for queue_id in (first, second):
            await stage.until(queue_id, lambda d: not d.is_open)
    return first, second


async def test_a_rebuild_gives_the_same_documents(stage, make_step):
    first, second = await live(stage, make_step)
    documents = rebuild(await read_all(stage.broker))
    for queue_id in (first, second):
        made = await stage.get(queue_id)
        assert comparable(documents[queue_id]) == comparable(made)
        assert view.workflow(documents[queue_id]) == view.workflow(made)
    assert (await stage.get(first)).status.attempt == 2
    failed = documents[second].step("loader")
    assert (failed.last_lines, failed.warnings) == (("it broke",), ("BackOff: restarting it",))


async def test_a_rebuilt_store_goes_on_and_leaves_what_is_there(stage, make_step):
    first, second = await live(stage, make_step)
    documents = rebuild(await read_all(stage.broker))
    store = MemoryStore()
    assert await restore(store, documents.values(), is_replacing=False) == (2, 0)
    assert await restore(store, documents.values(), is_replacing=False) == (0, 2)
    assert await restore(store, documents.values(), is_replacing=True) == (2, 0)
    assert {row["queue_id"] for row in (await store.page(decisions_filter(), limit=10)).rows} == {first, second}


def decisions_filter():
    from queue_manager.store.interface import Filter

    return Filter()


async def test_a_deleted_workflow_and_one_without_its_beginning_are_not_made(stage, make_step):
    async with stage.running() as controller:
        queue_id = await stage.submit(make_step("loader"))
        await stage.finish(queue_id, "loader")
        await stage.until_state(queue_id, "finished")
        await stage.store.change(queue_id, lambda d: decisions.ask_delete(d, purge=False, now=stage.clock()))
        controller.nudge(queue_id)
        async with asyncio.timeout(60):
            while await stage.store.get(queue_id):
                await asyncio.sleep(0.1)
    lines = await read_all(stage.broker)
    assert rebuild(lines) == {queue_id: None}
    without_the_end = [line for line in lines if b'"deleted"' not in line.value]
    assert rebuild(without_the_end)[queue_id].status.state == "finished"
    assert rebuild(without_the_end[1:]) == {queue_id: None}


@pytest.mark.filterwarnings("ignore:.*function-scoped fixture.*")
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_redelivered_and_doubled_messages_change_nothing(stage, make_step, data):
    cached = stage.__dict__.setdefault("_lived", None)
    if cached is None:
        cached = stage.__dict__["_lived"] = (await live(stage, make_step), list(stage.broker.events))
    (first, second), values = cached
    # every message may lie in the topic once more, directly behind or later
    doubled = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=8))
    again = {index: [i for i in doubled if i == index] for index in doubled}
    lines = [Line(0, offset, value) for offset, value in enumerate(values)]
    redelivered = [one for line in lines for one in [line] * (1 + len(again.get(line.offset, [])))]
    plain, with_doubles = rebuild(lines), rebuild(redelivered)
    for queue_id in (first, second):
        assert comparable(plain[queue_id]) == comparable(with_doubles[queue_id])
