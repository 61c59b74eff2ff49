import asyncio
import time

import httpx

from queue_manager.api import create_app
from queue_manager.launcher.interface import JobSpec
from queue_manager.store.interface import HistoryEntry
from streamforge_utils import codec

URL = "/api/v1/workflows"
GOOD = {
    "symbol": "BTCUSDT",
    "type": "api_candles_1m",
    "time_range": "2024-08-01:2024-08-02",
    "steps": [{"target": "reader", "params": {"source": "simulated"}}],
}


async def submit(client):
    return (await client.post(URL, json=GOOD)).json()["queue_id"]


async def say(parts, queue_id, *offsets, **message):
    entries = [
        HistoryEntry(queue_id, 2, offset, time.time(), {"event": "started", "number": offset} | message)
        for offset in offsets
    ]
    await parts.store.append_history(entries)


async def end(parts, queue_id):
    document = await parts.store.get(queue_id)
    document.status.state = "finished"
    document.status.ended_at = time.time()
    await parts.store.update(document)


async def say_end(parts, queue_id, offset):
    await say(parts, queue_id, offset, decision="ended", payload={"step": None, "attempt": 1}, event=None)


def read(text):
    """The messages of a stream as (event, id, data); comments as None."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in fields:
            found.append((fields["event"], fields.get("id"), codec.decode(fields["data"])))
    return found


async def stream(client, queue_id, **headers):
    answer = await client.get(f"{URL}/{queue_id}/events", headers={"Accept": "text/event-stream"} | headers)
    return answer


async def test_the_history_is_paged(client, parts):
    queue_id = await submit(client)
    await say(parts, queue_id, *range(5))
    first = (await client.get(f"{URL}/{queue_id}/events", params={"limit": 3})).json()
    rest = (await client.get(f"{URL}/{queue_id}/events", params={"limit": 3, "cursor": first["next"]})).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == [f"2-{n}" for n in range(5)]
    assert rest["next"] is None


async def test_a_stream_gives_all_and_ends_with_the_workflow(client, parts):
    queue_id = await submit(client)
    await say(parts, queue_id, 3, 7)

    async def later():
        await asyncio.sleep(0.05)
        await say(parts, queue_id, 8)
        await asyncio.sleep(0.05)
        await end(parts, queue_id)
        await say_end(parts, queue_id, 9)

    told, _ = await asyncio.gather(stream(client, queue_id), later())
    assert told.headers["content-type"].startswith("text/event-stream")
    messages = read(told.text)
    assert [key for _, key, _ in messages if key] == ["2-3", "2-7", "2-8", "2-9"]
    assert [data["state"] for kind, _, data in messages if kind == "workflow"] == ["pending", "finished"]


async def test_a_stream_goes_on_behind_the_last_id_at_another_replica(client, parts):
    queue_id = await submit(client)
    await say(parts, queue_id, 3, 7)
    await end(parts, queue_id)
    await say_end(parts, queue_id, 9)
    transport = httpx.ASGITransport(app=create_app(parts=_replica(parts)))
    async with httpx.AsyncClient(transport=transport, base_url="http://other") as other:
        told = await stream(other, queue_id, **{"Last-Event-ID": "2-3"})
        assert [key for _, key, _ in read(told.text) if key] == ["2-7", "2-9"]
        assert (await stream(other, queue_id, **{"Last-Event-ID": "2-9"})).status_code == 204


def _replica(parts):
    from prometheus_client import CollectorRegistry

    return type(parts)(
        store=parts.store,
        launcher=parts.launcher,
        pinger=parts.pinger,
        dead_letters=parts.dead_letters,
        targets=parts.targets,
        templates=parts.templates,
        resolver=parts.resolver,
        health=parts.health,
        registry=CollectorRegistry(),
        controller=parts.controller,
        settings=parts.settings,
        installation=parts.installation,
    )


async def test_a_wrong_last_id_is_refused(client):
    queue_id = await submit(client)
    answer = await stream(client, queue_id, **{"Last-Event-ID": "x"})
    assert answer.json()["errors"][0]["pointer"] == "/header/last-event-id"


async def test_a_silent_stream_is_kept_alive_and_a_lost_store_waited_out(client, parts):
    queue_id = await submit(client)

    async def later():
        await asyncio.sleep(0.05)
        parts.store.is_away = True
        await asyncio.sleep(0.1)
        parts.store.is_away = False
        await end(parts, queue_id)
        await say_end(parts, queue_id, 1)

    told, _ = await asyncio.gather(stream(client, queue_id), later())
    assert ": \n\n" in told.text
    assert read(told.text)[-2][1] == "2-1"


async def test_a_stream_of_a_deleted_workflow_ends(client, parts):
    queue_id = await submit(client)

    async def later():
        await asyncio.sleep(0.05)
        await parts.store.remove(queue_id)

    told, _ = await asyncio.gather(stream(client, queue_id), later())
    assert read(told.text)[-1][0] == "deleted"


async def test_streams_end_with_the_process_and_are_bounded(client, parts):
    queue_id = await submit(client)
    parts.settings = type(parts.settings)(max_streams=1, poll_s=0.01)
    open_one = asyncio.create_task(stream(client, queue_id))
    while parts.open_streams == 0:
        await asyncio.sleep(0.01)
    refused = await stream(client, queue_id)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:streamforge:problem:too-many")
    parts.closing.set()
    assert (await open_one).status_code == 200
    assert parts.open_streams == 0


async def job(parts, queue_id, *, lines):
    from queue_manager import decisions
    from queue_manager.model import Launch

    document = await parts.store.get(queue_id)
    number = len(document.step("reader").launches) + 1
    name = f"job-reader-{number}"
    record = Launch(
        number=number,
        attempt=1,
        job=name,
        decision_id=f"d{number}",
        replicas=1,
        control_offsets={},
        digest="",
        recorded_at=time.time(),
    )
    await parts.store.update(decisions.launch(document, "reader", record))
    spec = JobSpec(
        name=name,
        queue_id=queue_id,
        step="reader",
        target="reader",
        launch=number,
        installation="test0001",
        decision_id=f"d{number}",
        command=("x",),
        image="x",
        env={},
        secret_env={},
        replicas=1,
        backoff_limit=0,
        grace_s=1,
    )
    await parts.launcher.create(spec)
    for line in lines:
        parts.launcher.say(name, line)
    return name


async def test_logs_are_shown_after_the_job_has_ended(client, parts):
    queue_id = await submit(client)
    name = await job(parts, queue_id, lines=["one", "two", "three"])
    parts.launcher.exit(name, 0, 0)
    answer = (await client.get(f"{URL}/{queue_id}/logs", params={"step": "reader", "tail": 2})).json()
    assert [(item["line"], item["launch"], item["replica"]) for item in answer["items"]] == [
        ("two", 1, 0),
        ("three", 1, 0),
    ]
    assert answer["truncated"] is False
    assert (await client.get(f"{URL}/{queue_id}/logs", params={"launch": 2})).json()["items"] == []


async def test_logs_of_an_unknown_step_are_refused(client):
    queue_id = await submit(client)
    answer = await client.get(f"{URL}/{queue_id}/logs", params={"step": "raeder"})
    assert answer.json()["errors"] == [{"pointer": "/query/step", "detail": "unknown step; did you mean 'reader'?"}]


async def test_too_many_lines_are_cut_and_it_is_said(client, parts, monkeypatch):
    monkeypatch.setattr("queue_manager.api.logs.MAX_LINES", 2)
    queue_id = await submit(client)
    await job(parts, queue_id, lines=["one", "two", "three"])
    answer = (await client.get(f"{URL}/{queue_id}/logs")).json()
    assert [item["line"] for item in answer["items"]] == ["two", "three"]
    assert answer["truncated"] is True


async def test_followed_logs_go_on_through_a_relaunch_until_the_workflow_ends(client, parts):
    queue_id = await submit(client)
    first = await job(parts, queue_id, lines=["one"])

    async def later():
        await asyncio.sleep(0.05)
        parts.launcher.exit(first, 0, 1)
        second = await job(parts, queue_id, lines=["two"])
        await asyncio.sleep(0.05)
        parts.launcher.say(second, "three")
        parts.launcher.exit(second, 0, 0)
        await end(parts, queue_id)

    told, _ = await asyncio.gather(client.get(f"{URL}/{queue_id}/logs", params={"follow": "true"}), later())
    assert told.headers["content-type"] == "application/x-ndjson"
    lines = [codec.decode(line) for line in told.text.splitlines()]
    assert [(item["line"], item["launch"]) for item in lines] == [("one", 1), ("two", 2), ("three", 2)]
