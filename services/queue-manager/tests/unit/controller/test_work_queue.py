"""The order in which workflows are looked at."""

import asyncio

import pytest

from queue_manager.controller.work_queue import PASSED_BY, WorkQueue

pytestmark = pytest.mark.looptime


async def taken(work: WorkQueue) -> str:
    async with asyncio.timeout(1):
        return await work.take()


async def test_what_was_put_off_is_taken_when_nothing_else_waits():
    work = WorkQueue()
    for key in ("new-1", "new-2", "news"):
        work.add(key)
    for key in ("new-1", "new-2"):
        assert await taken(work) == key
        assert not work.is_due(key)
        work.put_off(key)
        work.done(key)
    assert [await taken(work) for _ in range(3)] == ["news", "new-1", "new-2"]
    assert work.is_due("new-1")


async def test_those_that_were_put_off_keep_their_order():
    work = WorkQueue()
    work.add("new-1")
    work.add("new-2")
    for key in ("new-1", "new-2"):
        assert await taken(work) == key
        assert not work.is_due(key)
        work.put_off(key)
        work.done(key)
    for key in ("new-1", "new-2"):
        assert await taken(work) == key
        assert work.is_due(key)


async def test_what_was_put_off_has_its_turn_in_a_flood_of_news():
    work = WorkQueue()
    work.add("new")
    assert await taken(work) == "new"
    work.put_off("new")
    work.done("new")
    order = []
    for _ in range(3 * PASSED_BY):
        work.add("news-1")
        work.add("news-2")
        order.append(await taken(work))
        work.done(order[-1])
    assert order.index("new") <= PASSED_BY + 1


async def test_what_was_put_off_comes_at_once_when_something_happens_to_it():
    work = WorkQueue()
    for key in ("new-1", "new-2"):
        work.add(key)
        assert await taken(work) == key
        work.put_off(key)
        work.done(key)
    work.add("new-2")
    assert [await taken(work), await taken(work)] == ["new-2", "new-1"]
    with pytest.raises(TimeoutError):
        await taken(work)


async def test_what_happens_to_a_key_while_it_is_put_off_is_not_put_off():
    work = WorkQueue()
    work.add("a")
    work.add("b")
    assert await taken(work) == "a"
    work.put_off("a")
    work.add("a")
    work.done("a")
    assert [await taken(work), await taken(work)] == ["b", "a"]
    with pytest.raises(TimeoutError):
        await taken(work)


async def test_a_waiting_worker_is_woken_by_what_is_put_off():
    work = WorkQueue()
    work.add("a")
    assert await taken(work) == "a"
    other = asyncio.create_task(taken(work))
    await asyncio.sleep(0)
    work.put_off("a")
    work.done("a")
    assert await other == "a"


async def test_nothing_is_left_when_all_is_forgotten():
    work = WorkQueue()
    for key in ("a", "b"):
        work.add(key)
    assert await taken(work) == "a"
    work.put_off("a")
    work.clear()
    work.done("a")
    with pytest.raises(TimeoutError):
        await taken(work)
