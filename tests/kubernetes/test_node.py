"""The launcher on real pods: exit codes, signals, memory, logs, what a container may and may not."""

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

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


@pytest.fixture
def stage(node_stage):
    """Its pods are real."""
    return node_stage


@asynccontextmanager
async def following(stage):
    """What a follower is told, as it grows; the log must end with the Job."""
    told = []

    async def follow():
        async for line in stage.launchers[0].logs("job-a", follow=True):
            told.append(line.line)  # noqa: PERF401 - it is read as it grows

    task = asyncio.create_task(follow())
    try:
        yield told
        async with asyncio.timeout(WITHIN_S):
            await task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_said(told, word):
    async with asyncio.timeout(WITHIN_S):
        while word not in told:
            await asyncio.sleep(0.02)


async def test_exit_0_completes_with_all_workers_in_the_image(stage):
    await stage.create(stage.program(WORKERS))
    status = await stage.ended()
    assert (status.condition, status.reason, status.ordinals[0].last_exit) == ("complete", None, 0), await stage.lines()


async def test_a_counted_exit_brings_a_second_pod_and_the_followed_log_goes_on_in_it(stage):
    await stage.create(stage.program(BROKEN, backoff_limit=1))
    async with following(stage) as told:
        status = await stage.until(lambda s: s.ordinals[0].restarts == 1)
        assert (status.condition, status.ordinals[0].last_exit) == (None, 3)
        status = await stage.ended()
    assert (status.condition, status.reason) == ("failed", "backoff-limit-exceeded")
    assert (status.ordinals[0].restarts, status.ordinals[0].last_exit) == (2, 3)
    assert len(told) == len(set(told)) == 2
    assert [line for _, line in await stage.lines()] == told


async def test_too_much_memory_is_named(stage):
    limits = {"requests": {"memory": "48Mi"}, "limits": {"memory": "48Mi"}}
    await stage.create(stage.program(HUNGRY, resources=limits))
    status = await stage.ended()
    assert (status.condition, status.reason) == ("failed", "oom-killed")
    assert (status.ordinals[0].last_exit, status.ordinals[0].reason) == (137, "oom-killed")
    assert await stage.lines() == [(0, "eats")]


async def test_a_deleted_worker_hears_sigterm_and_its_last_words_are_in_the_followed_log(stage):
    await stage.create(stage.program(ENDLESS))
    async with following(stage) as told:
        await until_said(told, "ready")
        asked = time.monotonic()
        await stage.launchers[0].delete("job-a")
        await stage.until_gone()
        assert time.monotonic() - asked < 15  # far less than its grace
    assert told == ["ready", "last words"]


async def test_a_worker_that_does_not_listen_is_killed_when_its_grace_is_over(stage):
    await stage.create(stage.program(DEAF, grace_s=3.0))
    await stage.runs()
    asked = time.monotonic()
    await stage.launchers[0].delete("job-a")
    await stage.until_gone()
    assert 3 <= time.monotonic() - asked < 12


async def test_a_shorter_grace_than_the_pods_own_is_kept(stage):
    await stage.create(stage.program(DEAF, grace_s=300.0, replicas=6))
    await stage.runs()
    await stage.launchers[0].delete("job-a", grace_s=2)
    await stage.until_gone()


async def test_an_image_that_is_not_there_is_told(stage):
    await stage.create(stage.program("", image="127.0.0.1:1/nothing:1"))
    status = await stage.until(lambda s: s.reason is not None, within_s=TOLD_WITHIN_S)
    assert (status.reason, status.condition) == ("image-pull", None)
    assert "127.0.0.1:1/nothing:1" in status.message


@pytest.mark.parametrize(
    ("setting", "code"), [("secret", "missing-secret"), ("config_map", "missing-config")], ids=["Secret", "ConfigMap"]
)
async def test_what_a_pod_needs_and_is_not_there_is_told(stage, setting, code):
    await stage.create(stage.program(""), settings={setting: "nowhere"})
    status = await stage.until(lambda s: s.reason is not None, within_s=TOLD_WITHIN_S)
    assert (status.reason, status.condition) == (code, None)
    assert '"nowhere" not found' in status.message


async def test_an_eviction_is_a_disruption_and_another_pod_comes(stage):
    await stage.create(stage.program(ENDLESS, backoff_limit=0))
    await stage.runs()
    await stage.evict(await stage.running_pod())
    status = await stage.until(lambda s: s.ordinals[0].disruptions == 1 and s.ordinals[0].phase == "running")
    assert (status.condition, status.ordinals[0].restarts, status.live) == (None, 0, 1)


async def test_a_worker_is_nobody_in_particular_and_may_write_to_tmp_alone(stage):
    await stage.create(stage.program(SURROUNDINGS))
    status = await stage.ended()
    ((_, line),) = await stage.lines()
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


async def test_each_replica_knows_its_number(stage):
    await stage.create(stage.program("import os; print('I am', os.environ['ORDINAL'])", replicas=3))
    status = await stage.ended()
    assert [(o.ordinal, o.phase, o.last_exit) for o in status.ordinals] == [(n, "succeeded", 0) for n in range(3)]
    assert await stage.lines() == [(n, f"I am {n}") for n in range(3)]


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


async def test_a_pod_reaches_servers_of_this_machine_and_the_api_server(stage, greeter):
    await stage.create(stage.program(PLACES, env={"HERE": f"{stage.cluster.gateway}:{greeter}"}))
    status = await stage.ended()
    assert status.condition == "complete", await stage.lines()
    assert await stage.lines() == [(0, "hello pod"), (0, "200")]
