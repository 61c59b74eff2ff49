"""The AsyncAPI document is what the models say, and its examples are messages that the models read."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from streamforge_utils import codec
from streamforge_utils.contracts import asyncapi, candle
from streamforge_utils.contracts.commands import Command
from streamforge_utils.contracts.events import Decision, Event, from_json

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs/reference/asyncapi.yaml"
DOCUMENT = asyncapi.document()


def examples() -> list[tuple[str, Any]]:
    messages = DOCUMENT["components"]["messages"]
    return [(name, e["payload"]) for name, message in messages.items() for e in message.get("examples", [])]


def validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]})


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(child) for child in value.values()))
    if isinstance(value, list):
        return set().union(*(references(child) for child in value))
    return set()


def test_the_file_is_what_the_models_say():
    assert FILE.read_text() == asyncapi.text(), f"write it again: python -m {asyncapi.__name__} > {FILE.name}"
    assert yaml.safe_load(FILE.read_text()) == DOCUMENT


def test_every_reference_leads_somewhere():
    for reference in references(DOCUMENT):
        place: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


@pytest.mark.parametrize(("message", "payload"), examples())
def test_an_example_is_valid_by_its_schema_and_read_by_its_model(message, payload):
    validator(message.capitalize()).validate(payload)
    if message == "candle":
        assert candle.fault(payload) is None
    elif message == "command":
        assert codec.decode(Command.from_json(codec.encode(payload)).to_json()) == payload
    else:
        read = from_json(codec.encode(payload))
        assert type(read) is {"event": Event, "decision": Decision}[message]
        assert codec.decode(read.to_json()) == payload


@pytest.mark.parametrize("message", ["command", "event", "decision", "candle"])
def test_a_schema_refuses_a_message_without_one_of_its_required_fields(message):
    payload = next(payload for name, payload in examples() if name == message)
    schema = validator(message.capitalize())
    required = DOCUMENT["components"]["schemas"][message.capitalize()]["required"]
    assert required
    for name in required:
        assert not schema.is_valid({field: value for field, value in payload.items() if field != name}), name


def test_payloads_in_examples_are_valid_too():
    payloads = [payload["payload"] for name, payload in examples() if name in ("command", "event")]
    drain = next(payload for payload in payloads if "drain_id" in payload)
    counters = next(payload["counters"] for payload in payloads if "counters" in payload)
    validator("Drain").validate(drain)
    validator("Counters").validate(counters)
    assert counters["read"] == counters["stored"] + counters["dead_lettered"] + sum(counters["dropped"].values())


@pytest.mark.parametrize("wrong", ["x", 1.5, -1, None, True, [], {}])
@pytest.mark.parametrize("field", candle.FIELDS)
def test_the_candle_s_schema_and_the_code_refuse_the_same_types(field, wrong):
    good = next(payload for name, payload in examples() if name == "candle")
    verdict = candle.fault({**good, field: wrong})
    is_type_fault = verdict is not None and verdict[0] == "wrong-schema"
    assert validator("Candle").is_valid({**good, field: wrong}) is not is_type_fault
