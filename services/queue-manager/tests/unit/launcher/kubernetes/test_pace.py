"""How fast Jobs are created, in virtual time."""

import asyncio

import pytest

from queue_manager.launcher.kubernetes.pace import LONGEST_HOLD_S, Pace

pytestmark = pytest.mark.looptime


def now():
    return asyncio.get_running_loop().time()


async def taken(pace, count):
    """When each of so many, who come together, had its turn."""
    times = {}

    async def take(number):
        await pace.turn()
        times[number] = now()

    begin = now()
    await asyncio.gather(*map(take, range(count)))
    assert list(times) == list(range(count)), "first come, first served"
    return [time - begin for time in times.values()]


async def test_turns_come_evenly_and_in_order():
    assert await taken(Pace(50), 51) == pytest.approx([number / 50 for number in range(51)], abs=0.001)


async def test_who_comes_seldom_does_not_wait_and_saves_nothing_up():
    pace = Pace(50)
    assert await taken(pace, 1) == [0]
    await asyncio.sleep(3600)
    assert (await taken(pace, 51))[-1] == pytest.approx(1, abs=0.011)


async def test_who_is_cancelled_takes_nothing_from_the_others():
    pace = Pace(1)
    await pace.turn()
    waiting = [asyncio.create_task(pace.turn()) for _ in range(100)]
    await asyncio.sleep(0.1)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert await taken(pace, 1) == [pytest.approx(0.9)]


async def test_it_stands_still_for_as_long_as_is_asked_and_no_longer_than_sane():
    pace = Pace(50)
    assert pace.held_s == 0
    pace.hold(5)
    pace.hold(1)
    await asyncio.sleep(3)
    assert pace.held_s == pytest.approx(2)
    await asyncio.sleep(3)
    assert pace.held_s == 0
    pace.hold(86_400)
    assert pace.held_s == LONGEST_HOLD_S
