"""The launcher on real pods: exit codes, signals, memory, logs, what a container may and may not."""

import asyncio
import json
import threading
import time
from contextlib import aclosing, asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from queue_manager.launcher.interface import JobSpec
from queue_manager.launcher.kubernetes.launcher import KubernetesLauncher
from queue_manager.launcher.kubernetes.settings import KubernetesSettings

IMAGE = "streamforge/dummy-service:0.1.0"
WITHIN_S = 30.0
TOLD_WITHIN_S = 10.0

ENDLESS = """
import signal, sys, time
def leave(number, frame):
    print("last words", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
HUNGRY = "print('eats', flush=True); eaten = b'x' * (512 << 20); print('full')"
BROKEN = "import os, sys; print('life of', os.uname().nodename, flush=True); sys.exit(3)"
SURROUNDINGS = """
import json, os, socket
def denied(path):
    try:
        open(path, "w")
    except OSError as error:
        return error.strerror
    return None
open("/tmp/mine", "w").close()
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "home": os.environ["HOME"],
    "root": denied("/mine"), "library": denied("/usr/local/lib/mine"), "tmp": os.listdir("/tmp"),
    "capabilities": int(status["CapBnd"], 16), "new_privileges": status["NoNewPrivs"], "seccomp": status["Seccomp"],
    "token": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"),
}))
"""
PLACES = """
import http.client, os, ssl
near = http.client.HTTPConnection(os.environ["HERE"], timeout=5)
near.request("GET", "/")
print(near.getresponse().read().decode())
server = http.client.HTTPSConnection("10.96.0.1", timeout=5, context=ssl._create_unverified_context())
server.request("GET", "/version")
print(server.getresponse().status)
"""
WORKERS = "import loader_candles.main, candle_indicators.main, arango_candles.main, dummy_service.main, cramjam"


def spec(code, name="job-a", **more):
    values = {
        "name": name,
        "queue_id": "wf-btcusdt-api_candles_1m-20240801-abc123",
        "step": "dummy-service",
        "target": "dummy-service",
        "launch": 1,
        "installation": "abcd1234",
        "decision_id": "01J4QZ",
        "command": ("python", "-c", code),
        "image": IMAGE,
        "env": {},
        "secret_env": {},
        "replicas": 1,
        "backoff_limit": 0,
        "grace_s": 30.0,
    }
    return JobSpec(**(values | more))


class Scene:
    """Launchers in a namespace of a cluster with a real node, and the Job as one of them sees it."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace
        self.launchers = []
        self.status = None

    def launcher(self, **settings):
        made = KubernetesSettings(namespace=self.namespace, **({"config_map": "", "secret": ""} | settings))
        self.launchers.append(KubernetesLauncher(made))
        return self.launchers[-1]

    async def create(self, job, **settings):
        self.status = await self.launcher(**settings).create(job)

    @asynccontextmanager
    async def watching(self):
        async def watch():
            async with aclosing(self.launcher().watch()) as events:
                async for event in events:
                    if not event.synced:
                        self.status = event.status

        task = asyncio.create_task(watch())
        try:
            yield self
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def until(self, holds, *, within_s=WITHIN_S):
        """The Job as soon as it is so; None: it is gone."""
        deadline = time.monotonic() + within_s
        while not holds(self.status):
            assert time.monotonic() < deadline, self.status
            await asyncio.sleep(0.02)
        return self.status

    async def ended(self, *, within_s=WITHIN_S):
        return await self.until(lambda s: s.condition is not None and s.live == 0, within_s=within_s)

    async def runs(self):
        return await self.until(lambda s: all(o.phase == "running" for o in s.ordinals))

    async def gone(self):
        await self.until(lambda s: s is None)

    async def lines(self, **more):
        return [(line.replica, line.line) async for line in self.launchers[0].logs("job-a", **more)]

    @asynccontextmanager
    async def following(self):
        """What a follower is told, as it grows; the log must end with the Job."""
        told = []

        async def follow():
            async for line in self.launchers[0].logs("job-a", follow=True):
                told.append(line.line)  # noqa: PERF401 - it is read as it grows

        task = asyncio.create_task(follow())
        try:
            yield told
            async with asyncio.timeout(WITHIN_S):
                await task
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def scene(node_cluster, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(node_cluster.kubeconfig))
    scene = Scene(node_cluster, await asyncio.to_thread(node_cluster.new_namespace))
    async with scene.watching():
        yield scene
    for launcher in scene.launchers:
        await launcher.close()
    await asyncio.to_thread(node_cluster.remove_namespace, scene.namespace)


async def until_said(told, word):
    async with asyncio.timeout(WITHIN_S):
        while word not in told:
            await asyncio.sleep(0.02)


async def test_exit_0_completes_with_all_workers_in_the_image(scene):
    await scene.create(spec(WORKERS))
    status = await scene.ended()
    assert (status.condition, status.reason, status.ordinals[0].last_exit) == ("complete", None, 0), await scene.lines()


