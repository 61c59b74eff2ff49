import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dummy_service.params import DummyParams
from dummy_service.simulation import Simulation
from streamforge_utils.errors import FatalError, PermanentError
from streamforge_utils.pipeline import EndOfSource

MAX = 5000


async def opened(position=None, **params):
    simulation = Simulation(DummyParams(**params))
    await simulation.open(position)
    return simulation


async def read_all(simulation, most=MAX):
    """Keys until the end, and what the end was."""
    keys = []
    while True:
        try:
            delivery = await simulation.read(most)
        except (EndOfSource, FatalError) as end:
            return keys, end
        assert 1 <= len(delivery.values) <= most
        keys += [int(value["_key"]) for value in delivery.values]
        assert delivery.position == keys[-1] + 1


async def test_it_finishes_after_exactly_the_records_it_was_asked_for():
    keys, end = await read_all(await opened(simulate_loading=True, rate=1e6, records=1234))
    assert keys == list(range(1234))
    assert isinstance(end, EndOfSource)


async def test_it_goes_on_behind_its_position():
    keys, _ = await read_all(await opened(1000, simulate_loading=True, rate=1e6, records=1234))
    assert keys == list(range(1000, 1234))


async def test_it_fails_after_exactly_the_records_it_was_asked_for():
    simulation = await opened(simulate_loading=True, rate=1e6, records=100, fail_after=42, exit_code=7)
    keys, end = await read_all(simulation)
    assert len(keys) == 42
    assert isinstance(end, FatalError)
    assert (end.code, end.exit_code) == ("simulated", 7)
    assert "42 records" in end.message


@pytest.mark.parametrize("simulate_loading", [True, False])
async def test_fail_after_nothing_fails_at_once(simulate_loading):
    keys, end = await read_all(await opened(simulate_loading=simulate_loading, fail_after=0))
    assert keys == []
    assert isinstance(end, FatalError)


async def test_records_carry_the_payload_that_was_asked_for():
    simulation = await opened(simulate_loading=True, rate=1e6, records=3, payload_size=17)
    delivery = await simulation.read(1)
    assert delivery.values == [{"_key": "0", "payload": "x" * 17}]


async def test_records_come_at_their_rate():
    simulation = await opened(simulate_loading=True, rate=100, records=20)
    clock = asyncio.get_running_loop().time
    start = clock()
    await read_all(simulation)
    assert clock() - start >= 0.18


async def test_without_a_load_it_waits_until_one_is_commanded():
    simulation = await opened()
    reading = asyncio.create_task(simulation.read(MAX))
    await asyncio.sleep(0.01)
    assert not reading.done()
    simulation.obey("simulate-loading", {"rate": 1e6, "records": 5})
    assert len((await reading).values) >= 1
    _, end = await read_all(simulation)
    assert isinstance(end, EndOfSource)


async def test_a_failure_can_be_commanded_while_it_waits():
    simulation = await opened()
    reading = asyncio.create_task(simulation.read(MAX))
    await asyncio.sleep(0)
    simulation.obey("fail-after", {})
    with pytest.raises(FatalError):
        await reading


async def test_a_read_that_is_cancelled_loses_nothing():
    simulation = await opened(simulate_loading=True, rate=50, records=5)
    keys = []
    while len(keys) < 5:
        try:
            delivery = await asyncio.wait_for(simulation.read(MAX), 0.005)
        except TimeoutError:
            continue
        keys += [int(value["_key"]) for value in delivery.values]
    assert keys == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        ("simulate-loading", {"rate": 0}),
        ("simulate-loading", {"rate": "fast"}),
        ("simulate-loading", {"speed": 1}),
        ("fail-after", {"records": -1}),
        ("fail-after", {"n": 3}),
    ],
)
async def test_a_bad_payload_is_refused_and_changes_nothing(command, payload):
    simulation = await opened(simulate_loading=True, rate=1e6, records=10)
    with pytest.raises(PermanentError):
        simulation.obey(command, payload)
    keys, _ = await read_all(simulation)
    assert len(keys) == 10


async def test_a_slow_start_and_a_slow_stop_take_their_time():
    clock = asyncio.get_running_loop().time
    start = clock()
    simulation = await opened(delay_s=0.05, slow_stop_s=0.05)
    assert clock() - start >= 0.05
    await simulation.close()
    assert clock() - start >= 0.1


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 50))
def test_each_record_is_made_once_whatever_the_limits(records, fail_after, most):
    async def life():
        return await read_all(
            await opened(simulate_loading=True, rate=1e6, records=records, fail_after=fail_after), most
        )

    keys, end = asyncio.run(life())
    assert keys == list(range(min(records, fail_after)))
    assert isinstance(end, FatalError) is (fail_after <= records)
