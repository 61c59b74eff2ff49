"""Jobs on a real node: starts, ends, restarts, deletion."""

import asyncio
import json
import os
import signal
import sys
import time

import pytest

pytestmark = pytest.mark.integration

SLEEP = ("sh", "-c", "exec sleep 600")
STUBBORN = ("sh", "-c", "trap '' TERM; echo armed; while :; do sleep 0.05; done")


WORLD = """
import json, os, signal, sys, __main__
print(json.dumps({
    "argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "stdin": sys.stdin.read(),
    "leads": os.getsid(0) == os.getpid(), "fds": sorted(os.listdir("/proc/self/fd"))[:-1],
    "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
    "int": signal.getsignal(signal.SIGINT) == signal.default_int_handler,
    "name": __name__, "main": os.path.basename(__main__.__file__),
    "comm": open("/proc/self/comm").read().strip(), "umask": os.umask(0),
}))
"""


def ended(status):
    return status["condition"] is not None and status["live"] == 0


def running(status):
    return all(ordinal["pid"] for ordinal in status["ordinals"])


@pytest.fixture
def module(tmp_path):
    """Makes a Python module that a Job can run: returns the Job's cwd."""

    def make(text, name="job_under_test"):
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        return str(folder)

    return make


@pytest.mark.parametrize(
    ("code", "exit_code", "line"),
    [
        ("print('done')", 0, "done"),
        ("raise SystemExit", 0, None),
        ("raise SystemExit(78)", 78, None),
        ("raise SystemExit('no such file: x')", 1, "no such file: x"),
        ("import sys; print('last words', end=''); sys.exit(300)", 44, "last words"),
        ("raise ValueError('wrong')", 1, "ValueError: wrong"),
        ("import atexit; atexit.register(print, 'at exit')", 0, "at exit"),
        (
            "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
            0,
            "late",
        ),
        ("import os; os._exit(5)", 5, None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, None),
        ("import uvloop, asyncio; uvloop.run(asyncio.sleep(0)); print('looped')", 0, "looped"),
    ],
)
async def test_a_forked_module_ends_as_the_interpreter_ends_it(node, module, code, exit_code, line):
    await node.create("job", "python3", "-m", "job_under_test", cwd=module(code))
    status = await node.until("job", ended)
    assert status["ordinals"][0]["last_exit"] == exit_code
    if line is not None:
        assert (await node.lines("job"))[-1] == line


async def test_a_worker_lives_in_a_world_of_its_own(node, module):
    cwd = module(WORLD)
    spec = {"replicas": 2, "env": {"A": "1"}, "secret_env": {"KAFKA_PASSWORD": "hunter2"}, "cwd": cwd}
    await node.create("job", "python", "-m", "job_under_test", "--flag", "x y", **spec)
    await node.until("job", ended)
    worlds = [json.loads((await node.lines("job", ordinal=ordinal))[0]) for ordinal in (0, 1)]
    assert [world["env"]["ORDINAL"] for world in worlds] == ["0", "1"]
    world = worlds[0]
    assert world["env"]["A"] == "1"
    assert world["env"]["KAFKA_PASSWORD"] == "hunter2"
    assert world["env"]["PATH"] == os.environ["PATH"]
    assert not any(name.startswith("PYTEST") for name in world["env"])
    assert (world["argv"], world["cwd"]) == (["--flag", "x y"], cwd)
    assert world["fds"] == ["0", "1", "2"]
    assert (world["leads"], world["term"], world["int"], world["stdin"]) == (True, True, True, "")
    assert (world["name"], world["main"], world["comm"]) == ("__main__", "job_under_test.py", "job_under_test"[:15])
    umask = os.umask(0o22)
    os.umask(umask)
    assert world["umask"] == umask


