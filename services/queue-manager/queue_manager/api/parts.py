"""What the API stands on, handed in by ``main``; no module of the API makes a client."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Generic, Protocol, TypeVar

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from queue_manager.api.metrics import ApiMetrics
from queue_manager.dead_letters import DeadLetters
from queue_manager.launcher.interface import Launcher
from queue_manager.model import WorkflowDocument
from queue_manager.problems import Problem
from queue_manager.resolve import Resolver
from queue_manager.store.interface import Change, WorkflowStore
from queue_manager.targets import Targets
from queue_manager.templates import Templates
from streamforge_utils.control.client import Pong
from streamforge_utils.errors import NotConnected, TransientError
from streamforge_utils.observability import Health

Answer = TypeVar("Answer")


class Pinger(Protocol):
    """Asks workers whether they are there."""

    async def ping(self, queue_id: str, *, expected: int, timeout_s: float) -> Sequence[Pong]:
        """The answers that came in time.

        Raises:
            TransientError: the ping could not be sent.
        """
        ...


class Controller(Protocol):
    """The controller of this process, told what it would find by itself a moment later."""

    def submitted(self, document: WorkflowDocument) -> None:
        """A workflow was stored just now."""
        ...

    def nudge(self, queue_id: str) -> None:
        """Something was asked of a workflow."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Figures and names of the API. Seconds and bytes."""

    topic_prefix: str = ""
    max_pending: int = 10_000
    max_body: int = 1024 * 1024
    max_streams: int = 200
    """Event and log streams open at once; each asks the store regularly."""
    request_timeout_s: float = 30.0
    """No request takes longer, except streams."""
    poll_s: float = 0.5
    """Pause between two looks of a stream at the store."""
    keep_alive_s: float = 15.0
    """Longest silence of a stream."""


@dataclass(kw_only=True)
class Parts:
    """The collaborators of all calls."""

    store: WorkflowStore
    launcher: Launcher
    pinger: Pinger
    dead_letters: DeadLetters
    targets: Targets
    templates: Templates
    resolver: Resolver
    health: Health
    registry: CollectorRegistry
    controller: Controller
    settings: ApiSettings = field(default_factory=ApiSettings)
    installation: str | None = None
    """Set when the store was reached and prepared; before, every call that needs it is answered 503."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the end: open streams finish."""
    open_streams: int = 0

    def __post_init__(self) -> None:
        """Make what belongs to the API alone."""
        self.metrics = ApiMetrics(self.registry)
        self.backlog = Backlog(self)

    def prepared_store(self) -> WorkflowStore:
        """The store, once it can be used.

        Raises:
            NotConnected: it has not been reached yet.
        """
        if self.installation is None:
            raise NotConnected("the store has not been reached yet", code="store-unreachable")
        return self.store

    async def workflow(self, queue_id: str) -> WorkflowDocument:
        """The workflow of that id.

        Raises:
            Problem: there is none.
        """
        return _there(queue_id, await self.prepared_store().get(queue_id))

    async def change(self, queue_id: str, change: Change) -> WorkflowDocument:
        """Change a workflow, and tell the controller.

        Raises:
            Problem: there is none.
            NotAllowed: its state does not allow it.
        """
        document = _there(queue_id, await self.prepared_store().change(queue_id, change))
        self.controller.nudge(queue_id)
        return document

    async def pause(self, seconds: float) -> bool:
        """Wait; False as soon as the process comes to its end."""
        try:
            async with asyncio.timeout(seconds):
                await self.closing.wait()
        except TimeoutError:
            return True
        return False


def _there(queue_id: str, document: WorkflowDocument | None) -> WorkflowDocument:
    if document is None:
        raise Problem("not-found", f"there is no workflow {queue_id[:80]!r}")
    return document


class Kept(Generic[Answer]):
    """The answer to a costly question: kept for a second, and one caller asks at a time."""

    KEPT_S = 1.0

    def __init__(self, unknown: Answer, ask: Callable[[], Awaitable[Answer]]) -> None:
        self.value = unknown
        self._ask = ask
        self._asked_at = -math.inf
        self._asking = asyncio.Lock()

    @property
    def age_s(self) -> float:
        """Seconds since it was answered; infinite before the first answer."""
        return time.monotonic() - self._asked_at

    @property
    def is_being_asked(self) -> bool:
        """Whether the next answer is on its way."""
        return self._asking.locked()

    async def fresh(self) -> Answer:
        """The answer, a second old at most."""
        async with self._asking:
            if self.age_s >= self.KEPT_S:
                self.value = await self._ask()
                self._asked_at = time.monotonic()
        return self.value


class Backlog:
    """How many workflows are in which state, for the metrics, and whether too many wait for one more to be accepted."""

    ESTIMATED_S = 5.0
    """For so long submits go by the last figure and what was added since; a full backlog asks again each second."""

    def __init__(self, parts: Parts) -> None:
        self._most = parts.settings.max_pending
        self._counts = Kept[Mapping[str, int]]({}, lambda: parts.prepared_store().counts())
        self._pending = Kept(0, lambda: parts.prepared_store().pending(self._most))

    async def counts(self) -> Mapping[str, int]:
        """State -> workflows, at most a second old."""
        return await self._counts.fresh()

    async def check(self) -> None:
        """Refuse when too much is waiting.

        Raises:
            Problem: too many workflows are pending.
        """
        pending, most = self._pending, self._most
        is_due = pending.age_s >= self.ESTIMATED_S and not pending.is_being_asked  # one request asks, the others go on
        if is_due or math.isinf(pending.age_s) or pending.value >= most:
            await pending.fresh()
        if pending.value >= most:
            detail = f"{most} workflows are waiting already (max_pending); try again when some have run"
            raise Problem("too-many", detail, headers={"Retry-After": "10"})

    def added(self) -> None:
        """One more is pending."""
        self._pending.value += 1


async def _parts(request: Request) -> Parts:  # a plain function would be called in a thread, for every request
    found: Parts = request.app.state.parts
    return found


Given = Annotated[Parts, Depends(_parts)]

Away = (TransientError, TimeoutError)
