"""Topics, offsets and groups: what is asked of Kafka beside records."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import BrokerResponseError, LeaderNotAvailableError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy

from streamforge_utils.errors import ConfigurationError, TransientError
from streamforge_utils.kafka.connection import client_options, start_client, stop_client, translate_errors
from streamforge_utils.settings import KafkaSettings

REQUEST_TIMEOUT_MS = 10_000
RETRY_S = 0.1
"""Between two looks for a partition that was just made, or whose leader moves."""

_OK = 0
_TOPIC_EXISTS = 36
_UNKNOWN_TOPIC = 3
_UNKNOWN_GROUP = 69
_NO_LEADER = -1
_NO_REPLICA = -1
_READ_UNCOMMITTED = 0
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


class _NoTopics(set[str]):
    """Which topics a client keeps in view: none, where aiokafka takes an empty set for all that there are.

    Of a broker with thousands they would be read again every five minutes, and kept.
    """

    def __bool__(self) -> bool:
        return True


class _AdminClient(AIOKafkaAdminClient):  # type: ignore[misc]
    """aiokafka's, with the deletion of groups and the ends of partitions that it lacks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._client._topics = _NoTopics()  # noqa: SLF001

    async def delete_group(self, group: str) -> int:
        coordinator = await self.find_coordinator(group)
        response = await self._send_request(DeleteGroupsRequest([group]), coordinator)
        return int(response.results[0][1])

    async def describe_topics(self, topics: Sequence[str]) -> list[dict[str, Any]]:
        """As aiokafka's, which makes a topic that is not there where the broker allows it."""
        response = await self._send_request(MetadataRequest(list(topics), allow_auto_topic_creation=False))
        described: list[dict[str, Any]] = response.to_object()["topics"]
        return described

    async def end_offsets(self, wanted: Collection[Partition]) -> dict[Partition, int]:
        """Raises BrokerResponseError for the first partition that cannot be told (now)."""
        asked: dict[int, dict[str, list[tuple[int, int]]]] = {}
        for (topic, number), leader in (await self._leaders(wanted)).items():
            asked.setdefault(leader, {}).setdefault(topic, []).append((number, OffsetResetStrategy.LATEST))
        ends: dict[Partition, int] = {}
        for leader, topics in asked.items():
            request = OffsetRequest(_NO_REPLICA, _READ_UNCOMMITTED, list(topics.items()))
            for topic, partitions in (await self._send_request(request, leader)).topics:
                for number, code, _, offset in partitions:
                    if code != _OK:
                        raise for_code(code)(f"{topic} {number}")
                    ends[topic, number] = offset
        return ends

    async def _leaders(self, wanted: Collection[Partition]) -> dict[Partition, int]:
        known: dict[Partition, int] = {}
        for found in await self.describe_topics(sorted({topic for topic, _ in wanted})):
            if found["error_code"] != _OK:
                raise for_code(found["error_code"])(found["topic"])
            known |= {(found["topic"], p["partition"]): p["leader"] for p in found["partitions"]}
        for topic, number in wanted:
            if (leader := known.get((topic, number))) is None:
                raise UnknownTopicOrPartitionError(f"{topic} {number}")
            if leader == _NO_LEADER:
                raise LeaderNotAvailableError(f"{topic} {number}")
        return {partition: known[partition] for partition in wanted}


class KafkaAdmin:
    """One connection for all of it; every call may raise NotConnected, and connects again when called again."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: _AdminClient | None = None
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
            described = await (await self._admin()).describe_topics(wanted)
        return {t["topic"]: len(t["partitions"]) for t in described if t["error_code"] == _OK}

    async def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where each partition ends, records of open transactions included (uncommitted).

        Raises:
            TransientError: a partition is not there, or has no leader, after ten seconds of looking again.
            ConfigurationError: the user may not describe the topic.
        """
        wanted = dict.fromkeys(partitions)
        if not wanted:
            return {}
        until = time.monotonic() + REQUEST_TIMEOUT_MS / 1000
        with translate_errors("reading end offsets"):
            while True:
                try:
                    return await (await self._admin()).end_offsets(wanted)
                except BrokerResponseError as error:
                    if not error.retriable or time.monotonic() > until:
                        raise
                await asyncio.sleep(RETRY_S)

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
        if client is not None:
            await stop_client(client)


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