async def test_two_workers_do_not_draw_the_same_random_numbers(node, module):
    cwd = module("import random, uuid; print(random.random(), uuid.uuid4())")
    await node.create("job", "python", "-m", "job_under_test", replicas=5, cwd=cwd)
    await node.until("job", ended)
    drawn = [tuple((await node.lines("job", ordinal=ordinal))[0].split()) for ordinal in range(5)]
    assert len({number for number, _ in drawn}) == len({uuid for _, uuid in drawn}) == 5


async def test_a_code_change_is_seen_by_the_next_launch(node, module):
    for number in range(1, 4):
        # Of another length each time: Python itself tells sources apart by size and whole seconds.
        cwd = module(f"from dependency import WORD; print(WORD){' ' * number}")
        module(f"WORD = '{'x' * number}'", name="dependency")
        await node.create(f"job-{number}", "python", "-m", "job_under_test", cwd=cwd)
        await node.until(f"job-{number}", ended)
        assert await node.lines(f"job-{number}") == ["x" * number]


async def test_a_change_of_the_preloaded_wheel_is_seen_by_the_next_launch(own_node, module, monkeypatch, tmp_path):
    wheel = tmp_path / "path" / "streamforge_utils"
    (wheel / "part").mkdir(parents=True)
    (wheel / "__init__.py").write_text("import sys; PRELOADED = 'zygote' in sys.argv[0]")
    part = wheel / "part" / "__init__.py"
    part.write_text("WORD = 'old'")
    monkeypatch.setenv("PYTHONPATH", str(wheel.parent))
    own_node.start()
    cwd = module(
        "import streamforge_utils, streamforge_utils.part as part; print(streamforge_utils.PRELOADED, part.WORD)"
    )
    job = ("python", "-m", "job_under_test")
    await own_node.create("before", *job, cwd=cwd)
    await own_node.until("before", ended)
    part.write_text("WORD = 'edited'")
    await own_node.create("after", *job, cwd=cwd)
    await own_node.until("after", ended)
    assert await own_node.lines("before") == ["True old"]
    assert await own_node.lines("after") == ["False edited"]


async def test_a_program_in_another_language_is_run_as_it_is(node):
    await node.create("job", "/bin/sh", "-c", "echo $ORDINAL $A $0; echo oops >&2; exit 7", "zero", env={"A": "b"})
    status = await node.until("job", ended)
    assert status["reason"] == "backoff-limit-exceeded"
    assert status["ordinals"][0]["last_exit"] == 7
    assert await node.lines("job") == ["0 b zero", "oops"]


async def test_a_program_that_is_not_there_says_so_in_its_log(node):
    await node.create("job", "no-such-program")
    status = await node.until("job", ended)
    assert status["ordinals"][0]["last_exit"] == 127
    assert await node.lines("job") == ["streamforge node: cannot run no-such-program: no such program in PATH"]


async def test_a_working_directory_that_is_not_there_says_so_in_its_log(node):
    await node.create("job", "python", "-m", "this", cwd="/no/such/folder")
    await node.until("job", ended)
    assert "cannot enter the working directory /no/such/folder" in (await node.lines("job"))[0]


async def test_failures_are_restarted_up_to_the_limit_of_each_ordinal(node):
    script = "echo life; [ $ORDINAL = 1 ] && exit 3; exec sleep 600"
    await node.create("job", "sh", "-c", script, replicas=2, backoff_limit=2, grace_s=5)
    status = await node.until("job", ended)
    assert (status["condition"], status["reason"]) == ("failed", "backoff-limit-exceeded")
    assert [o["restarts"] for o in status["ordinals"]] == [0, 3]
    assert [o["reason"] for o in status["ordinals"]] == ["terminated", "exit-3"]
    assert await node.lines("job", ordinal=1) == ["life"] * 3


