"""Events on ``queue-events``: what workers say, and what the queue-manager decided (contract, section 5)."""

import time
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, computed_field
from ulid import ULID

from streamforge_utils import codec
from streamforge_utils.errors import PermanentError, shown


class EventName(StrEnum):
    """What happened to a worker."""

    STARTED = "started"
    LOADING = "loading"
    PONG = "pong"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"
    ERROR = "error"
    HEARTBEAT = "heartbeat"


STATUS = {
    EventName.STARTED: "started",
    EventName.LOADING: "loading",
    EventName.PONG: "loading",
    EventName.HEARTBEAT: "loading",
    EventName.INTERRUPTED: "interrupted",
    EventName.FINISHED: "finished",
    EventName.ERROR: "error",
}
"""The ``status`` that follows from an event: the one place that says so."""

LAST_WORDS = frozenset({EventName.FINISHED, EventName.INTERRUPTED})
"""Events after which a process ends."""

PROGRESS = frozenset({EventName.LOADING, EventName.HEARTBEAT})
"""Events that are folded into the workflow and not kept as history; they may be lost while Kafka is away."""


LARGEST = 2**53 - 1
"""The largest whole number that every JSON reader has exactly (RFC 7493, 2.2)."""
Count = Annotated[int, Field(ge=0, le=LARGEST)]


class Counters(BaseModel):
    """Input records of an ordinal since its workflow began: ``read = stored + dead_lettered + sum(dropped)``."""

    model_config = ConfigDict(extra="ignore")

    read: Count = 0
    stored: Count = 0
    dead_lettered: Count = 0
    dropped: dict[str, Count] = Field(default_factory=dict)
    written: Count = Field(default=0, description="Records written to streams, counted apart.")


class Event(BaseModel):
    """What a worker says. ``(producer, run, seq)`` identifies it; ``timestamp`` is in seconds since the epoch."""

    model_config = ConfigDict(extra="ignore")

    queue_id: str
    producer: str
    target: str
    step: str
    launch: int = Field(default=1, ge=1, le=LARGEST)
    ordinal: int = Field(default=0, ge=0, le=LARGEST)
    run: str
    seq: int = Field(ge=0, le=LARGEST)
    symbol: str = ""
    type: str = ""
    event: EventName
    message: str = ""
    records_written: Count = 0
    installation: str | None = None
    timestamp: float = Field(default_factory=time.time)
    ping_ts: float | None = Field(default=None, description="A pong's: when the ping was sent.")
    ponged_at: float | None = Field(default=None, description="A pong's: when it was answered.")
    payload: dict[str, Any] = Field(default_factory=dict)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def status(self) -> str:
        """The status that follows from the event."""
        return STATUS[self.event]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def finished(self) -> bool:
        """Whether the work is done."""
        return self.event is EventName.FINISHED

    @property
    def counters(self) -> Counters | None:
        """The totals that the event carries, None when it carries none."""
        counters = self.payload.get("counters")
        return None if counters is None else Counters.model_validate(counters)

    def to_json(self) -> bytes:
        """The message's value."""
        return self.model_dump_json(exclude_none=self.event is not EventName.PONG).encode()


class DecisionName(StrEnum):
    """What the queue-manager decided about a workflow."""

    ACCEPTED = "accepted"
    LAUNCHED = "launched"
    ASKED = "asked"
    ENDED = "ended"
    DELETED = "deleted"


class Decision(BaseModel):
    """A decision, published from the document's outbox; a ``decision_id`` counts once."""

    model_config = ConfigDict(extra="ignore")

    queue_id: str
    decision: DecisionName
    decision_id: str = Field(default_factory=lambda: str(ULID()))
    producer: Literal["queue-manager"] = "queue-manager"
    installation: str | None = None
    message: str = ""
    timestamp: float = Field(default_factory=time.time)
    payload: dict[str, Any] = Field(default_factory=dict)

    def to_json(self) -> bytes:
        """The message's value."""
        return self.model_dump_json().encode()


def _kind(value: Any) -> str:
    fields = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return "decision" if "decision" in fields else "event"


_MESSAGE: TypeAdapter[Event | Decision] = TypeAdapter(
    Annotated[Annotated[Event, Tag("event")] | Annotated[Decision, Tag("decision")], Discriminator(_kind)]
)


def from_json(value: bytes | None) -> Event | Decision:
    """Read a message of ``queue-events``; unknown fields are ignored.

    Raises:
        PermanentError: neither an event nor a decision (code ``wrong-schema``).
    """
    try:
        # the decoder of everything else: what it does not read (NaN, 1e999) could not be kept as history either
        return _MESSAGE.validate_python(codec.loads(value or b""))
    except ValueError as error:
        raise PermanentError(f"neither an event nor a decision: {shown(error)}", code="wrong-schema") from error
