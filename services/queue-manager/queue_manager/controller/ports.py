"""Whom the controller talks to."""

from collections.abc import Callable
from dataclasses import dataclass

from queue_manager.controller.broker import Broker
from queue_manager.controller.launch import Platform
from queue_manager.launcher.interface import Launcher
from queue_manager.store.interface import WorkflowStore


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
