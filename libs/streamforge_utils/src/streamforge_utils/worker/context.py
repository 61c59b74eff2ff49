"""What a service's ``build`` is given to put its pipeline together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from streamforge_utils.pipeline import Pipeline
from streamforge_utils.settings import WorkerSettings

P = TypeVar("P", bound=BaseModel)


class Report(Protocol):
    """Says something in a ``loading`` event, as "42 candles are missing"; at most one event a second goes out."""

    def __call__(self, message: str, **payload: Any) -> None:
        """``payload`` is JSON; it is merged into the event's."""


@dataclass(frozen=True, slots=True)
class WorkerContext(Generic[P]):
    """The environment of one worker and its ports to the outside."""

    settings: WorkerSettings
    params: P
    """The target's own settings."""
    registry: CollectorRegistry
    report: Report


Build = Callable[[WorkerContext[P]], Pipeline]
"""Puts a service's pipeline together. Connects to nothing: components do that in ``open``."""
