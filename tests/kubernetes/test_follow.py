"""List and watch on a real API server: versions that are too old, connections that say nothing, lists in pages."""

import asyncio
import contextlib

import pytest

from queue_manager.launcher.kubernetes import api, follow
from queue_manager.launcher.kubernetes.api import ClusterApi
from queue_manager.launcher.kubernetes.follow import Follower
from queue_manager.launcher.kubernetes.settings import KubernetesSettings

WITHIN_S = 15.0


class Heard:
    """What a listener was told: names by list, and by change."""

    def __init__(self):
        self.lists = []
        self.names = set()
        self.gone = set()

    def read(self, raw):
        return raw["metadata"]["name"]

    def listed(self, objects, *, but=frozenset()):
        self.lists.append(list(objects))
        self.names = set(self.lists[-1])

    def changed(self, raw, *, is_gone):
        name = self.read(raw)
        (self.gone if is_gone else self.names).add(name)

    async def until(self, holds):
        async with asyncio.timeout(WITHIN_S):
            while not holds(self):
                await asyncio.sleep(0.02)


def config_map(name):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "streamforge"}}}


@pytest.fixture
async def scene(control_plane, namespace, monkeypatch):
    """A follower that can be started, what it heard, and a way to make objects."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api, heard = ClusterApi(KubernetesSettings(namespace=namespace)), Heard()
    follower = Follower(api, path, "app=streamforge", heard)

    async def make(name):
        await asyncio.to_thread(control_plane.api.post, path, config_map(name))

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(api.close)
        yield follower, heard, make


@contextlib.asynccontextmanager
async def running(follower):
    task = asyncio.create_task(follower.run())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_what_is_there_is_listed_and_what_comes_is_told(scene):
    follower, heard, make = scene
    await make("a")
    async with running(follower):
        await heard.until(lambda h: h.lists)
        await make("b")
        await heard.until(lambda h: "b" in h.names)
    assert heard.lists == [["a"]]


async def test_a_list_comes_in_pages(scene, monkeypatch):
    monkeypatch.setattr(api, "PAGE", 2)
    follower, heard, make = scene
    for number in range(5):
        await make(f"n{number}")
    async with running(follower):
        await heard.until(lambda h: h.lists)
    assert sorted(heard.lists[0]) == [f"n{number}" for number in range(5)]


async def test_a_version_that_is_too_old_makes_the_list_come_again(scene, own_control_plane):
    follower, heard, make = scene
    await make("a")
    own_control_plane.apiserver.kill()
    await asyncio.to_thread(own_control_plane.start)
    await asyncio.to_thread(own_control_plane.wait_ready)
    follower._version = "1"
    async with running(follower):
        await heard.until(lambda h: h.lists)
        await make("b")
        await heard.until(lambda h: "b" in h.names)
    assert heard.lists == [["a"]]


async def test_a_connection_that_says_nothing_is_taken_for_dead(scene, own_control_plane, monkeypatch):
    monkeypatch.setattr(follow, "SILENCE_S", 1.0)
    follower, heard, make = scene
    async with running(follower):
        await heard.until(lambda h: h.lists)
        own_control_plane.apiserver.pause()
        try:
            await asyncio.sleep(3)
        finally:
            own_control_plane.apiserver.resume()
        await make("b")
        await heard.until(lambda h: "b" in h.names)
    assert len(heard.lists) == 1  # the version was still good: nothing had to be listed again


async def test_another_watch_goes_on_when_the_server_ends_one(scene, monkeypatch):
    monkeypatch.setattr(follow, "WATCH_S", 1)
    follower, heard, make = scene
    async with running(follower):
        await heard.until(lambda h: h.lists)
        for number in range(4):
            await make(f"n{number}")
            await heard.until(lambda h, name=f"n{number}": name in h.names)
            await asyncio.sleep(0.7)
    assert len(heard.lists) == 1  # no moment without a watch, no list


async def test_the_list_comes_again_beside_the_watch(scene, monkeypatch):
    monkeypatch.setattr(follow, "REFRESH_S", 0.5)
    follower, heard, make = scene
    await make("a")
    async with running(follower):
        await heard.until(lambda h: len(h.lists) >= 3)
        await make("b")
        await heard.until(lambda h: "b" in h.names)
        await heard.until(lambda h: sorted(h.lists[-1]) == ["a", "b"])
