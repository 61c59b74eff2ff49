"""What the API asks of a workflow's dead letters; implemented on Kafka by the wheel (``kafka.dead_letters``)."""

from collections.abc import Sequence
from typing import Protocol

from streamforge_utils.kafka.dead_letters import Kept, Redriven


class DeadLetters(Protocol):
    """The dead letters of workflows. All calls may raise TransientError or ConfigurationError."""

    async def read(self, topic: str, *, after: int, limit: int) -> Sequence[Kept]:
        """Dead letters behind the offset ``after`` (-1: from the first), oldest first; none when there is no topic."""
        ...

    async def redrive(self, queue_id: str, topic: str, offsets: Sequence[int] | None) -> Redriven:
        """Send dead letters back to their streams, each once: records and what was done in one transaction.

        Args:
            queue_id: The workflow.
            topic: Its topic of dead letters.
            offsets: Which; None: all that were not sent back yet.

        Raises:
            FencedError: another call took over; nothing of this one was done.
        """
        ...

    async def close(self) -> None:
        """Drop connections."""
        ...
