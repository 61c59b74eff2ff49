"""Whatever lies on the topics or in the files is skipped, dead-lettered or told, and counted; good input goes on."""

import gzip
import json
import math

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from streamforge_local.scenario import until

pytestmark = pytest.mark.integration

START_MS, MINUTE_MS = 1_754_006_400_000, 60_000
DEEP = b"[" * 5_000 + b"]" * 5_000


def edited(message, **changes):
    """A message with other values; those that are None are left out."""
    return json.dumps({name: value for name, value in (message | changes).items() if value is not None}).encode()


NOT_JSON = [
    None,
    b"",
    b" ",
    b"null",
    b"[]",
    b'"text"',
    b"7",
    b"{",
    b"{}",
    b"\x00\xff\xfe\x80",
    b'{"a": 1}{"a": 2}',
    b"NaN",
    DEEP,
    '{"queue_id": "\u00e4"}'.encode("latin-1"),
]
"""Fourteen messages that are of no use on any topic."""


def bad_commands(queue_id):
    """Twenty messages that are no commands for anybody."""
    good = {"command": "ping", "queue_id": queue_id, "payload": {}}
    drain = {"command": "drain", "queue_id": queue_id, "payload": {"drain_id": 1, "launch": 1, "ends": {}}}
    return [
        *NOT_JSON,
        edited(good, command="explode"),
        edited(good, command=None),
        edited(good, queue_id=7),
        edited(good, payload="text"),
        edited(drain, payload={"drain_id": 0, "launch": 1, "ends": {}}),
        edited(drain, payload={"drain_id": 1, "launch": 1, "ends": {"topic": {"x": "y"}}}),
    ]


def bad_events(queue_id):
    """Twenty messages that are neither event nor decision."""
    good = {"queue_id": queue_id, "producer": "p", "target": "t", "step": "arango-candles", "run": "r", "seq": 1}
    good |= {"event": "finished"}
    return [
        *NOT_JSON,
        edited(good, event="exploded"),
        edited(good, seq=-1),
        edited(good, run=None),
        edited(good, launch=0),
        edited(good, payload=[1]),
        edited({"queue_id": queue_id, "decision": "guessed"}),
    ]


def bad_candles(candle):
    """Twenty records of which none is a candle of the workflow."""
    return [
        *NOT_JSON,
        edited(candle, high=candle["low"] - 1),
        edited(candle, close=None),
        edited(candle, volume="many"),
        edited(candle, symbol="ETHUSDT"),
        edited(candle, interval="5m"),
        edited(candle, open_time=START_MS - MINUTE_MS, _key=str(START_MS - MINUTE_MS)),
    ]


@pytest_asyncio.fixture
async def send(live):
    """Sends messages to a topic as any client could."""
    producer = AIOKafkaProducer(bootstrap_servers=live.variables["KAFKA_BOOTSTRAP_SERVERS"], acks="all")
    await producer.start()

    async def send_all(topic, values, key):
        for value in values:
            await producer.send_and_wait(topic, value, key=key, partition=None if topic.startswith("queue-") else 0)

    try:
        yield send_all
    finally:
        await producer.stop()


