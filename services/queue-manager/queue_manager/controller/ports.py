"""Whom the controller talks to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from queue_manager.controller.broker import Broker
from queue_manager.controller.launch import Platform
from queue_manager.launcher.interface import Launcher
from queue_manager.store.interface import WorkflowStore


class Election(Protocol):
    """Where it is written down who acts. Calls may raise TransientError, ConfigurationError and LauncherError."""

    part: str
    """Whose health it is when it does not answer."""

    async def take(self, owner: str, *, seconds: float) -> int | None:
        """Take or prolong the lease; its epoch, which rises with every owner, or None: another has it."""
        ...

    async def give_back(self, owner: str) -> None:
        """Let another take it at once, if ``owner`` has it."""
        ...


@dataclass(frozen=True, slots=True)
class Counts:
    """What is counted for whoever watches the queue-manager."""

    skipped: Callable[[], object] = lambda: None
    """A message of queue-events was neither event nor decision."""
    orphans: Callable[[int], object] = lambda _: None
    """So many Jobs are there of which no workflow knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Whom the controller talks to."""

    store: WorkflowStore
    broker: Broker
    launcher: Launcher
    platform: Platform
    clock: Callable[[], float]
    """Seconds since the epoch."""
    replication: int = -1
    """Of the workflows' topics; -1: the broker's default."""
    election: Election | None = None
    """Where the controllers' lease is written; None: in the store."""
    counts: Counts = field(default_factory=Counts)
