import time

from queue_manager.api.answers import DeadLetterList
from streamforge_utils.contracts.dead_letters import DeadLetter
from streamforge_utils.kafka.dead_letters import Kept

URL = "/api/v1/workflows"
GOOD = {
    "symbol": "BTCUSDT",
    "type": "api_candles_1m",
    "time_range": "2024-08-01:2024-08-02",
    "steps": [{"target": "reader", "params": {"source": "simulated"}}, {"target": "store"}],
}


def kept(offset, *, value=b"{", step="store", position=None):
    letter = DeadLetter(
        step=step,
        code="not-json",
        reason="no",
        topic="t",
        partition=0,
        offset=offset,
        key=b"k",
        value=value,
        position=position,
    )
    return Kept(offset, time.time(), letter, is_redriven=False)


async def submit(client, parts, *letters):
    parts.dead_letters.kept = list(letters)
    queue_id = (await client.post(URL, json=GOOD)).json()["queue_id"]
    return queue_id, f"{URL}/{queue_id}/dead-letters"


async def end(parts, queue_id, state):
    document = await parts.store.get(queue_id)
    document.status.state = state
    await parts.store.update(document)


async def test_dead_letters_are_paged_and_shown_as_they_are(client, parts):
    _, url = await submit(client, parts, kept(0), kept(1, value=b"\xff\x00"), kept(2, value=None))
    page = (await client.get(url, params={"limit": 2})).json()
    DeadLetterList.model_validate(page)
    assert [(item["id"], item["value"], item["encoding"]) for item in page["items"]] == [
        ("0", "{", "utf-8"),
        ("1", "/wA=", "base64"),
    ]
    assert page["next"] == "1"
    rest = (await client.get(url, params={"cursor": "1"})).json()
    assert [item["value"] for item in rest["items"]] == [None]


async def test_all_are_sent_back_once_and_the_controller_is_told(client, parts):
    queue_id, url = await submit(client, parts, kept(0), kept(1), kept(2, position="line 3", step="reader"))
    answer = await client.post(f"{url}/redrive")
    assert (answer.status_code, answer.json()["redriven"]) == (202, {"store": 2})
    assert (await client.post(f"{url}/redrive")).json()["redriven"] == {}
    asked = (await parts.store.get(queue_id)).spec.redrives
    assert [(ask.step, ask.records) for ask in asked] == [("store", 2)]
    assert parts.controller.told[-1] == queue_id


async def test_the_named_ones_are_sent_back(client, parts):
    _, url = await submit(client, parts, kept(0), kept(1))
    answer = (await client.post(f"{url}/redrive", json={"ids": ["1", "9"]})).json()
    assert answer["redriven"] == {"store": 1}
    assert answer["skipped"] == {"9": "no such dead letter"}


async def test_what_was_sent_but_not_asked_for_is_asked_for_by_the_next_call(client, parts):
    queue_id, url = await submit(client, parts, kept(0))
    await parts.dead_letters.redrive(queue_id, "t", None)  # as if the call had been cut off here
    await client.post(f"{url}/redrive")
    assert [ask.records for ask in (await parts.store.get(queue_id)).spec.redrives] == [1]


async def test_a_failed_workflow_is_retried_first(client, parts):
    queue_id, url = await submit(client, parts, kept(0))
    await end(parts, queue_id, "failed")
    assert (await client.post(f"{url}/redrive")).status_code == 409
    assert not parts.dead_letters.kept[0].is_redriven


async def test_an_ended_workflow_begins_again_for_them(client, parts):
    queue_id, url = await submit(client, parts, kept(0))
    await end(parts, queue_id, "finished")
    assert (await client.post(f"{url}/redrive")).status_code == 202
    assert (await parts.store.get(queue_id)).status.attempt == 2


async def test_a_call_that_was_overtaken_is_a_conflict(client, parts):
    _, url = await submit(client, parts, kept(0))
    parts.dead_letters.is_fenced = True
    assert (await client.post(f"{url}/redrive")).status_code == 409


async def test_a_wrong_redrive_names_its_field(client, parts):
    _, url = await submit(client, parts, kept(0))
    for body, pointer in (({"ids": []}, "/ids"), ({"ids": [1]}, "/ids/0"), ({"id": ["1"]}, "/id"), ([], "")):
        answer = await client.post(f"{url}/redrive", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert not parts.dead_letters.kept[0].is_redriven
