import asyncio
import time

import pytest
import structlog

from queue_manager import decisions
from queue_manager.api.answers import WorkflowAnswer, WorkflowList
from queue_manager.api.parts import ApiSettings, Backlog
from queue_manager.model import StepEnd
from streamforge_utils.errors import ConfigurationError

URL = "/api/v1/workflows"
GOOD = {
    "symbol": "BTCUSDT",
    "type": "api_candles_1m",
    "time_range": "2024-08-01:2024-08-02",
    "steps": [{"target": "reader", "params": {"source": "simulated", "nested": {}}}, {"target": "store"}],
}


async def submit(client, body=GOOD, **options):
    answer = await client.post(URL, json=body, **options)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def end(parts, queue_id, state="finished", *, is_partial=False):
    """Bring a workflow to its end without a controller."""
    document = await parts.store.get(queue_id)
    for step in document.spec.steps:
        if document.step(step.name).end is None:
            done = StepEnd(
                attempt=document.status.attempt, launch=1, state=state, at=time.time(), is_partial=is_partial
            )
            document = decisions.end_step(document, step.name, done, now=time.time())
    return await parts.store.update(document)


async def test_an_accepted_workflow_is_stored_and_told(client, parts):
    answer = await client.post(URL, json=GOOD)
    shown = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{URL}/{shown['queue_id']}"
    assert shown["queue_id"].startswith("wf-btcusdt-api_candles_1m-20240801-")
    assert shown["collection"] == "btcusdt_api_candles_1m_2024_08_01"
    assert parts.controller.told == [shown["queue_id"]]
    found = (await client.get(answer.headers["location"])).json()
    assert found["state"] == "pending"
    assert found["reason"]["code"] == "queued"
    assert found["steps"][0]["params"] == {"source": "simulated", "retries": 3, "mode": "exact", "nested": {"depth": 7}}
    assert found["streams"] == {
        "data": {
            "topic": f"{shown['queue_id']}-data",
            "partitions": 1,
            "schema": "candle.v1",
            "records": 0,
            "ended": False,
        }
    }
    WorkflowAnswer.model_validate(found)


async def test_a_dry_run_answers_what_would_be_and_creates_nothing(client, parts):
    answer = await client.post(URL, json=GOOD, params={"dry_run": "true"})
    assert answer.status_code == 200
    WorkflowAnswer.model_validate(answer.json())
    assert await parts.store.counts() == {}


async def test_a_template_is_overridden_by_step_name(client, parts):
    body = GOOD | {"template": "simple", "steps": [{"name": "store", "replicas": 2}, GOOD["steps"][0]]}
    shown = await submit(client, body)
    assert [(step["name"], step["replicas"]) for step in shown["steps"]] == [("reader", 1), ("store", 2)]
    assert shown["streams"]["data"]["partitions"] == 2
    document = await parts.store.get(shown["queue_id"])
    assert document.spec.retention_ms == 2 * 86_400_000
    assert document.spec.on_failure == "continue"


async def test_streams_of_a_chain_are_named_by_the_template(client):
    shown = await submit(
        client, {name: GOOD[name] for name in ("symbol", "type", "time_range")} | {"template": "enriched"}
    )
    assert [(step["reads"], step["writes"]) for step in shown["steps"]] == [
        ([], ["data"]),
        (["data"], ["enriched"]),
        (["enriched"], []),
    ]


async def test_streams_read_together_have_equally_many_partitions(client):
    body = GOOD | {
        "steps": [
            {"name": "one", "target": "reader", "params": {"source": "simulated"}, "writes": ["left"], "replicas": 3},
            {"name": "two", "target": "reader", "params": {"source": "simulated"}, "writes": ["right"]},
            {"target": "joiner", "replicas": 2},
        ]
    }
    shown = await submit(client, body)
    assert {name: stream["partitions"] for name, stream in shown["streams"].items()} == {"left": 3, "right": 3}


async def test_a_live_workflow_without_symbol_is_named_by_its_first_target(client):
    body = {"type": "ws_candles_1m", "steps": [{"target": "reader", "params": {"source": "x"}}], "symbol": "A"}
    assert (await submit(client, body))["time_range"] is None


