"""The Jobs that the controller believes in, when the watch is away while one comes and goes."""

import asyncio

import pytest

from queue_manager.controller.jobs import JobCache
from queue_manager.launcher import JobEvent, JobSpec
from queue_manager.launcher.memory import MemoryLauncher

pytestmark = pytest.mark.looptime

SYNCED = JobEvent(name="", status=None, synced=True)


class Deaf(MemoryLauncher):
    """Its watch tells nothing but what a test has it tell, and its answers are read late."""

    def __init__(self) -> None:
        super().__init__()
        self.says: asyncio.Queue[JobEvent] = asyncio.Queue()

    async def watch(self):
        """See Launcher."""
        while True:
            yield await self.says.get()
            self.says.task_done()  # it is asked for the next one: this one was handled

    async def get(self, name):
        """See Launcher."""
        found = await super().get(name)
        await asyncio.sleep(0.2)
        return found


class Follows:
    """A cache that follows the watch of such a launcher."""

    def __init__(self) -> None:
        self.launcher = Deaf()
        self.changed: list[str] = []
        self.cache = JobCache(self.launcher, installation="i", changed=self.changed.append)
        self.syncs = 0

    def names(self) -> set[str]:
        return set(self.cache.of("wf"))

    async def create(self, name: str) -> None:
        await self.cache.create(
            JobSpec(
                name=name,
                queue_id="wf",
                step="s",
                target="t",
                launch=1,
                installation="i",
                decision_id="d",
                command=("x",),
                image="",
                env={},
                secret_env={},
                replicas=1,
                backoff_limit=0,
                grace_s=5.0,
            )
        )

    async def hear(self, *events: JobEvent) -> None:
        for event in events:
            self.launcher.says.put_nowait(event)
        await self.launcher.says.join()

    def synced(self) -> None:
        self.syncs += 1


@pytest.fixture
async def follows():
    follows = Follows()
    following = asyncio.create_task(follows.cache.follow(follows.synced))
    await follows.hear(SYNCED)
    yield follows
    assert not following.done(), following.exception()
    following.cancel()
    await asyncio.wait([following])


async def test_a_job_that_came_and_went_while_the_watch_was_away_is_gone_after_the_next_list(follows):
    await follows.create("phantom")
    follows.launcher.vanish("phantom")
    assert follows.names() == {"phantom"}
    await follows.hear(SYNCED)
    assert (follows.names(), follows.changed) == (set(), ["wf"])


async def test_a_job_that_was_created_after_the_list_was_taken_stays(follows):
    await follows.create("young")
    await follows.hear(SYNCED)
    assert (follows.names(), follows.changed) == ({"young"}, [])


async def test_a_job_that_is_created_while_another_is_asked_for_stays(follows):
    await follows.create("phantom")
    follows.launcher.vanish("phantom")
    follows.launcher.says.put_nowait(SYNCED)
    await asyncio.sleep(0.1)
    await follows.create("young")
    assert follows.names() == {"phantom", "young"}
    await follows.launcher.says.join()
    assert follows.names() == {"young"}


async def test_what_the_watch_has_told_is_not_asked_for(follows):
    await follows.create("known")
    await follows.hear(JobEvent(name="known", status=await follows.launcher.get("known")))
    follows.launcher.vanish("known")  # the watch will say so, in its order
    await follows.hear(SYNCED)
    assert follows.names() == {"known"}
    await follows.hear(JobEvent(name="known", status=None))
    assert follows.names() == set()


async def test_nothing_is_taken_for_gone_while_the_platform_does_not_answer(follows):
    await follows.create("phantom")
    follows.launcher.vanish("phantom")
    follows.launcher.available = False
    await follows.hear(SYNCED)
    assert follows.names() == {"phantom"}
    follows.launcher.available = True
    await follows.hear(SYNCED)
    assert (follows.names(), follows.syncs) == (set(), 3)
