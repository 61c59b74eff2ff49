"""Who acts, and for how long it may go on without an answer."""

import asyncio

import pytest

from queue_manager.controller.lease import LeaseInDoubt, LeaseKeeper, LeaseLost
from queue_manager.controller.watch import Watch
from queue_manager.launcher.interface import LauncherUnavailable
from streamforge_utils.observability import Health

pytestmark = pytest.mark.looptime

SECONDS = 10.0


class Board:
    """An election without a server: one lease, which may be out of reach."""

    part = "launcher"

    def __init__(self):
        self.holder, self.epoch, self.is_away, self.answers_in_s = None, 0, False, 0.0

    async def take(self, owner, *, seconds):
        await asyncio.sleep(self.answers_in_s)
        if self.is_away:
            raise LauncherUnavailable("away")
        if self.holder not in (None, owner):
            return None
        self.epoch += self.holder is None
        self.holder = owner
        return self.epoch

    async def give_back(self, owner):
        if self.holder == owner:
            self.holder = None


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def keeper(stage, board):
    ports = stage.controller()._ports
    return LeaseKeeper(board, Watch(ports, Health()), seconds=SECONDS)


async def test_nothing_is_done_before_the_lease_is_there(keeper):
    with pytest.raises(LeaseInDoubt):
        keeper.check()
    assert await keeper.acquire()
    keeper.check()
    assert keeper.epoch == 1


async def test_nothing_is_done_when_it_was_not_prolonged_in_time(keeper, board):
    await keeper.acquire()
    board.is_away = True
    renewing = asyncio.create_task(keeper.renew())
    await asyncio.sleep(6.9)
    keeper.check()
    await asyncio.sleep(0.2)
    with pytest.raises(LeaseInDoubt):
        keeper.check()
    board.is_away = False
    await asyncio.sleep(2.1)
    keeper.check()
    renewing.cancel()
    await asyncio.wait([renewing])


async def test_its_time_begins_when_it_was_asked_for(keeper, board):
    board.answers_in_s = 7.5
    assert await keeper.acquire()
    with pytest.raises(LeaseInDoubt):
        keeper.check()


async def test_it_is_lost_to_another(keeper, board):
    await keeper.acquire()
    board.holder = "another"
    with pytest.raises(LeaseLost):
        await keeper.renew()
    with pytest.raises(LeaseInDoubt):
        keeper.check()


async def test_it_is_given_back_and_nothing_is_done_afterwards(keeper, board):
    await keeper.acquire()
    await keeper.release()
    assert board.holder is None
    with pytest.raises(LeaseInDoubt):
        keeper.check()


async def test_a_launch_says_under_whose_lease_it_was_decided(stage, make_step):
    async with stage.running() as controller:
        queue_id = await stage.submit(make_step("loader"), controller=controller)
        await stage.job(queue_id, "loader")
        document = await stage.get(queue_id)
    assert document.step("loader").launch.epoch == 1
    assert stage.launcher.created[0].epoch == 1


async def test_a_controller_that_was_frozen_does_nothing_more(stage, make_step):
    """As after SIGSTOP: it goes on in the middle of its work, long after another has taken over."""
    async with stage.running(lease_s=SECONDS) as frozen:
        queue_id = await stage.submit(make_step("loader"), controller=frozen)
        name = await stage.job(queue_id, "loader")
        stage.say(queue_id, "loader", "started")
        await stage.until_state(queue_id, "running")
        frozen._lease._held_until = asyncio.get_running_loop().time()
        before = await stage.get(queue_id)
        stage.say(queue_id, "loader", "finished")
        stage.launcher.exit(name)
        await asyncio.sleep(1)
        assert (await stage.get(queue_id)).rev == before.rev
        await stage.until_state(queue_id, "finished")  # nobody took it over: it goes on when it has prolonged it
