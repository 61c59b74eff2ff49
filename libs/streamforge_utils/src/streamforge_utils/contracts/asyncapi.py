"""The contract's messages as an AsyncAPI 3.0 document, made of the models: ``docs/reference/asyncapi.yaml``.

``python -m streamforge_utils.contracts.asyncapi > docs/reference/asyncapi.yaml`` writes it; a test compares the two.
The view is a worker's: it receives commands and records, it sends events, records and dead letters. No worker imports
this module (it needs PyYAML, workers do not). Format: https://www.asyncapi.com/docs/reference/specification/v3.0.0.
"""

import sys
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from streamforge_utils import codec
from streamforge_utils.contracts import candle, dead_letters, names
from streamforge_utils.contracts.commands import Command, Drain
from streamforge_utils.contracts.events import Counters, Decision, DecisionName, Event, EventName

_QUEUE_ID = "wf-btcusdt-api_candles_1m-20240801-abc123"
_STEP = "arango-candles"
_RUN = "01J4ANXQ7M3N9GZK5T2VWB8C6D"
_SENT_AT = 1722500125.0
_TEXTS = frozenset({"_key", "symbol", "interval"})
_INTEGERS = frozenset({"open_time", "close_time", "trades"})
_SCHEMAS = "#/components/schemas/"
_MESSAGES = "#/components/messages/"
_MODELS: tuple[type[BaseModel], ...] = (Command, Drain, Event, Counters, Decision)

Json = dict[str, Any]