async def test_equal_requests_with_one_key_are_one_workflow_however_they_race(client, parts):
    headers = {"Idempotency-Key": "k-1"}
    answers = await asyncio.gather(*(client.post(URL, json=GOOD, headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["queue_id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 19
    assert await parts.store.counts() == {"pending": 1}


async def test_a_key_used_for_another_body_is_a_conflict(client, parts):
    headers = {"Idempotency-Key": "k-1"}
    await submit(client, headers=headers)
    answer = await client.post(URL, json=GOOD | {"symbol": "ETHUSDT"}, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:streamforge:problem:conflict")
    assert await parts.store.counts() == {"pending": 1}


@pytest.mark.usefixtures("own_installed")
async def test_a_repeated_request_gets_its_workflow_although_its_target_is_gone(client, parts, tmp_path):
    headers = {"Idempotency-Key": "k-1"}
    first = await submit(client, headers=headers)
    (tmp_path / "targets" / "store" / "target.yaml").unlink()
    parts.targets._checked = float("-inf")
    assert (await client.post(URL, json=GOOD)).status_code == 422
    assert (await submit(client, headers=headers))["queue_id"] == first["queue_id"]


async def test_too_many_waiting_workflows_are_429_with_a_time_but_a_repeat_is_not(client, parts):
    parts.settings = ApiSettings(max_pending=1)
    parts.backlog = Backlog(parts)
    headers = {"Idempotency-Key": "k-1"}
    first = await submit(client, headers=headers)
    answer = await client.post(URL, json=GOOD)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert (await submit(client, headers=headers))["queue_id"] == first["queue_id"]


async def test_a_store_that_is_away_is_503_everywhere(client, parts):
    parts.store.is_away = True
    for method, path in (("POST", ""), ("GET", ""), ("GET", "/wf-x"), ("POST", "/wf-x/stop"), ("DELETE", "/wf-x")):
        answer = await client.request(method, URL + path, json=GOOD if method == "POST" and not path else None)
        assert answer.status_code == 503, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert "retry-after" in answer.headers


async def test_a_store_that_was_never_reached_is_503(client, parts):
    parts.installation = None
    assert (await client.post(URL, json=GOOD)).status_code == 503
    assert (await client.get("/health/startup")).status_code == 503


async def test_a_store_that_never_answers_is_503_within_the_deadline(client, parts, monkeypatch):
    parts.settings = type(parts.settings)(request_timeout_s=0.05)

    async def never(*_args, **_more):
        await asyncio.Event().wait()

    monkeypatch.setattr(parts.store, "page", never)
    assert (await client.get(URL)).status_code == 503


async def test_a_store_that_refuses_the_login_is_503(client, parts, monkeypatch):
    async def refuse(*_args, **_more):
        raise ConfigurationError("ArangoDB refused user or password", code="unauthenticated")

    monkeypatch.setattr(parts.store, "page", refuse)
    assert (await client.get(URL)).status_code == 503


async def test_an_unexpected_fault_shows_no_internals(client, parts, monkeypatch):
    async def fail(*_args, **_more):
        raise KeyError("secret-internals")

    monkeypatch.setattr(parts.store, "page", fail)
    with structlog.testing.capture_logs() as told:
        answer = await client.get(URL)
    assert [(line["event"], line["error"]) for line in told] == [("request_failed", "KeyError")]
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:streamforge:problem:internal")
    assert "secret-internals" not in answer.text


async def test_pages_of_a_list_follow_each_other_without_gap_or_double(client):
    made = [(await submit(client))["queue_id"] for _ in range(7)]
    seen, cursor = [], None
    while True:
        page = (await client.get(URL, params={"limit": 3} | ({"cursor": cursor} if cursor else {}))).json()
        WorkflowList.model_validate(page)
        seen += [row["queue_id"] for row in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(made)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"symbol": "BTCUSDT"}, 1),
        ({"symbol": "X"}, 0),
        ({"state": "pending"}, 1),
        ({"state": "failed"}, 0),
        ({"target": "store"}, 1),
        ({"type": "api_candles_1m"}, 1),
        ({"since": "2000-01-01T00:00:00Z"}, 1),
        ({"until": "2000-01-01"}, 0),
        ({"q": "BTCusdt"}, 1),
    ],
)
async def test_a_list_is_filtered(client, wanted, count):
    await submit(client)
    assert len((await client.get(URL, params=wanted)).json()["items"]) == count


@pytest.mark.parametrize(
    "wanted", [{"limit": 0}, {"limit": 501}, {"cursor": "nonsense"}, {"state": "gone"}, {"since": "x"}, {"stat": "x"}]
)
async def test_a_wrong_query_names_its_parameter(client, wanted):
    answer = await client.get(URL, params=wanted)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/query/{next(iter(wanted))}"


async def test_an_unknown_workflow_is_404_everywhere(client):
    calls = [("GET", ""), ("GET", "/events"), ("GET", "/logs"), ("GET", "/dead-letters"), ("DELETE", "")]
    calls += [("POST", f"/{verb}") for verb in ("stop", "retry", "ping", "dead-letters/redrive")]
    for method, path in calls:
        answer = await client.request(method, f"{URL}/wf-nobody{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:streamforge:problem:not-found"), path


async def test_a_stop_is_recorded_once_and_told(client, parts):
    queue_id = (await submit(client))["queue_id"]
    for _ in range(2):
        answer = await client.post(f"{URL}/{queue_id}/stop", params={"drain": "true"})
        assert (answer.status_code, answer.json()["state"]) == (202, "stopping")
    document = await parts.store.get(queue_id)
    assert document.spec.stop.drain
    assert len(document.outbox) == 2
    assert parts.controller.told[-1] == queue_id


async def test_what_the_state_does_not_allow_is_a_conflict(client, parts):
    queue_id = (await submit(client))["queue_id"]
    assert (await client.delete(f"{URL}/{queue_id}")).status_code == 409
    assert (await client.post(f"{URL}/{queue_id}/retry")).status_code == 409
    await end(parts, queue_id)
    assert (await client.post(f"{URL}/{queue_id}/stop")).status_code == 409
    assert (await client.post(f"{URL}/{queue_id}/ping")).status_code == 409
    answer = await client.post(f"{URL}/{queue_id}/retry")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:streamforge:problem:conflict")


async def test_a_retry_is_a_new_attempt(client, parts):
    queue_id = (await submit(client))["queue_id"]
    await end(parts, queue_id, "interrupted")
    answer = await client.post(f"{URL}/{queue_id}/retry")
    assert (answer.status_code, answer.json()["attempt"], answer.json()["state"]) == (202, 2, "pending")


@pytest.mark.usefixtures("own_installed")
async def test_a_retry_with_refresh_takes_the_targets_as_they_are_now(client, parts, tmp_path):
    queue_id = (await submit(client))["queue_id"]
    await end(parts, queue_id, "failed")
    manifest = tmp_path / "targets" / "store" / "target.yaml"
    manifest.write_text(manifest.read_text().replace("version: 0.3.0", "version: 0.3.1-next"))
    parts.targets._checked = float("-inf")
    answer = await client.post(f"{URL}/{queue_id}/retry", params={"refresh": "true"})
    assert [step["version"] for step in answer.json()["steps"]] == ["0.1.0", "0.3.1-next"]


@pytest.mark.usefixtures("own_installed")
async def test_a_refresh_may_not_change_the_streams(client, parts, tmp_path):
    queue_id = (await submit(client))["queue_id"]
    await end(parts, queue_id, "failed")
    manifest = tmp_path / "targets" / "store" / "target.yaml"
    manifest.write_text(manifest.read_text().replace("{default: 1, max: 64}", "{default: 2, max: 64}"))
    parts.targets._checked = float("-inf")
    answer = await client.post(f"{URL}/{queue_id}/retry", params={"refresh": "true"})
    assert answer.status_code == 409
    assert (await parts.store.get(queue_id)).status.attempt == 1


async def test_a_delete_is_recorded(client, parts):
    queue_id = (await submit(client))["queue_id"]
    await end(parts, queue_id)
    assert (await client.delete(f"{URL}/{queue_id}", params={"purge": "true"})).status_code == 202
    assert (await parts.store.get(queue_id)).spec.delete.purge