async def test_the_end_of_the_latest_lifes_output_is_told_with_its_exit(node, tmp_path):
    script = f"echo x >> {tmp_path}/n; echo life $(wc -l < {tmp_path}/n); exit 3"
    await node.create("job", "sh", "-c", script, backoff_limit=2)
    status = await node.until("job", ended)
    assert [o["last_output"] for o in status["ordinals"]] == ["life 3\n"]
    await node.create("missing", "no-such-program", backoff_limit=0)
    status = await node.until("missing", ended)
    assert "cannot run no-such-program" in status["ordinals"][0]["last_output"]


async def test_uncounted_ends_are_restarted_beyond_the_limit(node, tmp_path):
    count = tmp_path / "count"
    script = f"echo x >> {count}; [ $(wc -l < {count}) -ge 5 ] && exit 0; exit 75"
    await node.create("job", "sh", "-c", script)
    status = await node.until("job", ended)
    assert status["condition"] == "complete"
    assert (status["ordinals"][0]["restarts"], status["ordinals"][0]["disruptions"]) == (0, 4)


async def test_exit_78_fails_the_job_at_once(node):
    await node.create("job", "sh", "-c", "echo life; exit 78", backoff_limit=5)
    status = await node.until("job", ended)
    assert (status["condition"], status["reason"]) == ("failed", "exit-78")
    assert await node.lines("job") == ["life"]


async def test_kill_9_of_a_worker_counts_and_it_is_restarted(node):
    await node.create("job", *SLEEP, backoff_limit=1)
    status = await node.until("job", running)
    os.kill(status["ordinals"][0]["pid"], signal.SIGKILL)
    status = await node.until("job", lambda s: s["ordinals"][0]["restarts"] == 1 and running(s))
    assert status["ordinals"][0]["last_exit"] == 137
    os.kill(status["ordinals"][0]["pid"], signal.SIGKILL)
    assert (await node.until("job", ended))["reason"] == "backoff-limit-exceeded"


async def test_delete_lets_a_worker_end_itself(node, module, tmp_path):
    flag = tmp_path / "flag"
    cwd = module(
        "import signal, sys, time\n"
        "def end(*_):\n    open(sys.argv[1], 'w').write('cleaned')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('armed')\nwhile True: time.sleep(1)"
    )
    await node.create("job", "python", "-m", "job_under_test", str(flag), cwd=cwd)
    await until_it_says(node, "job", "armed")
    await node.call("delete", name="job")
    await node.until("job", lambda status: status is None)
    assert flag.read_text() == "cleaned"


async def test_delete_kills_what_ignores_sigterm_after_the_grace_with_all_its_children(node):
    await node.create("job", *STUBBORN, grace_s=0.5)
    await until_it_says(node, "job", "armed")
    began = time.monotonic()
    await node.call("delete", name="job")
    status = await node.status("job")
    assert (status["deleting"], status["live"]) == (True, 1)
    await node.until("job", lambda status: status is None)
    assert 0.4 < time.monotonic() - began < 5
    assert node.processes() == [(await node.call("info"))["warm_pid"]]


async def test_delete_is_idempotent_and_may_be_made_harder(node):
    assert await node.call("delete", name="nothing") == {}
    await node.create("job", *STUBBORN, grace_s=600)
    await until_it_says(node, "job", "armed")
    await node.call("delete", name="job")
    await node.call("delete", name="job", grace_s=0)
    await node.until("job", lambda status: status is None)
    await node.create("job", "true")
    assert (await node.until("job", ended))["condition"] == "complete"


async def until_it_says(node, name, line):
    async with asyncio.timeout(20):
        while line not in await node.lines(name):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("escape", ["sleep 600 &", "setsid sleep 600 &", "(setsid setsid sleep 600 &) &"])
async def test_nothing_that_a_worker_leaves_behind_outlives_it(node, escape):
    await node.create("job", "sh", "-c", f"{escape} sleep 0.1; exit 0")
    assert (await node.until("job", ended))["condition"] == "complete"
    assert node.processes() == [(await node.call("info"))["warm_pid"]]