def document() -> Json:
    """The whole document; equal models give an equal document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "StreamForge",
            "version": "1.0.0",
            "description": "What workers and queue-manager say to each other over Kafka, seen from a worker. "
            "Unknown fields are ignored; an unreadable message is counted, logged and skipped. "
            "Names, levels, ends and states: contract.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _servers() -> Json:
    bootstrap = {"description": "KAFKA_BOOTSTRAP_SERVERS: host:port, several separated by commas."}
    plain = {"host": "{bootstrap}", "protocol": "kafka", "variables": {"bootstrap": bootstrap}}
    return {
        "plaintext": {**plain, "description": "KAFKA_USER is unset."},
        "scram": {
            **plain,
            "protocol": "kafka-secure",
            "description": "KAFKA_USER is set: SASL_SSL with SCRAM-SHA-512 and the CA of KAFKA_CA_PATH.",
            "security": [{"type": "scramSha512"}],
        },
    }


def _channels() -> Json:
    prefix = {
        "prefix": {"description": "KAFKA_TOPIC_PREFIX; empty unless installations share a broker.", "default": ""}
    }
    queue = prefix | {"queueId": {"description": "The workflow.", "examples": [_QUEUE_ID]}}
    stream = queue | {"stream": {"description": "Name of the workflow's stream.", "default": "data"}}
    return {
        "queueControl": _channel("{prefix}queue-control", prefix, ("command",), "Commands, keyed by queue_id."),
        "queueEvents": _channel(
            "{prefix}queue-events", prefix, ("event", "decision"), "Events and decisions, keyed by queue_id."
        ),
        "stream": _channel("{prefix}{queueId}-{stream}", stream, ("candle",), "Records between two steps."),
        "deadLetters": _channel(
            "{prefix}{queueId}-dead-letter", queue, ("deadLetter",), "Records that were refused, in one partition."
        ),
    }


def _channel(address: str, parameters: Json, messages: tuple[str, ...], description: str) -> Json:
    return {
        "address": address,
        "description": description,
        "parameters": parameters,
        "messages": {name: {"$ref": _MESSAGES + name} for name in messages},
    }


def _operations() -> Json:
    return {
        "obey": _operation(
            "receive", "queueControl", "command", "All partitions, no group, from the launch's offsets."
        ),
        "tell": _operation("send", "queueEvents", "event", "At most one progress a second; a heartbeat every 10 s."),
        "read": _operation("receive", "stream", "candle", "Assigned partitions, committed records only, no group."),
        "write": _operation("send", "stream", "candle", "In the transaction that commits what they were made of."),
        "refuse": _operation("send", "deadLetters", "deadLetter", "In the same transaction."),
    }


def _operation(action: str, channel: str, message: str, summary: str) -> Json:
    reference = {"$ref": f"#/channels/{channel}"}
    return {
        "action": action,
        "channel": reference,
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _messages() -> Json:
    texts = {"type": "string"}
    ours = (dead_letters.CODE, dead_letters.REASON, dead_letters.STEP, dead_letters.TOPIC)
    numbers = (dead_letters.PARTITION, dead_letters.OFFSET)
    letter_headers: Json = {
        "type": "object",
        "properties": {name: texts for name in ours}
        | {name: {"type": "string", "pattern": "^-?[0-9]+$"} for name in numbers}
        | {dead_letters.POSITION: {"type": "string", "description": "Where it stood in a source of the step's own."}},
        "required": [*ours, *numbers],
    }
    record_headers: Json = {
        "type": "object",
        "properties": {
            "step": {"type": "string", "description": "Who wrote it."},
            "schema": {"type": "string", "const": candle.SCHEMA},
            dead_letters.FOR_STEP: {"type": "string", "description": "Redriven: every other step drops it."},
            dead_letters.ORIGIN: {"type": "string", "description": "Redriven: topic/partition/offset of the original."},
        },
    }
    queue_id = {"type": "string", "description": "queue_id: one workflow's messages keep their order."}
    return {
        "command": _message("Command", queue_id, _command_examples()),
        "event": _message("Event", queue_id, _event_examples()),
        "decision": _message("Decision", queue_id, _decision_examples()),
        "candle": _message("Candle", {"type": "string", "description": "The document's _key."}, [_candle()])
        | {"headers": record_headers},
        "deadLetter": {
            "name": "dead letter",
            "summary": "The original key and bytes; the headers say why it was refused and where it came from. "
            "A record with the header redriven tells instead which offsets were sent back.",
            "contentType": "application/octet-stream",
            "headers": letter_headers,
            "payload": {"description": "The refused record's value, whatever it is."},
        },
    }


def _message(schema: str, key: Json, examples: list[Json]) -> Json:
    return {
        "name": schema.lower(),
        "payload": {"$ref": _SCHEMAS + schema},
        "bindings": {"kafka": {"key": key}},
        "examples": [{"payload": example} for example in examples],
    }


def _schemas() -> Json:
    both: list[tuple[type[BaseModel], Any]] = [(model, "serialization") for model in _MODELS]
    _, written = models_json_schema(both, ref_template=_SCHEMAS + "{model}")
    schemas: Json = dict(written["$defs"])
    for model in _MODELS:
        # What may be left out is what a reader has a default for; computed fields are always written.
        required = [name for name, field in model.model_fields.items() if field.is_required()]
        schemas[model.__name__]["required"] = [*required, *model.model_computed_fields]
    schemas["Candle"] = _candle_schema()
    return {name: schemas[name] for name in sorted(schemas)}


def _candle_schema() -> Json:
    fields: Json = {}
    for name in candle.FIELDS:
        if name in _TEXTS:
            fields[name] = {"type": "string"}
        else:
            fields[name] = {"type": "integer" if name in _INTEGERS else "number", "minimum": 0}
    indicators = {name: {"type": ["number", "null"]} for name in candle.INDICATORS}
    return {
        "title": candle.SCHEMA,
        "description": "Times: milliseconds since the epoch; _key is the open time. Indicators: null while undefined.",
        "type": "object",
        "properties": fields | indicators,
        "required": list(candle.FIELDS),
    }


def _command_examples() -> list[Json]:
    ping = Command(command="ping", queue_id=_QUEUE_ID, command_id=_RUN, sent_at=_SENT_AT)
    ends = {names.stream_topic(_QUEUE_ID): {0: 721, 1: 724}}
    payload = Drain(drain_id=1, launch=1, ends=ends).model_dump(mode="json")
    drain = Command(command="drain", queue_id=_QUEUE_ID, step=_STEP, command_id=_RUN, sent_at=_SENT_AT, payload=payload)
    return [codec.decode(command.to_json()) for command in (ping, drain)]


def _event_examples() -> list[Json]:
    counters = Counters(read=1440, stored=1438, dead_lettered=1, dropped={"duplicate": 1})
    fields: Json = {
        "queue_id": _QUEUE_ID,
        "producer": f"{_STEP}__abc123",
        "target": _STEP,
        "step": _STEP,
        "run": _RUN,
        "symbol": "BTCUSDT",
        "type": "api_candles_1m",
        "records_written": counters.stored,
        "timestamp": _SENT_AT,
    }
    payload = {"counters": counters.model_dump(), "lag": 0}
    finished = Event(**fields, seq=17, event=EventName.FINISHED, message="Finished", payload=payload)
    pong_times = {"ping_ts": _SENT_AT - 0.004, "ponged_at": _SENT_AT}
    pong = Event(
        **fields, seq=16, event=EventName.PONG, message="pong", **pong_times, payload={"command_id": _RUN} | pong_times
    )
    return [codec.decode(event.to_json()) for event in (pong, finished)]


def _decision_examples() -> list[Json]:
    asked = Decision(
        queue_id=_QUEUE_ID,
        decision=DecisionName.ASKED,
        decision_id=_RUN,
        message="stop asked",
        timestamp=_SENT_AT,
        payload={"ask": "stop", "by": "client", "drain": False},
    )
    return [codec.decode(asked.to_json())]


def _candle() -> Json:
    return {
        "_key": "1722470400000",
        "symbol": "BTCUSDT",
        "interval": "1m",
        "open_time": 1722470400000,
        "close_time": 1722470459999,
        "open": 64628.0,
        "high": 64654.8,
        "low": 64600.0,
        "close": 64610.5,
        "volume": 17.25,
        "quote_volume": 1114712.5,
        "taker_buy_volume": 8.5,
        "taker_buy_quote_volume": 549301.0,
        "trades": 1042,
    }


class _Plain(yaml.SafeDumper):
    """Repeats what is used twice: a reader follows no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def text() -> str:
    """The document as YAML."""
    head = "# Made of the wheel's models by `python -m streamforge_utils.contracts.asyncapi`; do not edit by hand.\n"
    return head + yaml.dump(document(), Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    sys.stdout.write(text())
