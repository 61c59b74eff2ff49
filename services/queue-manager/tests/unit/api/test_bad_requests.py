"""Every request that must be refused: with a problem document that names the field, and nothing created."""

import json

import httpx
import pytest

from queue_manager.api import Parts, acceptance

GOOD = {
    "symbol": "BTCUSDT",
    "type": "api_candles_1m",
    "time_range": "2024-08-01:2024-08-02",
    "steps": [{"target": "reader", "params": {"source": "simulated"}}, {"target": "store"}],
}
READER, STORE = GOOD["steps"]


def steps(*given):
    return {"steps": list(given)}


def params(**given):
    return steps(READER | {"params": {"source": "simulated"} | given}, STORE)


def source(text):
    return params(source=text)


GONE = object()
BAD = [
    # name, change of a good request, pointer, part of the detail
    ("no steps and no template", {"steps": GONE}, "/steps", "required"),
    ("empty steps", steps(), "/steps", "at least 1"),
    ("steps is no list", {"steps": {"target": "reader"}}, "/steps", "list"),
    ("too many steps", {"steps": [READER] * 65}, "/steps", "at most 64"),
    ("a step that is no object", steps("reader"), "/steps/0", "valid"),
    ("unknown field", {"simbol": "X"}, "/simbol", "did you mean 'symbol'"),
    ("unknown field of a step", steps(READER | {"replicsa": 1}, STORE), "/steps/0/replicsa", "'replicas'"),
    ("unknown field of a stream", {"streams": {"data": {"partitions": 1, "part": 2}}}, "/streams/data/part", "unknown"),
    ("no type", {"type": GONE}, "/type", "required"),
    ("type of another form", {"type": "candles"}, "/type", "api_candles_1m"),
    ("type with an unknown interval", {"type": "api_candles_7m"}, "/type", "interval"),
    ("type of a wrong JSON type", {"type": 1}, "/type", "string"),
    ("type that no target takes", {"type": "api_trades"}, "/steps/0/target", "not this type"),
    ("symbol with a slash", {"symbol": "../x"}, "/symbol", "pattern"),
    ("symbol too long", {"symbol": "X" * 41}, "/symbol", "40"),
    ("symbol missing that a target needs", {"symbol": GONE}, "/symbol", "required by reader"),
    ("time range missing", {"time_range": GONE}, "/time_range", "required"),
    ("time range of another form", {"time_range": "yesterday"}, "/time_range", "interval"),
    ("time range backwards", {"time_range": "2024-08-02:2024-08-01"}, "/time_range", "not after"),
    ("time range empty", {"time_range": "2024-08-02:2024-08-02"}, "/time_range", "not after"),
    ("a day that does not exist", {"time_range": "2024-02-30:2024-03-01"}, "/time_range", "day"),
    ("time range in the future", {"time_range": "2024-08-01:2999-01-01"}, "/time_range", "future"),
    ("time range without a zone", {"time_range": "2024-08-01T00:00/2024-08-01T01:00"}, "/time_range", "time zone"),
    ("time range for a live type", {"type": "ws_candles_1m"}, "/time_range", "live"),
    ("collection of another form", {"collection": "_system"}, "/collection", "letter first"),
    ("collection of the queue-manager", {"collection": "workflows"}, "/collection", "queue-manager"),
    ("unknown target", steps(READER, {"target": "stoer"}), "/steps/1/target", "'store'"),
    ("a step without a target", steps(READER, {"params": {}}), "/steps/1/target", "required"),
    ("a step with only a name", steps(READER, {"name": "store"}), "/steps/1/target", "required"),
    ("a step's name of another form", steps(READER, STORE | {"name": "Store_1"}), "/steps/1/name", "32"),
    ("two steps of one name", steps(READER, STORE, STORE), "/steps/2/name", "second"),
    ("param missing", steps({"target": "reader"}, STORE), "/steps/0/params/source", "required"),
    ("param of a wrong type", params(rate="fast"), "/steps/0/params/rate", "number"),
    ("param out of bounds", params(retries=10), "/steps/0/params/retries", "<= 9"),
    ("param not in the list", params(mode="slow"), "/steps/0/params/mode", "exact"),
    ("param of another pattern", params(base_url="gopher://x"), "/steps/0/params/base_url", "match"),
    ("unknown param", params(sauce="x"), "/steps/0/params/sauce", "'source'"),
    ("unknown nested param", params(nested={"dept": 1}), "/steps/0/params/nested/dept", "'depth'"),
    ("a secret in a request", params(password="hunter2"), "/steps/0/params/password", "secret"),
    ("params of a target that takes none", steps(READER, STORE | {"params": {"a": 1}}), "/steps/1/params/a", "unknown"),
    ("params that are no object", steps(READER | {"params": []}, STORE), "/steps/0/params", "dict"),
    ("replicas below one", steps(READER, STORE | {"replicas": 0}), "/steps/1/replicas", "greater"),
    ("replicas as text", steps(READER, STORE | {"replicas": "2"}), "/steps/1/replicas", "integer"),
    ("replicas above the target's", steps(READER | {"replicas": 5}, STORE), "/steps/0/replicas", "at most 4"),
    ("replicas above the limit", steps(READER, STORE | {"replicas": 9}), "/steps/1/replicas", "at most 8"),
    (
        "replicas where order counts",
        steps(READER, {"target": "stage", "replicas": 2}),
        "/steps/1/replicas",
        "in order",
    ),
    ("a stream that nobody writes", steps(READER, STORE | {"reads": ["other"]}), "/steps/1/reads", "no step writes"),
    ("too many stream names", steps(READER, STORE | {"reads": ["data", "more"]}), "/steps/1/reads", "1 streams"),
    ("a stream's name of another form", steps(READER | {"writes": ["Da ta"]}, STORE), "/steps/0/writes/0", "stream"),
    ("a stream called dead-letter", steps(READER | {"writes": ["dead-letter"]}, STORE), "/steps/0/writes/0", "stream"),
    (
        "one stream read twice",
        steps(READER, {"target": "joiner", "reads": ["data", "data"]}),
        "/steps/1/reads",
        "twice",
    ),
    (
        "a circle",
        steps({"target": "stage", "reads": ["enriched"]}, STORE | {"reads": ["enriched"]}),
        "/steps",
        "circle",
    ),
    ("unequal schemas", steps(READER, {"target": "flows"}), "/steps/1/reads", "flow.v1"),
    ("partitions of an unknown stream", {"streams": {"dat": {"partitions": 2}}}, "/streams/dat", "'data'"),
    ("partitions below one", {"streams": {"data": {"partitions": 0}}}, "/streams/data/partitions", "greater"),
    ("too many partitions", {"streams": {"data": {"partitions": 17}}}, "/streams/data/partitions", "at most 16"),
    (
        "partitions where order counts",
        steps(READER, {"target": "stage"}) | {"streams": {"data": {"partitions": 2}}},
        "/streams/data/partitions",
        "in order",
    ),
    ("replicas beside an ordered step", steps(READER | {"replicas": 2}, {"target": "stage"}), "/steps", "in order"),
    ("a file outside", source("file:///etc/passwd"), "/steps/0/params/source", "DATA_ROOTS"),
    ("a file upwards", source("file:///data/../etc/passwd"), "/steps/0/params/source", "'..'"),
    ("a file upwards, encoded", source("file:///%2e%2e/etc/passwd"), "/steps/0/params/source", "'..'"),
    ("a file of another host", source("file://host/etc/passwd"), "/steps/0/params/source", "whole path"),
    ("a pattern outside", source("file:///etc/*.conf"), "/steps/0/params/source", "DATA_ROOTS"),
    ("metadata by address", source("http://169.254.169.254/latest"), "/steps/0/params/source", "metadata"),
    ("metadata as one number", source("http://2852039166/"), "/steps/0/params/source", "metadata"),
    ("metadata in hex", source("http://0xA9FEA9FE/"), "/steps/0/params/source", "metadata"),
    ("metadata in IPv6", source("http://[::ffff:169.254.169.254]/"), "/steps/0/params/source", "metadata"),
    ("metadata by name", source("http://metadata.google.internal./"), "/steps/0/params/source", "metadata"),
    ("a link-local address", source("http://[fe80::1]/x"), "/steps/0/params/source", "link-local"),
    ("the unspecified address", source("ws://0.0.0.0:1/x"), "/steps/0/params/source", "unspecified"),
    ("a password in a URL", source("https://me:hunter2@host/x"), "/steps/0/params/source", "password"),
    ("an address inside", params(nested={"url": "http://169.254.1.1"}), "/steps/0/params/nested/url", "link-local"),
    ("control characters in a URL", source("ht\ntp://169.254.169.254/"), "/steps/0/params/source", "control"),
    ("unknown template", {"template": "simpel", "steps": GONE}, "/template", "'simple'"),
    ("template of a wrong type", {"template": 1}, "/template", "string"),
    (
        "override of an unknown step",
        {"template": "simple", "steps": [READER, {"name": "stor"}]},
        "/steps/1/name",
        "'store'",
    ),
    (
        "override with another target",
        {"template": "simple", "steps": [READER, {"name": "store", "target": "stage"}]},
        "/steps/1/target",
        "is store",
    ),
    ("template without what it lacks", {"template": "simple", "steps": GONE}, "/steps", "params/source is required"),
]
MALFORMED = [
    ("nothing", b"", "JSON"),
    ("no JSON", b"{", "JSON"),
    ("no UTF-8", b'{"type": "\xff"}', "JSON"),
    ("a name twice", b'{"type": "api_candles_1m", "type": "ws_candles_1m"}', "twice"),
    ("NaN", b'{"type": NaN}', "NaN"),
    ("an infinite number", b'{"type": 1e999}', "too large"),
    ("a number that is not exact", b'{"type": 9007199254740993}', "2^53"),
    ("very many digits", b'{"type": ' + b"9" * 10_000 + b"}", "2^53"),
    ("half a surrogate pair", b'{"type": "\\ud800"}', "JSON"),
    ("too deep", b"[" * 40 + b"]" * 40, "32 levels"),
    ("a depth bomb", b"[" * 100_000, "JSON|levels"),
    ("a deep object", b'{"a":' * 50 + b"1" + b"}" * 50, "32 levels"),
]
OTHER = [
    ("too large", {"content": b" " * (1024 * 1024 + 1)}, 413, "too-large", ""),
    ("form data", {"data": {"type": "x"}}, 400, "malformed", ""),
    ("unknown parameter", {"json": GOOD, "params": {"dry_rum": "true"}}, 422, "validation", "/query/dry_rum"),
    ("wrong parameter", {"json": GOOD, "params": {"dry_run": "perhaps"}}, 422, "validation", "/query/dry_run"),
    (
        "wrong key",
        {"json": GOOD, "headers": {"Idempotency-Key": "x" * 256}},
        422,
        "validation",
        "/header/idempotency-key",
    ),
    ("a list", {"json": []}, 422, "validation", ""),
    ("null", {"content": b"null"}, 422, "validation", ""),
]


