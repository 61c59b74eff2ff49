"""The two topics that every installation has, with the settings that an operator would give them."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from streamforge_local.failures import StackError
from streamforge_utils.errors import ConfigurationError, TransientError
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.settings import KafkaSettings

_DAY_MS = 86_400_000
_KEPT = {
    "cleanup.policy": "delete",
    "retention.bytes": "-1",
    # Retention is judged by the broker's clock, not by a worker's.
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": "1048588",
    "min.insync.replicas": "1",
    "unclean.leader.election.enable": "false",
}
EVENTS_PARTITIONS = 3
TIMEOUT_S = 15.0


def topics(prefix: str = "") -> list[TopicSpec]:
    """``queue-control``: one partition, a week; ``queue-events``: the history, 30 days, in daily segments."""
    week, month = str(7 * _DAY_MS), str(30 * _DAY_MS)
    control = {"retention.ms": week, "segment.ms": str(_DAY_MS), "segment.bytes": str(64 << 20)}
    events = {"retention.ms": month, "segment.ms": str(_DAY_MS), "segment.bytes": str(256 << 20)}
    return [
        TopicSpec(f"{prefix}queue-control", partitions=1, replication=1, config=_KEPT | control),
        TopicSpec(f"{prefix}queue-events", partitions=EVENTS_PARTITIONS, replication=1, config=_KEPT | events),
    ]


def bootstrap_topics(settings: dict[str, Any]) -> bool:
    """Make the topics; whether the broker answered. Callable with or without a running event loop.

    Raises:
        StackError: the broker refused user, rights or settings.
    """
    # A thread, for the caller may be inside a loop of its own.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-topics") as thread:
        return thread.submit(asyncio.run, _make(KafkaSettings(**settings))).result()


async def _make(settings: KafkaSettings) -> bool:
    admin = KafkaAdmin(settings)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await admin.create_topics(topics(settings.topic_prefix))
    except (TransientError, TimeoutError) as error:
        logging.getLogger(__name__).debug("kafka is not ready: %s", error)
        return False
    except ConfigurationError as error:
        raise StackError(f"kafka: {error}") from error
    finally:
        await admin.close()
    return True
