"""The main job as a user sees it: a file of candles goes in by POST and comes out of the store, each field of it."""

import asyncio
import gzip
import itertools
import json
import math

import pytest

from streamforge_local.scenario import Scenario, scenario, until
from streamforge_utils.contracts.candle import INDICATORS

pytestmark = pytest.mark.integration

CANDLES = 14_400
COLUMNS = ("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "trades")
MORE = ("taker_buy_volume", "taker_buy_quote_volume")
WHOLE = {"open_time", "close_time", "trades"}


def expected(path):
    """The documents that a file should give."""
    found = []
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        cells = dict(zip((*COLUMNS, *MORE), line.split(","), strict=False))
        values = {name: int(cell) if name in WHOLE else float(cell) for name, cell in cells.items()}
        found.append({"_key": cells["open_time"], "symbol": "BTCUSDT", "interval": "1m", **values})
    return found


def adds_up(workflow, *, read=CANDLES):
    for step in workflow["steps"]:
        assert step["records_read"] == read, step
        assert step["records_read"] == step["stored"] + step["dead_lettered"] + step["dropped"], step


async def test_every_field_of_the_file_is_in_the_store_however_often_it_is_asked_for(live, candle_file, request_of):
    body = request_of(candle_file, collection=f"main_{candle_file.parent.name.replace('-', '_')}")
    key = f"main-job-{candle_file.parent.name}"
    first = await live.submit(body, **{"Idempotency-Key": key})
    again = await live.submit(body, **{"Idempotency-Key": key})
    assert again["queue_id"] == first["queue_id"]
    workflow = await live.ended(first["queue_id"])
    assert workflow["state"] == "finished", workflow
    adds_up(workflow)
    documents = await live.documents(workflow["collection"])
    assert documents == expected(candle_file)
    assert len(documents) == CANDLES

    assert (await live.submit(body, **{"Idempotency-Key": key}))["queue_id"] == first["queue_id"]
    second = await live.ended((await live.submit(body))["queue_id"])
    assert second["queue_id"] != first["queue_id"]
    assert second["state"] == "finished"
    assert await live.documents(workflow["collection"]) == documents
    writers = "FOR d IN @@collection RETURN DISTINCT d.queue_id"
    assert await live.store.query(writers, {"@collection": workflow["collection"]}) == [second["queue_id"]]


def ema(values, n):
    """Seeded by the mean of the first n; None before. ``values`` may begin with None."""
    begin = next((index for index, value in enumerate(values) if value is not None), len(values))
    out = [None] * len(values)
    for index in range(begin + n - 1, len(values)):
        if index == begin + n - 1:
            out[index] = sum(values[begin : index + 1]) / n
        else:
            out[index] = (values[index] * 2 + out[index - 1] * (n - 1)) / (n + 1)
    return out


def wilder(values, n):
    out = [None] * len(values)
    for index in range(n, len(values)):  # the first value is none: a change needs two bars
        out[index] = sum(values[1 : n + 1]) / n if index == n else (out[index - 1] * (n - 1) + values[index]) / n
    return out


def pairwise(function, one, other):
    return [None if a is None or b is None else function(a, b) for a, b in zip(one, other, strict=True)]


def day_averages(candles):
    out, total, volume = [], 0.0, 0.0
    for index, candle in enumerate(candles):
        if index == 0 or candle["open_time"] % 86_400_000 == 0:
            total = volume = 0.0
        total += (candle["high"] + candle["low"] + candle["close"]) / 3 * candle["volume"]
        volume += candle["volume"]
        out.append(total / volume)
    return out


def bands(closes, n=20, width=2.0):
    for index in range(len(closes)):
        window = closes[index - n + 1 : index + 1] if index >= n - 1 else []
        if not window:
            yield None, None, None
            continue
        mean = sum(window) / n
        deviation = math.sqrt(sum((value - mean) ** 2 for value in window) / n)
        yield mean + width * deviation, mean, mean - width * deviation


def indicators(candles):
    """All indicators by their textbook definitions, over whole columns."""
    closes = [candle["close"] for candle in candles]
    changes = [0.0, *(b - a for a, b in itertools.pairwise(closes))]
    ranges = [0.0] + [
        max(c["high"], previous) - min(c["low"], previous) for c, previous in zip(candles[1:], closes, strict=False)
    ]
    gains, losses = (wilder([max(sign * change, 0.0) for change in changes], 14) for sign in (1, -1))
    # The seeds of both averages end on the same bar: the fast one leaves out the first 26 - 12.
    fast = [None] * 14 + ema(closes[14:], 12)
    line = pairwise(lambda a, b: a - b, fast, ema(closes, 26))
    signal = ema(line, 9)
    upper, middle, lower = zip(*bands(closes), strict=True)
    return {
        "ema_50": ema(closes, 50),
        "ema_200": ema(closes, 200),
        "rsi_14": pairwise(lambda gain, loss: 100 * gain / (gain + loss), gains, losses),
        "atr_14": wilder(ranges, 14),
        "vwap": day_averages(candles),
        "macd": line,
        "macd_signal": signal,
        "macd_hist": pairwise(lambda a, b: a - b, line, signal),
        "bb_upper": upper,
        "bb_middle": middle,
        "bb_lower": lower,
    }


async def test_indicators_are_those_of_a_plain_recomputation(live, candle_file, request_of):
    collection = f"enriched_{candle_file.parent.name.replace('-', '_')}"
    body = request_of(candle_file, template="candles-with-indicators", collection=collection)
    workflow = await live.ended((await live.submit(body))["queue_id"])
    assert workflow["state"] == "finished", workflow
    adds_up(workflow)
    documents = await live.documents(collection)
    candles = expected(candle_file)
    assert [{name: d[name] for name in candles[0]} for d in documents] == candles
    columns = indicators(candles)
    assert set(columns) == set(INDICATORS)
    for name, column in columns.items():
        for index, (document, value) in enumerate(zip(documents, column, strict=True)):
            found = document[name]
            assert (found is None) == (value is None), (name, index, found, value)
            # macd is a difference of prices: its error is measured against them
            scale = candles[index]["close"] if name.startswith("macd") else 0.0
            assert value is None or math.isclose(found, value, rel_tol=1e-9, abs_tol=1e-12 * scale), (name, index)


async def test_two_replicas_share_the_stream_and_store_each_candle_once(live, made_file, request_of):
    body = request_of(made_file, collection="two_replicas", steps=[{"name": "arango-candles", "replicas": 2}])
    workflow = await live.ended((await live.submit(body))["queue_id"])
    assert workflow["state"] == "finished", workflow
    adds_up(workflow)
    assert workflow["streams"]["data"]["partitions"] == 2
    assert workflow["steps"][1]["replicas"] == 2
    assert await live.documents("two_replicas") == expected(made_file)
    finished = [e for e in await live.history(workflow["queue_id"]) if e.get("event") == "finished"]
    shares = {e["ordinal"]: e["payload"]["counters"]["stored"] for e in finished if e["step"] == "arango-candles"}
    assert sorted(shares) == [0, 1]
    assert all(share > 0 for share in shares.values())


async def _half_way(live, queue_id, collection):
    """Wait until some of the candles are stored; the workflow still runs then."""

    async def look():
        return await live.count(collection) > CANDLES // 10

    await until(look, "a tenth of the candles is stored")
    workflow = await live.get(queue_id)
    assert workflow["state"] == "running"


async def test_a_stopped_workflow_is_interrupted_and_a_retry_stores_the_rest(live, made_file, request_of):
    template = "candles-with-indicators"
    clean = request_of(made_file, template=template, collection="uninterrupted")
    assert (await live.ended((await live.submit(clean))["queue_id"]))["state"] == "finished"
    body = request_of(made_file, template=template, collection="interrupted", rate=4000)
    queue_id = (await live.submit(body))["queue_id"]
    await _half_way(live, queue_id, "interrupted")
    assert (await live.post(f"{queue_id}/stop"))["queue_id"] == queue_id
    workflow = await live.ended(queue_id)
    assert workflow["state"] == "interrupted", workflow
    assert all(job["live"] == 0 for job in await live.jobs(queue_id))
    assert 0 < await live.count("interrupted") < CANDLES
    await live.post(f"{queue_id}/retry")
    workflow = await live.ended(queue_id)
    assert (workflow["state"], workflow["attempt"]) == ("finished", 2), workflow
    adds_up(workflow)
    assert await live.documents("interrupted") == await live.documents("uninterrupted")


async def test_stop_with_drain_stores_what_was_read_and_delete_with_purge_removes_it(live, made_file, request_of):
    body = request_of(made_file, collection="drained", rate=4000)
    queue_id = (await live.submit(body))["queue_id"]
    await _half_way(live, queue_id, "drained")
    refused = await live.api.delete(f"/api/v1/workflows/{queue_id}")
    assert refused.status_code == 409
    await live.post(f"{queue_id}/stop", drain="true")
    workflow = await live.ended(queue_id)
    assert (workflow["state"], workflow["reason"]["code"]) == ("finished", "stopped-and-drained"), workflow
    loader, sink = workflow["steps"]
    adds_up(workflow, read=loader["stored"])
    assert 0 < sink["stored"] < CANDLES
    assert await live.documents("drained") == expected(made_file)[: sink["stored"]]

    answer = await live.api.delete(f"/api/v1/workflows/{queue_id}", params={"purge": "true"})
    assert answer.status_code == 202

    async def gone():
        return (await live.api.get(f"/api/v1/workflows/{queue_id}")).status_code == 404

    await until(gone, "the workflow is deleted")
    assert await live.count("drained") == 0
    assert await live.jobs(queue_id) == []


async def test_ping_logs_and_the_stream_of_events_tell_of_a_running_workflow(live, made_file, request_of):
    queue_id = (await live.submit(request_of(made_file, collection="told", rate=6000)))["queue_id"]
    told = []

    async def listen():
        path, headers = f"/api/v1/workflows/{queue_id}/events", {"Accept": "text/event-stream"}
        async with live.api.stream("GET", path, headers=headers, timeout=60) as stream:
            async for line in stream.aiter_lines():
                kind, _, rest = line.partition(": ")
                told.append((kind, rest))

    listening = asyncio.create_task(listen())
    await _half_way(live, queue_id, "told")
    pong = await live.post(f"{queue_id}/ping")
    assert {step["name"] for step in pong["steps"]} == {"loader-candles", "arango-candles"}
    assert all(0 < step["round_trip_s"] < 5 for step in pong["steps"])
    workflow = await live.ended(queue_id)
    await asyncio.wait_for(listening, 20)

    kinds = [rest for kind, rest in told if kind == "event"]
    assert kinds.count("started") == kinds.count("finished") == 2
    assert kinds.count("launched") == 2
    assert kinds.count("workflow") > 2
    ids = [rest for kind, rest in told if kind == "id"]
    assert ids == list(dict.fromkeys(ids))
    last = json.loads([rest for kind, rest in told if kind == "data"][-1])
    assert last.get("state", last.get("payload", {}).get("state")) == workflow["state"] == "finished"

    lines = (await live.get(f"{queue_id}/logs"))["items"]
    assert {line["step"] for line in lines} == {"loader-candles", "arango-candles"}
    assert all(json.loads(line["line"])["queue_id"] == queue_id for line in lines)
    assert {json.loads(line["line"])["event"] for line in lines} >= {"starts", "leaves"}


def _secrets(variables):
    found = {value for name, value in variables.items() if "PASSWORD" in name}
    assert len(found) == 2
    return [value.encode() for value in found]


def _command_lines(pids):
    for pid in pids:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                yield file.read()
        except OSError:
            continue


async def test_the_main_job_runs_over_scram_and_tells_no_password(scram_home, made_file, request_of):
    async with scenario(scram_home, Scenario) as live:
        await live.all_ready()
        secrets = _secrets(live.variables)
        body = request_of(made_file, template="candles-with-indicators", collection="scram", rate=10_000)
        queue_id = (await live.submit(body))["queue_id"]
        command_lines = list(_command_lines([*live.processes(), live.supervisor]))
        await live.worker(queue_id, "arango-candles")
        command_lines += _command_lines([*live.processes(), *live.seen])
        workflow = await live.ended(queue_id)
        assert workflow["state"] == "finished", workflow
        adds_up(workflow)
        candles = expected(made_file)
        assert [{name: d[name] for name in candles[0]} for d in await live.documents("scram")] == candles
        paths = ["", f"/{queue_id}", f"/{queue_id}/events?limit=500", f"/{queue_id}/logs", f"/{queue_id}/dead-letters"]
        answers = [(await live.api.get(f"/api/v1/workflows{path}")).content for path in paths]
        answers += [(await live.api.get(path)).content for path in ("/metrics", "/health/ready", "/openapi.json")]
        events = [json.dumps(e).encode() for e in await live.history(queue_id)]
    logs = [path.read_bytes() for path in scram_home.root.rglob("*.log*") if path.is_file()]
    logs += [path.read_bytes() for path in (scram_home.data / "node" / "logs").rglob("*") if path.is_file()]
    assert len(command_lines) > 5
    assert len(logs) > 5
    for secret in secrets:
        for text in (*command_lines, *answers, *events, *logs):
            assert secret not in text