async def test_a_name_is_taken_until_its_job_is_gone(node):
    await node.create("job", *SLEEP, labels={"decision_id": "d1"})
    answer = await node.create("job", "true")
    assert answer["error"]["code"] == "exists"
    assert answer["error"]["status"]["labels"] == {"decision_id": "d1"}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "name"),
        ({"name": "../x", "command": ["true"]}, "name"),
        ({"name": "x" * 64, "command": ["true"]}, "name"),
        ({"name": "x", "command": []}, "command"),
        ({"name": "x", "command": "true"}, "command"),
        ({"name": "x", "command": ["a\0b"]}, "command"),
        ({"name": "x", "command": ["true"], "replicas": 0}, "replicas"),
        ({"name": "x", "command": ["true"], "backoff_limit": -1}, "backoff_limit"),
        ({"name": "x", "command": ["true"], "grace_s": -1}, "grace_s"),
        ({"name": "x", "command": ["true"], "env": {"A=B": "c"}}, "env"),
        ({"name": "x", "command": ["true"], "env": {"A": 1}}, "env"),
        ({"name": "x", "command": ["true"], "secret_env": {"A": {"hunter2": 1}}}, "secret_env"),
        ({"name": "x", "command": ["true"], "cwd": "relative"}, "cwd"),
        (None, "it"),
    ],
)
async def test_a_job_that_makes_no_sense_is_refused_by_field(node, spec, field):
    answer = await node.call("create", spec=spec)
    assert answer["error"]["code"] == "invalid"
    assert field in answer["error"]["message"]
    assert "hunter2" not in answer["error"]["message"]
    assert (await node.call("list"))["jobs"] == []


async def test_a_flood_is_refused_with_a_clear_sentence(own_node):
    own_node.start("--max-processes", "3")
    await own_node.create("job-a", *SLEEP, replicas=2)
    answer = await own_node.create("job-b", *SLEEP, replicas=2)
    assert answer["error"]["code"] == "unavailable"
    assert "2 of 3 processes are taken" in answer["error"]["message"]
    assert (await own_node.create("job-c", "true", replicas=4))["error"]["code"] == "too-many-replicas"
    await own_node.create("job-d", "true")
    await own_node.until("job-d", ended)
    assert "error" not in await own_node.create("job-e", "true")


async def test_forty_jobs_at_once_are_seen_to_end_within_a_second(node, module):
    cwd = module("import asyncio, uvloop; uvloop.run(asyncio.sleep(0))")
    names = {f"job-{number}" for number in range(40)}
    best = float("inf")
    for _ in range(3):  # the machine may be busy with something else
        began = time.monotonic()
        left = set(names)
        watch = node.stream("watch")
        while "synced" not in (await anext(watch)).get("item", {}):
            pass
        for name in names:
            await node.create(name, "python", "-m", "job_under_test", cwd=cwd)
        async for answer in watch:
            status = answer.get("item", {}).get("status")
            if status and status["condition"] == "complete":
                left.discard(status["name"])
            if not left:
                break
        await watch.aclose()
        best = min(best, time.monotonic() - began)
        for name in names:
            await node.call("delete", name=name)
    assert best < 1.0
    assert (await node.call("list"))["jobs"] == []
    assert node.processes() == [(await node.call("info"))["warm_pid"]]


async def test_a_finished_job_and_its_log_go_after_their_time_to_live(own_node):
    own_node.start("--ttl-s", "0.5")
    await own_node.create("job", "echo", "done")
    await own_node.until("job", ended)
    assert (own_node.data / "logs" / "job").exists()
    await own_node.until("job", lambda status: status is None)
    assert not (own_node.data / "logs" / "job").exists()


async def test_another_interpreter_is_executed_not_forked(node):
    await node.create("job", sys.executable, "-c", "import sys; print('aiokafka' in sys.modules)")
    await node.until("job", ended)
    assert await node.lines("job") == ["False"]
