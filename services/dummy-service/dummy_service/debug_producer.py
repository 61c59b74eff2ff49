"""Sends one command to a workflow, and shows the pongs that answer a ping with their round trips."""

import argparse
import asyncio
import json
import os
import statistics
import sys
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamforge_utils.contracts.commands import Command, CommandName
from streamforge_utils.control import ControlClient, Pong
from streamforge_utils.errors import StreamForgeError
from streamforge_utils.kafka.transport import KafkaClientTransport
from streamforge_utils.observability import logs
from streamforge_utils.settings import KafkaSettings, local_env, read_settings

DRAIN = "drain"
"""Not offered: its ends are the controller's to say."""


class ProducerSettings(BaseSettings):
    """Where the control topics are."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, use_attribute_docstrings=True)

    queue_control_topic: str = "queue-control"
    """Topic of the commands."""
    queue_events_topic: str = "queue-events"
    """Topic of the events."""
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="debug_producer", description=__doc__)
    parser.add_argument("--queue-id", required=True, help="the workflow; * for every one")
    parser.add_argument("--command", required=True, choices=[name for name in get_args(CommandName) if name != DRAIN])
    parser.add_argument("--step", help="only this step of the workflow")
    parser.add_argument("--payload", type=_payload, default={}, help="JSON object that goes with the command")
    parser.add_argument("--expect-pong", action="store_true", help="wait for the answers to a ping")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds to wait for a pong, or for Kafka")
    parser.add_argument("--count", type=_count, default=1, help="how many pings, one after the other")
    parser.add_argument("--json", action="store_true", help="one JSON object per answer instead of a sentence")
    return parser


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count


def _payload(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return value


def _show(pong: Pong, *, as_json: bool) -> None:
    event, milliseconds = pong.event, pong.round_trip_s * 1000
    if as_json:
        found = {"queue_id": event.queue_id, "producer": event.producer, "step": event.step}
        print(json.dumps(found | {"run": event.run, "round_trip_ms": round(milliseconds, 3)}))
    else:
        print(f"pong from {event.producer} in {milliseconds:.1f} ms")


async def _ping(client: ControlClient, flags: argparse.Namespace) -> int:
    trips: list[float] = []
    for number in range(1, flags.count + 1):
        pongs = await client.ping(flags.queue_id, timeout_s=flags.timeout, step=flags.step)
        if not pongs:
            sys.stderr.write(
                f"no pong from {flags.queue_id} within {flags.timeout:g} s (ping {number} of {flags.count}): "
                "it does not run, or it runs on another Kafka\n"
            )
            return 1
        for pong in pongs:
            _show(pong, as_json=flags.json)
        trips += [pong.round_trip_s * 1000 for pong in pongs]
    if len(trips) > 1 and not flags.json:
        print(
            f"{len(trips)} pongs: min {min(trips):.1f}, median {statistics.median(trips):.1f}, max {max(trips):.1f} ms"
        )
    return 0


async def _run(flags: argparse.Namespace) -> int:
    settings = read_settings(ProducerSettings)
    transport = KafkaClientTransport(
        settings.kafka, control_topic=settings.queue_control_topic, events_topic=settings.queue_events_topic
    )
    client = ControlClient(transport)
    try:
        async with asyncio.timeout(flags.timeout):
            await client.open()
        if flags.command == "ping" and flags.expect_pong:
            return await _ping(client, flags)
        await client.send(
            Command(command=flags.command, queue_id=flags.queue_id, step=flags.step, payload=flags.payload)
        )
        if not flags.json:
            print(f"{flags.command} sent to {flags.queue_id}")
    except TimeoutError:
        sys.stderr.write(f"Kafka at {settings.kafka.bootstrap_servers} did not answer within {flags.timeout:g} s\n")
        return 1
    finally:
        await client.close()
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Exits with 1 and a sentence when the command cannot be sent or no pong comes."""
    flags = _flags().parse_args(argv)
    logs.configure(level="CRITICAL")  # what went wrong is said in one sentence of ours
    if "KAFKA_BOOTSTRAP_SERVERS" not in os.environ:
        for name, value in local_env().items():
            os.environ.setdefault(name, value)
    try:
        code = asyncio.run(_run(flags))
    except StreamForgeError as error:
        sys.stderr.write(f"{error.message}\n")
        code = 1
    raise SystemExit(code)
