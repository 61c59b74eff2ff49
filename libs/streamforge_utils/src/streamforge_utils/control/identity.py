"""Who a worker is, on both topics: what its events carry and by what commands find it."""

from dataclasses import dataclass
from typing import Self

from streamforge_utils.contracts import names
from streamforge_utils.contracts.commands import Command
from streamforge_utils.settings import WorkerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The fields that all events of a worker share."""

    queue_id: str
    producer: str
    target: str
    step: str
    launch: int = 1
    ordinal: int = 0
    symbol: str = ""
    type: str = ""
    installation: str | None = None

    @classmethod
    def of(cls, settings: WorkerSettings, target: str) -> Self:
        """Who the worker of ``target`` with this environment is."""
        step = settings.step or target
        short = names.short_of(settings.queue_id)
        return cls(
            queue_id=settings.queue_id,
            producer=settings.telemetry_producer_id or names.producer(step, short, settings.ordinal, settings.replicas),
            target=target,
            step=step,
            launch=settings.launch,
            ordinal=settings.ordinal,
            symbol=settings.symbol,
            type=str(settings.type or ""),
            installation=settings.installation or None,
        )

    def is_meant(self, command: Command) -> bool:
        """Whether this worker has to obey the command."""
        return command.is_for(
            queue_id=self.queue_id, target=self.target, step=self.step, installation=self.installation
        )