async def _skipped_events(live):
    lines = (await live.api.get("/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("streamforge_messages_skipped_total "))


async def test_bad_messages_on_every_topic_of_a_running_workflow_are_counted(live, send, made_file, request_of):
    body = request_of(made_file, template="candles-with-indicators", collection="bad_messages", rate=3600)
    queue_id = (await live.submit(body))["queue_id"]
    workers = [await live.worker(queue_id, step) for step in ("candle-indicators", "arango-candles")]

    async def running():
        return await live.committed(workers[1]) > 0

    await until(running, "candles are stored")
    candle = (await live.documents("bad_messages"))[0]
    candle = {name: candle[name] for name in list(candle) if not name.startswith(("ema", "rsi", "atr", "vwap"))}
    before = await _skipped_events(live)
    assert len(bad_commands("q")) == len(bad_events("q")) == len(bad_candles(candle)) == 20
    key = queue_id.encode()
    await send("queue-control", bad_commands(queue_id), key)
    await send("queue-events", bad_events(queue_id), key)
    await send(f"{queue_id}-data", bad_candles(candle), b"bad")
    await send(f"{queue_id}-enriched", bad_candles(candle), b"bad")

    async def commands_are_skipped():
        counts = [(await live.metrics(w)).get("streamforge_messages_skipped_total{wrong-schema}", 0) for w in workers]
        return counts == [20, 20]

    await until(commands_are_skipped, "each worker has counted the bad commands", timeout_s=3)

    async def events_are_skipped():
        return await _skipped_events(live) == before + 20

    await until(events_are_skipped, "the queue-manager has counted the bad events", timeout_s=10)
    workflow = await live.ended(queue_id)
    assert workflow["state"] == "finished", workflow
    loader, indicators, sink = workflow["steps"]
    assert (loader["records_read"], loader["dead_lettered"]) == (14_400, 0)
    for step, letters in ((indicators, indicators["dead_lettered"]), (sink, sink["dead_lettered"])):
        assert step["records_read"] == 14_420, step
        assert step["stored"] == 14_400
        assert letters + step["dropped"] == 20
    # A candle from before the last one is dropped by the indicators before its range could be looked at.
    assert (indicators["dead_lettered"], indicators["dropped_by_reason"]) == (19, {"out-of-order": 1})
    assert (sink["dead_lettered"], sink["dropped"]) == (20, 0)
    assert len(await live.documents("bad_messages")) == 14_400
    letters = (await live.get(f"{queue_id}/dead-letters", limit=500))["items"]
    assert len(letters) == 39
    assert {letter["code"] for letter in letters} == {
        "not-json",
        "wrong-schema",
        "wrong-symbol",
        "inconsistent",
        "out-of-range",
    }
    assert all(letter["reason"] and letter["source"]["topic"].startswith(queue_id) for letter in letters)


def rows(count=20):
    """Rows of the exchange's files."""
    found = []
    for index in range(count):
        opened = START_MS + index * MINUTE_MS
        price = 100 + math.sin(index)
        prices = [f"{value:.2f}" for value in (price, price + 1, price - 1, price)]
        found.append([str(opened), *prices, "5.0", str(opened + MINUTE_MS - 1), "500.0", "7", "2.0", "200.0", "0"])
    return found


def text(lines):
    return "".join(",".join(line) + "\n" for line in lines).encode()


def changed(line, column, cell):
    lines = rows()
    lines[line - 1][column] = cell
    return text(lines)


BAD_FILES = {
    "empty": (".csv", b"", "line 1"),
    "truncated_gz": (".csv.gz", gzip.compress(text(rows(2000)), mtime=0)[:9000], "line "),
    "no_gz": (".csv.gz", text(rows()), "line 1"),
    "missing_column": (".csv", text([row[:-1] for row in rows()]), "line 1"),
    "truncated_row": (".csv", text(rows())[:-30], "line 20"),
    "unsorted": (".csv", text([*rows()[:5], *rows()[2:]]), "line 6"),
    "binary": (".csv", bytes(range(256)) * 40, "line 1"),
    "not_a_number": (".csv", changed(9, 4, "n/a"), "line 9"),
    "other_interval": (".csv", changed(5, 0, str(START_MS + 4 * MINUTE_MS + 500)), "line 5"),
    "seconds": (".csv", changed(3, 0, "1754006520"), "line 3"),
    "damaged_zip": (".zip", b"PK\x03\x04" + bytes(200), "line 1"),
    "only_a_header": (".csv", b"open_time,open,high,low,close,volume,close_time,quote_volume,count,a,b,c\n", "line 1"),
}


async def test_each_bad_file_ends_its_workflow_with_a_sentence_that_names_file_and_line(live, request_of, tmp_path):
    submitted = {}
    for name, (suffix, content, _) in BAD_FILES.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        body = request_of(path, collection=f"bad_{name}")
        source = body["steps"][0]["params"]["source"].removeprefix("file://")
        submitted[name] = (await live.submit(body))["queue_id"], source
    assert len(submitted) >= 10
    for name, (queue_id, source) in submitted.items():
        line = BAD_FILES[name][2]
        workflow = await live.ended(queue_id)
        loader, sink = workflow["steps"]
        assert workflow["state"] == "failed", (name, workflow)
        assert loader["reason"]["code"] == "bad-input", (name, loader)
        for said in (loader["reason"]["message"], workflow["reason"]["message"]):
            assert source in said, (name, said)
            assert line in said, (name, said)
        assert (loader["state"], loader["restarts"], loader["last_exit"]) == ("failed", 0, 78)
        assert sink["state"] == "interrupted", (name, sink)
