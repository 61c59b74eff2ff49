"""Lists of thousands of objects: never held in their raw form as a whole, and nothing waits for the later ones."""

import asyncio
import gc
import weakref
from contextlib import asynccontextmanager

import orjson
import pytest

from queue_manager.launcher.kubernetes import follow
from queue_manager.launcher.kubernetes.api import ClusterAway, ClusterError
from queue_manager.launcher.kubernetes.follow import Follower

PAGES, ON_PAGE = 5, 3


class Raw(dict):
    """A raw object that can be counted."""


class PagedApi:
    """A list of some pages, then a watch that says nothing; counts the raw objects that are alive."""

    def __init__(self):
        self.made = []
        self.most_alive = 0

    async def pages(self, path, selector, *, limit):
        for page in range(PAGES):
            objects = [Raw(name=f"{page}-{number}") for number in range(ON_PAGE)]
            self.made += map(weakref.ref, objects)
            yield objects, "7"
            del objects
            gc.collect()
            self.most_alive = max(self.most_alive, sum(raw() is not None for raw in self.made))

    async def stream(self, path, **query):
        await asyncio.Event().wait()
        yield b""


class Names:
    """Keeps names alone."""

    def __init__(self):
        self.is_told = asyncio.Event()
        self.names = []

    def read(self, raw):
        return raw["name"]

    def listed(self, objects, *, but=frozenset()):
        self.names = list(objects)
        self.is_told.set()

    def changed(self, raw, *, is_gone):
        raise AssertionError("the watch said nothing")


async def test_the_raw_form_of_a_list_is_never_held_as_a_whole():
    api, heard = PagedApi(), Names()
    following = asyncio.create_task(Follower(api, "/jobs", "app=a", heard).run())
    async with asyncio.timeout(5):
        await heard.is_told.wait()
    following.cancel()
    await asyncio.wait([following])
    assert len(heard.names) == PAGES * ON_PAGE
    assert api.most_alive <= ON_PAGE


class LiveApi:
    """A watch whose lines a test gives, and lists that come when the test lets them."""

    def __init__(self):
        self.lines = asyncio.Queue()
        self.may_list = asyncio.Semaphore(1)
        self.asked, self.limits = 0, []
        self.objects = [{"name": "a"}]
        self.error = None

    async def pages(self, path, selector, *, limit):
        self.asked += 1
        self.limits.append(limit)
        objects = list(self.objects)
        await self.may_list.acquire()
        if self.error is not None:
            raise self.error
        yield objects, "7"

    async def stream(self, path, **query):
        while (line := await self.lines.get()) is not None:
            yield orjson.dumps(line)

    def tell(self, kind, name):
        self.lines.put_nowait({"type": kind, "object": {"metadata": {"name": name, "resourceVersion": "8"}}})


class Told:
    """Everything that a listener was told, in order."""

    def __init__(self):
        self.said = []

    def read(self, raw):
        return raw["name"]

    def listed(self, objects, *, but=frozenset()):
        self.said.append(("listed", tuple(objects), tuple(sorted(but))))

    def changed(self, raw, *, is_gone):
        self.said.append(("gone" if is_gone else "is", raw["metadata"]["name"]))


@asynccontextmanager
async def following():
    api, told = LiveApi(), Told()
    task = asyncio.create_task(Follower(api, "/jobs", "app=a", told).run())
    await asyncio.sleep(1)
    try:
        yield api, told
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait([task])


FIRST = ("listed", ("a",), ())


@pytest.mark.looptime
async def test_the_watch_goes_on_while_it_is_listed_again_and_what_it_tells_holds():
    async with following() as (api, told):
        api.tell("MODIFIED", "a")
        await asyncio.sleep(follow.REFRESH_S)
        assert api.asked == 2
        api.tell("ADDED", "b")
        api.tell("DELETED", "a")
        await asyncio.sleep(1)
        assert told.said == [FIRST, ("is", "a"), ("is", "b"), ("gone", "a")]
        api.may_list.release()
        await asyncio.sleep(1)
        assert told.said[-1] == ("listed", ("a",), ("a", "b"))
        assert api.limits[0] > api.limits[1] == follow.REFRESH_PAGE


@pytest.mark.looptime
async def test_a_list_beside_a_watch_that_begins_anew_is_not_told():
    async with following() as (api, told):
        await asyncio.sleep(follow.REFRESH_S)
        api.objects = [{"name": "c"}]
        api.lines.put_nowait({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}})
        await asyncio.sleep(1)
        assert api.asked == 3
        for _ in range(2):
            api.may_list.release()
            await asyncio.sleep(1)
        assert told.said == [FIRST, ("listed", ("c",), ())]


@pytest.mark.looptime
@pytest.mark.parametrize("error", [ClusterAway(0, "Unreachable", "no answer"), ClusterError(410, "Expired", "late")])
async def test_a_list_that_breaks_off_beside_the_watch_harms_nothing(error):
    async with following() as (api, told):
        api.error = error
        api.may_list.release()
        await asyncio.sleep(follow.REFRESH_S)
        api.error = None
        api.tell("MODIFIED", "a")
        await asyncio.sleep(1)
        assert (api.asked, told.said) == (2, [FIRST, ("is", "a")])
        api.may_list.release()
        await asyncio.sleep(follow.REFRESH_S)
        assert told.said[-1] == FIRST


@pytest.mark.looptime
async def test_another_watch_follows_one_that_the_server_ends_and_there_is_no_list_between():
    async with following() as (api, told):
        api.lines.put_nowait(None)
        api.tell("MODIFIED", "a")
        await asyncio.sleep(1)
        assert told.said == [FIRST, ("is", "a")]
        assert api.asked == 1
