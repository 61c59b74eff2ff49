"""What every launcher must do: run on the double and on the real local node."""

import asyncio
from contextlib import aclosing

import pytest

from queue_manager.launcher import JobExists

pytestmark = pytest.mark.integration


def ended(status):
    return status.condition is not None and status.live == 0


async def test_a_created_job_is_known_by_its_name_and_labels(platform):
    status = await platform.create("job", "runs", replicas=2)
    assert status.name == "job"
    assert status.labels == platform.spec("job", "runs").labels
    assert len(status.ordinals) == 2
    status = await platform.until("job", lambda status: status.live == 2)
    assert (status.condition, status.deleting) == (None, False)
    assert [s.name for s in await platform.launcher.list()] == ["job"]


async def test_a_platform_that_can_serve_says_so(platform):
    assert await platform.launcher.check() is None


async def test_a_job_that_is_not_there_is_none_and_its_deletion_no_error(platform):
    assert await platform.launcher.get("nothing") is None
    await platform.launcher.delete("nothing")
    assert await platform.launcher.list() == []
    assert [line async for line in platform.launcher.logs("nothing", follow=True)] == []


async def test_a_taken_name_is_told_with_the_job_that_has_it(platform):
    await platform.create("job", "runs")
    with pytest.raises(JobExists) as taken:
        await platform.launcher.create(platform.spec("job", "exits 0", decision_id="d-2", launch=4))
    assert taken.value.status.labels["decision_id"] == "d-1"
    assert taken.value.status.labels["launch"] == "3"


async def test_a_job_is_complete_when_all_ordinals_exit_0(platform):
    await platform.create("job", "exits 0", replicas=3)
    status = await platform.until("job", ended)
    assert (status.condition, status.reason) == ("complete", None)
    assert [(o.phase, o.last_exit, o.restarts) for o in status.ordinals] == [("succeeded", 0, 0)] * 3


async def test_a_job_has_failed_when_an_ordinal_has_used_up_its_limit(platform):
    await platform.create("job", "exits 3", backoff_limit=2)
    status = await platform.until("job", ended)
    assert (status.condition, status.reason) == ("failed", "backoff-limit-exceeded")
    assert "ordinal 0 failed 3 times" in status.message
    (ordinal,) = status.ordinals
    assert (ordinal.phase, ordinal.restarts, ordinal.last_exit, ordinal.reason) == ("failed", 3, 3, "exit-3")


async def test_a_job_has_failed_at_once_when_an_ordinal_exits_78(platform):
    await platform.create("job", "exits 78", backoff_limit=5)
    status = await platform.until("job", ended)
    assert (status.condition, status.reason, status.ordinals[0].restarts) == ("failed", "exit-78", 0)


@pytest.mark.parametrize(("code", "lines"), [(0, ()), (3, ("here",)), (78, ("here",))])
async def test_the_lines_of_the_latest_life_are_told_with_a_fault(platform, code, lines):
    await platform.create("job", f"exits {code}", backoff_limit=1)
    status = await platform.until("job", ended)
    assert status.ordinals[0].last_lines == lines


async def test_uncounted_ends_go_on_for_ever(platform):
    await platform.create("job", "exits 75")
    status = await platform.until("job", lambda status: status.ordinals[0].disruptions >= 5)
    assert (status.condition, status.ordinals[0].restarts, status.ordinals[0].last_exit) == (None, 0, 75)


async def test_a_deleted_job_stays_until_nothing_of_it_lives(platform):
    await platform.create("job", "stubborn")
    await platform.until("job", lambda status: status.live == 1)
    await _first_line(platform)
    await platform.launcher.delete("job")
    status = await platform.launcher.get("job")
    assert (status.deleting, status.live) == (True, 1)
    await platform.end_stubborn("job")
    await platform.until("job", lambda status: status is None)


async def test_a_deletion_without_grace_is_soon_over(platform):
    await platform.create("job", "stubborn", grace_s=600)
    await _first_line(platform)
    await platform.launcher.delete("job")
    await platform.launcher.delete("job", grace_s=0)
    await platform.until("job", lambda status: status is None)


async def _first_line(platform):
    async with asyncio.timeout(10), aclosing(platform.launcher.logs("job", follow=True)) as lines:
        async for line in lines:
            assert line.line == "here"
            return


async def test_a_watch_tells_the_list_then_synced_then_changes_to_the_end(platform):
    await platform.create("old", "exits 0")
    await platform.until("old", ended)
    async with asyncio.timeout(20), aclosing(platform.launcher.watch()) as watch:
        first = await anext(watch)
        assert (first.name, first.status.condition) == ("old", "complete")
        assert (await anext(watch)).synced
        await platform.create("new", "exits 0")
        async for event in watch:
            assert event.name == "new"
            if event.status.condition == "complete":
                break
        await platform.launcher.delete("new")
        async for event in watch:
            if event.status is None:
                assert event.name == "new"
                break


async def test_log_lines_carry_their_origin(platform):
    await platform.create("job", "exits 0", replicas=2)
    await platform.until("job", ended)
    lines = [line async for line in platform.launcher.logs("job", follow=True)]
    assert sorted((line.replica, line.line, line.step, line.launch) for line in lines) == [
        (0, "here", "a-step", 3),
        (1, "here", "a-step", 3),
    ]
    assert all(line.ts > 1_700_000_000 for line in lines)
    only = [line.replica async for line in platform.launcher.logs("job", ordinal=1, tail=5)]
    assert only == [1]
    assert [line async for line in platform.launcher.logs("job", since=lines[0].ts + 1000)] == []


async def test_a_tail_is_the_last_lines_of_each_ordinal(platform):
    await platform.create("job", "exits 75", replicas=2)
    await platform.until("job", lambda status: all(o.disruptions >= 3 for o in status.ordinals))
    assert sorted([line.replica async for line in platform.launcher.logs("job", tail=1)]) == [0, 1]
    assert [line async for line in platform.launcher.logs("job", tail=0)] == []


async def test_closing_twice_is_no_error(platform):
    await platform.launcher.close()
    await platform.launcher.close()
