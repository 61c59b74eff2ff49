"""What the controller holds in memory while it leads; all of it can be read again."""

from dataclasses import dataclass, field

from queue_manager.controller.actions import Actions
from queue_manager.controller.documents import Documents
from queue_manager.controller.event_reader import EventReader
from queue_manager.controller.jobs import JobCache
from queue_manager.controller.outbox import Outbox
from queue_manager.controller.work_queue import WorkQueue


@dataclass(slots=True)
class Reign:
    """What lives as long as the lease is held."""

    work: WorkQueue
    jobs: JobCache
    events: EventReader
    outbox: Outbox
    actions: Actions
    documents: Documents = field(default_factory=Documents)
    """Open workflows as they were last stored."""
    placed: set[str] = field(default_factory=set)
    has_waiting: bool = True
    """The store may know workflows that wait for a place."""
    is_loaded: bool = False
    """All open workflows were seen once: places are counted right."""
    failures: dict[str, int] = field(default_factory=dict)
