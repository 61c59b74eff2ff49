"""Query parameters of the calls, and the cursors of lists. An unknown parameter is refused, as misspelt."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Header, Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from queue_manager.model import State
from queue_manager.params import Fault
from queue_manager.problems import invalid
from queue_manager.store.interface import MAX_PAGE, Cursor
from streamforge_utils import codec
from streamforge_utils.errors import PermanentError

QueueId = Annotated[str, Path(max_length=63, pattern=r"^[a-z0-9][a-z0-9_-]*$", description="The workflow.")]
HistoryKey = Annotated[str, Field(pattern=r"^[0-9]{1,9}-[0-9]{1,18}$")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="Same key and same body: the same workflow, however often it is sent.",
    ),
]
LastEventId = Annotated[
    str | None, Header(pattern=r"^[0-9]{1,9}-[0-9]{1,18}$", description="Where a stream goes on: the last id seen.")
]


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_in_utc)]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE)]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class NoParameters(_Parameters):
    """A call without any."""


class SubmitParameters(_Parameters):
    """``POST /workflows``."""

    dry_run: bool = False
    """Answer what would be created, and create nothing."""


class ListParameters(_Parameters):
    """``GET /workflows``."""

    state: State | None = None
    target: Annotated[str, Field(max_length=128)] | None = None
    """Workflows with a step of this target."""
    symbol: Annotated[str, Field(max_length=128)] | None = None
    type: Annotated[str, Field(max_length=128)] | None = None
    since: Moment | None = None
    """Created at or after; ISO 8601, UTC unless it says otherwise."""
    until: Moment | None = None
    """Created before."""
    q: Annotated[str, Field(max_length=128)] | None = None
    """Part of the queue_id."""
    limit: Limit = 50
    cursor: Annotated[str, Field(max_length=256)] | None = None
    """``next`` of the page before."""


class HistoryParameters(_Parameters):
    """``GET /workflows/{id}/events``."""

    limit: Limit = 50
    cursor: HistoryKey | None = None
    """``next`` of the page before."""


class LogParameters(_Parameters):
    """``GET /workflows/{id}/logs``."""

    step: Annotated[str, Field(max_length=32)] | None = None
    replica: Annotated[int, Field(ge=0)] | None = None
    launch: Annotated[int, Field(ge=1)] | None = None
    since: Moment | None = None
    """Lines at or after."""
    tail: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """So many last lines of each replica."""
    follow: bool = False
    """Go on with new lines, one JSON object a line, until the workflow has ended."""


class PingParameters(_Parameters):
    """``POST /workflows/{id}/ping``."""

    timeout_s: Annotated[float, Field(gt=0, le=20, allow_inf_nan=False)] = 5.0


class StopParameters(_Parameters):
    """``POST /workflows/{id}/stop``."""

    drain: bool = False
    """Stop the writers, and let the readers read what was written."""


class RetryParameters(_Parameters):
    """``POST /workflows/{id}/retry``."""

    refresh: bool = False
    """Resolve targets and params anew, as they are installed now."""


class DeleteParameters(_Parameters):
    """``DELETE /workflows/{id}``."""

    purge: bool = False
    """Also the stored documents whose last writer it is."""


class DeadLetterParameters(_Parameters):
    """``GET /workflows/{id}/dead-letters``."""

    limit: Limit = 50
    cursor: Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,17})$")] | None = None
    """``next`` of the page before."""


None_ = Annotated[NoParameters, Query()]
_CURSOR: TypeAdapter[Cursor] = TypeAdapter(Cursor)


def write_cursor(cursor: Cursor | None) -> str | None:
    """A list's place as an opaque text."""
    return None if cursor is None else base64.urlsafe_b64encode(codec.encode(list(cursor))).decode().rstrip("=")


def read_cursor(text: str | None) -> Cursor | None:
    """What ``write_cursor`` wrote.

    Raises:
        Problem: it is none of ours.
    """
    if text is None:
        return None
    try:
        value: Any = codec.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return _CURSOR.validate_python(value)
    except (binascii.Error, PermanentError, ValueError):
        raise invalid([Fault("/query/cursor", "is not the `next` of a page of this list")]) from None
