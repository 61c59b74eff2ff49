import time

import httpx

from queue_manager import decisions
from queue_manager.api.parts import Kept
from streamforge_utils.contracts.events import Event, EventName
from streamforge_utils.control.client import Pong

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


async def launched(parts, queue_id):
    """As if each step ran in its first launch."""
    from queue_manager.model import Launch

    document = await parts.store.get(queue_id)
    for step in document.spec.steps:
        record = Launch(
            number=1,
            attempt=1,
            job=f"job-{step.name}",
            decision_id=f"d-{step.name}",
            replicas=step.replicas,
            control_offsets={0: 0},
            digest="",
            recorded_at=time.time(),
        )
        document = decisions.launch(document, step.name, record)
    return await parts.store.update(document)


async def test_a_ping_shows_each_replica_and_silence_as_null(client, parts):
    body = GOOD | {"steps": [GOOD["steps"][0], {"target": "store", "replicas": 2}]}
    queue_id = (await submit(client, body))["queue_id"]
    await launched(parts, queue_id)

    def pong(step, ordinal):
        event = Event(
            queue_id=queue_id,
            producer="p",
            target=step,
            step=step,
            ordinal=ordinal,
            run="r",
            seq=1,
            event=EventName.PONG,
        )
        return Pong(event, 0.004)

    parts.pinger.pongs = [pong("reader", 0), pong("store", 1)]
    answer = (await client.post(f"{URL}/{queue_id}/ping", params={"timeout_s": 0.5})).json()
    assert parts.pinger.asked == [(queue_id, 3)]
    assert [step["round_trip_s"] for step in answer["steps"]] == [0.004, None]
    assert [r["round_trip_s"] for r in answer["steps"][1]["replicas"]] == [None, 0.004]


async def test_a_ping_while_kafka_is_away_is_503_and_a_submit_is_not(client, parts):
    parts.pinger.is_away = True
    queue_id = (await submit(client))["queue_id"]
    assert (await client.post(f"{URL}/{queue_id}/ping")).status_code == 200  # nobody runs: nobody is asked
    await launched(parts, queue_id)
    assert (await client.post(f"{URL}/{queue_id}/ping")).status_code == 503


async def test_workers_are_discovered_by_prometheus(client, parts):
    queue_id = (await submit(client))["queue_id"]
    document = await launched(parts, queue_id)
    from queue_manager.model import Ordinal

    document.step("reader").ordinals[0] = Ordinal(launch=1, metrics_port=4711)
    await parts.store.update(document)
    assert (await client.get("/prometheus/targets")).json() == [
        {
            "targets": ["127.0.0.1:4711"],
            "labels": {
                "template": "",
                "target": "reader",
                "step": "reader",
                "ordinal": "0",
                "__meta_streamforge_queue_id": queue_id,
            },
        }
    ]


async def test_metrics_count_and_never_carry_a_queue_id(client, parts, monkeypatch):
    queue_id = (await submit(client, GOOD | {"template": "simple"}))["queue_id"]
    await client.get(f"{URL}/{queue_id}")
    await client.get("/nowhere")
    text = (await client.get("/metrics")).text
    assert 'streamforge_workflows_accepted_total{template="simple"} 1.0' in text
    assert 'streamforge_steps_accepted_total{target="reader"} 1.0' in text
    assert 'streamforge_workflows{state="pending"} 1.0' in text
    assert 'route="/api/v1/workflows/{queue_id}"' in text
    assert queue_id not in text
    parts.store.is_away = True
    monkeypatch.setattr(Kept, "KEPT_S", 0.0)
    assert (await client.get("/metrics")).status_code == 200


async def test_health_says_what_is_missing(client, parts):
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.get("/health/ready")).status_code == 200
    parts.health.set("kafka", ok=False, reason="Kafka does not answer")
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["conditions"]["kafka"]["reason"] == "Kafka does not answer"


async def test_targets_and_templates_are_shown_with_their_schemas(client):
    targets = (await client.get("/api/v1/targets")).json()["items"]
    assert [target["name"] for target in targets] == ["flows", "joiner", "reader", "stage", "store"]
    assert targets[2]["params"]["required"] == ["source"]
    templates = (await client.get("/api/v1/templates")).json()["items"]
    assert [template["name"] for template in templates] == ["enriched", "simple"]
    assert templates[1]["steps"][0]["params_schema"]["required"] == ["source"]


async def test_a_broken_client_does_not_break_the_server(client: httpx.AsyncClient):
    answer = await client.get("/docs")
    assert answer.status_code == 200