def problem(answer: httpx.Response, status: int, kind: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["type"] == f"urn:streamforge:problem:{kind}"
    assert document["status"] == status
    return document


async def created(parts: Parts) -> int:
    return sum((await parts.store.counts()).values())


async def test_the_request_that_the_bad_ones_are_made_of_is_good(client: httpx.AsyncClient):
    assert (await client.post("/api/v1/workflows", json=GOOD)).status_code == 202


@pytest.mark.parametrize(("change", "pointer", "detail"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
async def test_a_bad_request_is_refused_by_its_field(client, parts, change, pointer, detail):
    body = {name: value for name, value in (GOOD | change).items() if value is not GONE}
    document = problem(await client.post("/api/v1/workflows", json=body), 422, "validation")
    details = [fault["detail"] for fault in document["errors"] if fault["pointer"] == pointer]
    assert any(detail in text for text in details), document["errors"]
    assert "hunter2" not in json.dumps(document)
    assert await created(parts) == 0
    assert parts.controller.told == []


@pytest.mark.parametrize(("body", "detail"), [m[1:] for m in MALFORMED], ids=[m[0] for m in MALFORMED])
async def test_a_body_that_is_no_strict_json_is_refused(client, parts, body, detail):
    answer = await client.post("/api/v1/workflows", content=body, headers={"Content-Type": "application/json"})
    assert any(part in problem(answer, 400, "malformed")["detail"] for part in detail.split("|"))
    assert await created(parts) == 0


@pytest.mark.parametrize(("sent", "status", "kind", "pointer"), [o[1:] for o in OTHER], ids=[o[0] for o in OTHER])
async def test_a_request_that_is_wrong_otherwise_is_refused(client, parts, sent, status, kind, pointer):
    document = problem(await client.post("/api/v1/workflows", **sent), status, kind)
    assert not pointer or pointer in [fault["pointer"] for fault in document["errors"]]
    assert await created(parts) == 0


async def test_a_body_in_pieces_is_bounded_too(client, parts):
    async def pieces():
        for _ in range(20):
            yield b" " * 100_000

    problem(await client.post("/api/v1/workflows", content=pieces()), 413, "too-large")


@pytest.mark.parametrize("query", ["", "?dry_run=true"])
async def test_a_workflow_that_no_message_can_tell_is_refused(client, parts, monkeypatch, query):
    monkeypatch.setattr(acceptance, "MAX_DECISION", 100)
    document = problem(await client.post(f"/api/v1/workflows{query}", json=GOOD), 413, "too-large")
    assert "at most 100 can be told" in document["detail"]
    assert await created(parts) == 0


async def test_all_faults_are_told_at_once(client, parts):
    body = {
        "symbol": 7,
        "type": "candles",
        "colection": "x",
        "steps": [READER | {"params": {"rate": -1, "source": "http://169.254.1.1"}}, {"target": "nobody"}],
    }
    document = problem(await client.post("/api/v1/workflows", json=body), 422, "validation")
    assert {fault["pointer"] for fault in document["errors"]} == {
        "/symbol",
        "/type",
        "/colection",
        "/steps/0/params/rate",
        "/steps/0/params/source",
        "/steps/1/target",
    }


async def test_a_link_does_not_lead_out_of_the_data_roots(client, data_root):
    body = GOOD | source(f"file://{data_root}/way-out/passwd")
    document = problem(await client.post("/api/v1/workflows", json=body), 422, "validation")
    assert document["errors"][0]["pointer"] == "/steps/0/params/source"


@pytest.mark.parametrize("path", ["candles.csv", "*.csv", "day-?/x.csv"])
async def test_a_file_below_the_data_roots_is_taken(client, data_root, path):
    answer = await client.post("/api/v1/workflows", json=GOOD | source(f"file://{data_root}/{path}"))
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("url", ["https://data.example.org/x", "http://127.0.0.1:8000/x", "wss://10.0.0.1/ws"])
async def test_an_ordinary_address_is_taken(client, url):
    assert (await client.post("/api/v1/workflows", json=GOOD | source(url))).status_code == 202


async def test_a_path_or_method_that_is_not_there_is_a_problem_too(client):
    problem(await client.get("/api/v1/nothing"), 404, "not-found")
    answer = await client.put("/api/v1/workflows", json={})
    problem(answer, 405, "method-not-allowed")
    assert "POST" in answer.headers["allow"]
