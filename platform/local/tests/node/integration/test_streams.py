"""Watching and reading logs on a real node, and what it answers to nonsense."""

import asyncio
import json
import time
from contextlib import aclosing

import pytest

pytestmark = pytest.mark.integration


def ended(status):
    return status["condition"] is not None and status["live"] == 0


async def test_a_watch_begins_with_all_jobs_then_says_every_change_until_one_is_gone(node):
    await node.create("old", "true")
    await node.until("old", ended)
    told = []
    async with aclosing(node.stream("watch")) as watch:
        async for answer in watch:
            if "beat" in answer:
                continue
            item = answer["item"]
            told.append(item)
            if item.get("synced"):
                await node.create("new", "sh", "-c", "sleep 0.05; exit 0")
            elif item["name"] == "new" and item["status"] and item["status"]["condition"]:
                await node.call("delete", name="new")
            elif item["name"] == "new" and item["status"] is None:
                break
    assert told[0]["name"] == "old"
    assert told[1] == {"synced": True}
    phases = [item["status"]["ordinals"][0]["phase"] for item in told[2:-1]]
    assert phases[0] == "running"
    assert phases[-1] == "succeeded"


async def test_a_silent_watch_shows_that_the_node_is_alive(node):
    async with aclosing(node.stream("watch")) as watch, asyncio.timeout(5):
        beats = 0
        async for answer in watch:
            beats += "beat" in answer
            if beats == 2:
                break


async def test_a_follower_sees_each_line_once_across_restarts_and_is_told_the_end(node, tmp_path):
    script = f"echo x >> {tmp_path}/n; n=$(wc -l < {tmp_path}/n); echo life $n; [ $n -lt 3 ] && kill -9 $$; exit 0"
    await node.create("job", "sh", "-c", script, backoff_limit=2)
    assert await node.lines("job", follow=True) == ["life 1", "life 2", "life 3"]
    assert (await node.status("job"))["condition"] == "complete"


async def test_a_follower_sees_lines_as_they_come(node):
    await node.create("job", "sh", "-c", "echo first; sleep 0.4; echo second")
    async with aclosing(node.stream("logs", name="job", follow=True)) as lines:
        answers = [(answer.get("item", {}), time.monotonic()) async for answer in lines]
    seen = [(item["line"], at) for item, at in answers if "line" in item]
    assert [line for line, _ in seen] == ["first", "second"]
    assert seen[1][1] - seen[0][1] > 0.2


async def test_a_killed_life_leaves_its_half_line_alone(node, tmp_path):
    script = f"echo x >> {tmp_path}/n; printf half; [ $(wc -l < {tmp_path}/n) = 1 ] && kill -9 $$; echo; echo whole"
    await node.create("job", "sh", "-c", script, backoff_limit=1)
    await node.until("job", ended)
    assert await node.lines("job") == ["half", "half", "whole"]


async def test_lines_are_chosen_by_ordinal_time_and_number(node):
    script = 'for t in 10 20 30; do echo "{\\"timestamp\\": $t, \\"o\\": $ORDINAL}"; done'
    await node.create("job", "sh", "-c", script, replicas=2)
    await node.until("job", ended)
    assert [json.loads(line) for line in await node.lines("job", ordinal=1, since=20)] == [
        {"timestamp": 20, "o": 1},
        {"timestamp": 30, "o": 1},
    ]
    assert [json.loads(line)["timestamp"] for line in await node.lines("job", tail=1)] == [30, 30]


async def test_a_follower_of_a_deleted_job_is_told_the_end(node):
    await node.create("job", "sh", "-c", "echo here; exec sleep 600")
    await node.until("job", lambda status: status["ordinals"][0]["pid"])
    following = asyncio.create_task(node.lines("job", follow=True))
    await asyncio.sleep(0.3)
    await node.call("delete", name="job")
    async with asyncio.timeout(10):
        assert await following == ["here"]


async def test_there_are_no_lines_of_a_job_that_is_not_there(node):
    assert [answer async for answer in node.stream("logs", name="nothing", follow=True)] == [{"end": True}]


async def test_the_log_of_a_worker_that_talks_a_lot_is_bounded(own_node):
    own_node.start("--log-bytes", "100000", "--log-check-s", "0.02")
    talk = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo line $i of a worker that talks a lot; done; exec sleep 600"
    await own_node.create("job", "sh", "-c", talk)
    path = own_node.data / "logs" / "job" / "0.log"
    async with asyncio.timeout(60):
        while "line 30000 of a worker that talks a lot" not in (lines := await own_node.lines("job", tail=1)):
            await asyncio.sleep(0.05)
        while path.stat().st_blocks * 512 > 250_000:
            await asyncio.sleep(0.02)
    lines = await own_node.lines("job")
    assert lines == [f"line {n} of a worker that talks a lot" for n in range(30_001 - len(lines), 30_001)]
    assert 1000 < len(lines) < 10_000


@pytest.mark.parametrize(
    "request_line",
    [b"\n", b"nonsense\n", b"[]\n", b"{}\n", b'{"call": "no such"}\n', b'{"call": 7}\n', b'{"call": "get"}\n',
     b'{"call": "logs", "name": "x", "tail": -1}\n', b'{"call": "delete", "name": "x", "grace_s": "soon"}\n',
     b'{"call": "create"}\n', b"\xff\xfe\n", b'"' + b"x" * 5_000_000 + b'"\n'],
)  # fmt: skip
async def test_nonsense_is_answered_with_a_sentence(node, request_line):
    reader, writer = await asyncio.open_unix_connection(node.socket, limit=1 << 24)
    writer.write(request_line)
    answer = json.loads(await reader.readline())
    writer.close()
    assert answer["error"]["code"] in ("bad-request", "invalid")
    assert answer["error"]["message"]
    assert (await node.call("list"))["jobs"] == []
