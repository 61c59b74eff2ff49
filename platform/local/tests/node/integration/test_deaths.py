"""The node, its warm process and its clients are killed; no Job is lost, doubled or left running."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

SLEEP = ("sh", "-c", "echo life; exec sleep 600")


def ended(status):
    return status["condition"] is not None and status["live"] == 0


def running(status):
    return all(ordinal["pid"] for ordinal in status["ordinals"])


def proc(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def alive(pid):
    stat = proc(pid, "stat")
    return stat != "" and stat.rsplit(")", 1)[1].split()[0] != "Z"


def pids(status):
    return [ordinal["pid"] for ordinal in status["ordinals"]]


async def test_workers_die_with_the_node_and_go_on_with_the_next_one_uncounted(own_node):
    own_node.start()
    await own_node.create("job", *SLEEP, replicas=2, backoff_limit=0)
    await own_node.create("done", "true")
    await own_node.create("bad", "sh", "-c", "exit 78")
    first = await own_node.until("job", running)
    kept = [await own_node.until(name, ended) for name in ("done", "bad")]
    own_node.kill()
    own_node.until_no_process()
    assert not any(alive(pid) for pid in pids(first))
    own_node.start()
    second = await own_node.until("job", running)
    assert [(o["restarts"], o["disruptions"], o["reason"]) for o in second["ordinals"]] == [(0, 1, "node-lost")] * 2
    assert second["condition"] is None
    assert [await own_node.status(name) for name in ("done", "bad")] == kept
    await own_node.until_lines("job", ["life", "life"], ordinal=0)


async def test_what_outlives_a_killed_node_is_swept_before_the_next_one_starts_anything(own_node):
    own_node.start()
    # A grandchild is not tied to the warm process by the kernel; only the sweep finds it.
    await own_node.create("job", "sh", "-c", "sh -c 'echo $$; exec sleep 600' & wait")
    await own_node.until("job", running)
    lines = await own_node.until_count("job", 1)
    own_node.kill()
    assert alive(int(lines[0]))
    own_node.start()
    assert not alive(int(lines[0]))
    await own_node.until("job", running)
    await own_node.until_count("job", 2)
    # The warm process, the shell and its child; one in the middle of its exec shows no environment.
    while len(found := own_node.processes()) < 3:
        await asyncio.sleep(0.01)
    assert len(found) == 3


async def test_the_node_killed_again_and_again_never_doubles_a_process(own_node):
    own_node.start()
    await own_node.create("job", "sh", "-c", "exec sleep 600", replicas=3)
    for _ in range(3):
        own_node.kill()
        own_node.start()
    status = await own_node.until("job", running)
    while len(found := own_node.processes()) < 4:  # one in the middle of its exec shows no environment
        await asyncio.sleep(0.01)
    assert set(found) == {(await own_node.call("info"))["warm_pid"], *pids(status)}
    assert all(o["restarts"] == 0 for o in status["ordinals"])


async def test_workers_die_with_the_warm_process_and_are_restarted_uncounted(own_node):
    own_node.start()
    await own_node.create("job", *SLEEP, replicas=2, backoff_limit=0)
    first = await own_node.until("job", running)
    warm_pid = (await own_node.call("info"))["warm_pid"]
    os.kill(warm_pid, signal.SIGKILL)
    second = await own_node.until("job", lambda s: running(s) and not set(pids(s)) & set(pids(first)))
    assert not any(alive(pid) for pid in pids(first))
    assert [(o["restarts"], o["disruptions"]) for o in second["ordinals"]] == [(0, 1)] * 2
    assert (await own_node.call("info"))["warm_pid"] not in (warm_pid, None)
    assert own_node.process.poll() is None


async def test_a_job_created_while_there_is_no_warm_process_starts_when_there_is_one(own_node):
    own_node.start()
    os.kill((await own_node.call("info"))["warm_pid"], signal.SIGKILL)
    while (await own_node.call("info"))["ready"]:
        await asyncio.sleep(0)
    answer = await own_node.create("job", "true")
    assert answer["ordinals"][0]["phase"] == "pending"
    assert (await own_node.until("job", ended))["condition"] == "complete"


async def test_a_delete_is_not_forgotten_by_a_killed_node(own_node):
    own_node.start()
    await own_node.create("job", "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done", grace_s=600)
    await own_node.until("job", running)
    await own_node.call("delete", name="job")
    own_node.kill()
    own_node.start()
    await own_node.until("job", lambda status: status is None)
    assert own_node.processes() == [(await own_node.call("info"))["warm_pid"]]


async def test_a_job_taken_just_before_the_node_dies_is_run_by_the_next(own_node, tmp_path):
    own_node.start()
    await asyncio.gather(*(own_node.create(f"job-{n}", "sh", "-c", f"echo x >> {tmp_path}/{n}") for n in range(10)))
    own_node.kill()
    own_node.start()
    for number in range(10):
        assert (await own_node.until(f"job-{number}", ended))["condition"] == "complete"
        assert (tmp_path / str(number)).exists()


async def test_a_told_node_ends_its_workers_gracefully_and_they_go_on_later(own_node):
    own_node.start()
    stop = "trap 'echo ended; exit 143' TERM; echo life; while :; do sleep 0.02; done"
    await own_node.create("job", "sh", "-c", stop, backoff_limit=0, grace_s=10)
    while "life" not in await own_node.lines("job"):
        await asyncio.sleep(0.01)
    assert own_node.stop() == 0
    assert own_node.processes() == []
    assert not own_node.socket.exists()
    own_node.start()
    status = await own_node.until("job", running)
    assert (status["ordinals"][0]["restarts"], status["ordinals"][0]["disruptions"]) == (0, 1)
    await own_node.until_lines("job", ["life", "ended", "life"])


async def test_a_told_node_does_not_wait_for_ever_for_a_stubborn_worker(own_node):
    own_node.start("--stop-grace-s", "0.3")
    await own_node.create("job", "sh", "-c", "trap '' TERM; echo armed; while :; do sleep 0.05; done", grace_s=600)
    while "armed" not in await own_node.lines("job"):
        await asyncio.sleep(0.01)
    assert own_node.stop() == 0
    assert own_node.processes() == []
    own_node.start()
    status = await own_node.until("job", running)
    assert (status["ordinals"][0]["restarts"], status["ordinals"][0]["disruptions"]) == (0, 1)


def test_a_second_node_on_the_same_data_refuses_with_one_line(own_node, tmp_path):
    own_node.start()
    other = own_node.launch("--socket", str(tmp_path / "other.sock"))
    assert other.wait(30) == 78
    other.stdout.close()
    assert (
        own_node.log.read_text().splitlines()[-1].endswith(f"another node runs on the data directory {own_node.data}")
    )
    assert own_node.process.poll() is None


def test_a_second_node_on_the_same_socket_refuses_with_one_line(own_node, tmp_path):
    own_node.start()
    other = own_node.launch("--data", str(tmp_path / "other"))
    assert other.wait(30) == 78
    other.stdout.close()
    assert own_node.log.read_text().splitlines()[-1] == f"local node: another process listens on {own_node.socket}"


async def test_a_stale_socket_is_replaced_and_the_new_one_is_the_owners_alone(own_node):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(own_node.socket))
    own_node.start()
    assert own_node.socket.stat().st_mode & 0o777 == 0o600
    assert own_node.data.stat().st_mode & 0o777 == 0o700
    assert (await own_node.call("list"))["jobs"] == []


def test_a_socket_path_that_is_too_long_is_refused_with_one_line(own_node, tmp_path):
    other = own_node.launch("--socket", str(tmp_path / ("x" * 108)))
    assert other.wait(30) == 78
    other.stdout.close()
    assert "is longer than 107 bytes" in own_node.log.read_text()


def test_a_damaged_journal_is_refused_with_one_line(own_node):
    own_node.data.mkdir()
    (own_node.data / "journal.sqlite").write_text("no database" * 1000)
    other = own_node.launch()
    assert other.wait(30) == 78
    other.stdout.close()
    (line,) = own_node.log.read_text().splitlines()
    assert "journal.sqlite" in line
    assert "remove it" in line


async def test_secrets_are_in_no_log_argument_or_answer(own_node):
    own_node.start()
    await own_node.create("job", *SLEEP, secret_env={"KAFKA_PASSWORD": "hunter2"})
    status = await own_node.until("job", running)
    assert "hunter2" not in str(status)
    for pid in [own_node.process.pid, *own_node.processes()]:
        assert "hunter2" not in proc(pid, "cmdline")
    own_node.stop()
    assert "hunter2" not in own_node.log.read_text()