async def test_a_counted_exit_brings_a_second_pod_and_the_followed_log_goes_on_in_it(scene):
    await scene.create(spec(BROKEN, backoff_limit=1))
    async with scene.following() as told:
        status = await scene.until(lambda s: s.ordinals[0].restarts == 1)
        assert (status.condition, status.ordinals[0].last_exit) == (None, 3)
        status = await scene.ended()
    assert (status.condition, status.reason) == ("failed", "backoff-limit-exceeded")
    assert (status.ordinals[0].restarts, status.ordinals[0].last_exit) == (2, 3)
    assert len(told) == len(set(told)) == 2
    assert [line for _, line in await scene.lines()] == told


async def test_too_much_memory_is_named(scene):
    limits = {"requests": {"memory": "48Mi"}, "limits": {"memory": "48Mi"}}
    await scene.create(spec(HUNGRY, resources=limits))
    status = await scene.ended()
    assert (status.condition, status.reason) == ("failed", "oom-killed")
    assert (status.ordinals[0].last_exit, status.ordinals[0].reason) == (137, "oom-killed")
    assert await scene.lines() == [(0, "eats")]


async def test_a_deleted_worker_hears_sigterm_and_its_last_words_are_in_the_followed_log(scene):
    await scene.create(spec(ENDLESS))
    async with scene.following() as told:
        await until_said(told, "ready")
        asked = time.monotonic()
        await scene.launchers[0].delete("job-a")
        await scene.gone()
        assert time.monotonic() - asked < 15  # far less than its grace
    assert told == ["ready", "last words"]


async def test_a_worker_that_does_not_listen_is_killed_when_its_grace_is_over(scene):
    await scene.create(spec(DEAF, grace_s=3.0))
    await scene.runs()
    asked = time.monotonic()
    await scene.launchers[0].delete("job-a")
    await scene.gone()
    assert 3 <= time.monotonic() - asked < 12


async def test_a_shorter_grace_than_the_pods_own_is_kept(scene):
    await scene.create(spec(DEAF, grace_s=300.0, replicas=6))
    await scene.runs()
    await scene.launchers[0].delete("job-a", grace_s=2)
    await scene.gone()


async def test_an_image_that_is_not_there_is_told(scene):
    await scene.create(spec("", image="127.0.0.1:1/nothing:1"))
    status = await scene.until(lambda s: s.reason is not None, within_s=TOLD_WITHIN_S)
    assert (status.reason, status.condition) == ("image-pull", None)
    assert "127.0.0.1:1/nothing:1" in status.message


@pytest.mark.parametrize(
    ("setting", "code"), [("secret", "missing-secret"), ("config_map", "missing-config")], ids=["Secret", "ConfigMap"]
)
async def test_what_a_pod_needs_and_is_not_there_is_told(scene, setting, code):
    await scene.create(spec(""), **{setting: "nowhere"})
    status = await scene.until(lambda s: s.reason is not None, within_s=TOLD_WITHIN_S)
    assert (status.reason, status.condition) == (code, None)
    assert '"nowhere" not found' in status.message


async def test_an_eviction_is_a_disruption_and_another_pod_comes(scene):
    await scene.create(spec(ENDLESS, backoff_limit=0))
    await scene.runs()
    pods = f"/api/v1/namespaces/{scene.namespace}/pods"
    (pod,) = (await asyncio.to_thread(scene.cluster.api.get, pods))["items"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod["metadata"]["name"]}}
    await asyncio.to_thread(scene.cluster.api.post, f"{pods}/{pod['metadata']['name']}/eviction", eviction)
    status = await scene.until(lambda s: s.ordinals[0].disruptions == 1 and s.ordinals[0].phase == "running")
    assert (status.condition, status.ordinals[0].restarts, status.live) == (None, 0, 1)


async def test_a_worker_is_nobody_in_particular_and_may_write_to_tmp_alone(scene):
    await scene.create(spec(SURROUNDINGS))
    status = await scene.ended()
    ((_, line),) = await scene.lines()
    assert status.condition == "complete", line
    assert json.loads(line) == {
        "uid": 10001,
        "gid": 10001,
        "groups": [10001],
        "home": "/tmp",
        "root": "Read-only file system",
        "library": "Read-only file system",
        "tmp": ["mine"],
        "capabilities": 0,
        "new_privileges": "1",
        "seccomp": "2",
        "token": False,
    }


async def test_each_replica_knows_its_number(scene):
    await scene.create(spec("import os; print('I am', os.environ['ORDINAL'])", replicas=3))
    status = await scene.ended()
    assert [(o.ordinal, o.phase, o.last_exit) for o in status.ordinals] == [(n, "succeeded", 0) for n in range(3)]
    assert await scene.lines() == [(n, f"I am {n}") for n in range(3)]


class Greeting(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello pod")

    def log_message(self, *_):
        pass


@pytest.fixture
def greeter():
    """A server on this machine's 127.0.0.1; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Greeting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


async def test_a_pod_reaches_servers_of_this_machine_and_the_api_server(scene, greeter):
    await scene.create(spec(PLACES, env={"HERE": f"{scene.cluster.gateway}:{greeter}"}))
    status = await scene.ended()
    assert status.condition == "complete", await scene.lines()
    assert await scene.lines() == [(0, "hello pod"), (0, "200")]
