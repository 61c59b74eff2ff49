"""Topics, offsets and groups: what is asked of Kafka beside records."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code
from aiokafka.protocol.admin import DeleteGroupsRequest

from streamforge_utils.errors import ConfigurationError, TransientError
from streamforge_utils.kafka.connection import client_options, start_client, stop_client, translate_errors
from streamforge_utils.settings import KafkaSettings

REQUEST_TIMEOUT_MS = 10_000

_OK = 0
_TOPIC_EXISTS = 36
_UNKNOWN_TOPIC = 3
_UNKNOWN_GROUP = 69
_REFUSED = {29: "not-authorized", 31: "not-authorized", 37: "configuration", 38: "configuration", 40: "configuration"}

Partition = tuple[str, int]
"""Topic and number of a partition."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it shall be made; ``config`` are Kafka's topic settings."""

    name: str
    partitions: int = 1
    replication: int = -1
    """-1: the broker's default."""
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Committed:
    """A group's offset in a partition and what was stored beside it; ``offset`` -1: none."""

    offset: int
    metadata: str


class _AdminClient(AIOKafkaAdminClient):  # type: ignore[misc]
    """aiokafka's, with the deletion of groups that it lacks."""

    async def delete_group(self, group: str) -> int:
        coordinator = await self.find_coordinator(group)
        response = await self._send_request(DeleteGroupsRequest([group]), coordinator)
        return int(response.results[0][1])


class KafkaAdmin:
    """One connection for all of it; every call may raise NotConnected, and connects again when called again."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: _AdminClient | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._opening = asyncio.Lock()

    async def _admin(self) -> _AdminClient:
        async with self._opening:
            if self._client is None:
                client = _AdminClient(**client_options(self._settings), request_timeout_ms=REQUEST_TIMEOUT_MS)
                try:
                    await start_client(client, self._settings)
                except BaseException:
                    await stop_client(client)
                    raise
                self._client = client
            return self._client

    async def _reader(self) -> AIOKafkaConsumer:
        async with self._opening:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    **client_options(self._settings), enable_auto_commit=False, request_timeout_ms=REQUEST_TIMEOUT_MS
                )
                try:
                    await start_client(consumer, self._settings)
                except BaseException:
                    await stop_client(consumer)
                    raise
                self._consumer = consumer
            return self._consumer

    async def create_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Make topics; one that is there already is left as it is.

        Raises:
            ConfigurationError: refused by the broker (rights, settings).
        """
        if not topics:
            return
        new = [_new_topic(topic) for topic in topics]
        with translate_errors(f"creating the topics {', '.join(t.name for t in topics)}"):
            response = await (await self._admin()).create_topics(new, timeout_ms=REQUEST_TIMEOUT_MS)
        for name, code, *_ in response.topic_errors:
            _check(code, f"creating the topic {name}", fine=_TOPIC_EXISTS)

    async def set_retention(self, names: Sequence[str], retention_ms: int) -> None:
        """How long the records of these topics are kept, -1: for ever; a topic that is not there is fine.

        It is the only setting of a workflow's topic: Kafka's request replaces all of them.
        """
        if not names:
            return
        resources = [ConfigResource(ConfigResourceType.TOPIC, n, {"retention.ms": str(retention_ms)}) for n in names]
        with translate_errors(f"setting the retention of {', '.join(names)}"):
            responses = await (await self._admin()).alter_configs(resources)
        for response in responses:
            for code, _, _, name in response.resources:
                _check(code, f"setting the retention of {name}", fine=_UNKNOWN_TOPIC)

    async def delete_topics(self, names: Sequence[str]) -> None:
        """Delete topics; one that is not there is fine."""
        if not names:
            return
        with translate_errors(f"deleting the topics {', '.join(names)}"):
            response = await (await self._admin()).delete_topics(list(names), timeout_ms=REQUEST_TIMEOUT_MS)
        for name, code, *_ in response.topic_error_codes:
            _check(code, f"deleting the topic {name}", fine=_UNKNOWN_TOPIC)

    async def delete_groups(self, groups: Iterable[str]) -> None:
        """Delete the offsets of groups; one that is not there is fine."""
        for group in groups:
            with translate_errors(f"deleting the offsets of {group}"):
                code = await (await self._admin()).delete_group(group)
            _check(code, f"deleting the offsets of {group}", fine=_UNKNOWN_GROUP)

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """How many partitions each topic has; topics that are not there are left out."""
        wanted = list(topics)
        with translate_errors(f"describing the topics {', '.join(wanted)}"):
            described: list[dict[str, Any]] = await (await self._admin()).describe_topics(wanted)
        return {t["topic"]: len(t["partitions"]) for t in described if t["error_code"] == _OK}

    async def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where each partition ends, records of open transactions included (uncommitted)."""
        wanted = [TopicPartition(*partition) for partition in partitions]
        if not wanted:
            return {}
        with translate_errors("reading end offsets"):
            ends: dict[TopicPartition, int] = await (await self._reader()).end_offsets(wanted)
        return {(tp.topic, tp.partition): offset for tp, offset in ends.items()}

    async def committed(self, group: str, partitions: Iterable[Partition]) -> dict[Partition, Committed]:
        """The group's offsets, asked by name.

        Raises:
            TransientError: a partition is missing in the answer (a coordinator that still loads answers so).
        """
        wanted = [TopicPartition(*partition) for partition in partitions]
        if not wanted:
            return {}
        with translate_errors(f"reading the offsets of {group}"):
            found = await (await self._admin()).list_consumer_group_offsets(group, partitions=wanted)
        if missing := [tp for tp in wanted if tp not in found]:
            raise TransientError(f"reading the offsets of {group}: no answer for {missing[0].topic}")
        return {(tp.topic, tp.partition): Committed(o.offset, o.metadata or "") for tp, o in found.items()}

    async def close(self) -> None:
        """Idempotent."""
        client, self._client = self._client, None
        consumer, self._consumer = self._consumer, None
        if client is not None:
            await stop_client(client)
        if consumer is not None:
            await stop_client(consumer)


def _new_topic(topic: TopicSpec) -> NewTopic:
    # aiokafka lets -1 (the broker's default) through only beside an assignment; an empty one is as good as none.
    assignment: dict[int, list[int]] | None = {} if topic.replication == -1 else None
    return NewTopic(topic.name, topic.partitions, topic.replication, assignment, dict(topic.config))


def _check(code: int, what: str, *, fine: int) -> None:
    if code in (_OK, fine):
        return
    name = for_code(code).__name__
    if code in _REFUSED:
        raise ConfigurationError(f"{what}: the broker refused it ({name})", code=_REFUSED[code])
    raise TransientError(f"{what}: {name}")
