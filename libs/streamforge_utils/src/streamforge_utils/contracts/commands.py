"""Commands on ``queue-control`` (contract, section 4)."""

import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from ulid import ULID

from streamforge_utils.errors import PermanentError, shown

ALL_QUEUES = "*"
LEVELS = frozenset({"stop", "drain"})
"""Commands that hold whenever they were sent; all others are edges, obeyed only by a process that already ran."""

CommandName = Literal["ping", "stop", "drain", "simulate-loading", "fail-after"]


class Drain(BaseModel):
    """A drain's payload: the ends up to which a launch reads. ``ends``: topic -> partition -> offset."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    drain_id: int = Field(ge=1)
    launch: int = Field(ge=1)
    ends: dict[str, dict[int, int]]


class Command(BaseModel):
    """One command; ``target`` and ``step`` None mean every one, ``queue_id`` ``*`` all of the installation."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    command: CommandName
    queue_id: str = Field(min_length=1)
    target: str | None = None
    step: str | None = None
    installation: str | None = None
    command_id: str = Field(default_factory=lambda: str(ULID()))
    sent_at: float = Field(default_factory=time.time, description="Seconds since the epoch, by the sender's clock.")
    payload: dict[str, Any] = Field(default_factory=dict)

    def to_json(self) -> bytes:
        """The message's value."""
        return self.model_dump_json().encode()

    @classmethod
    def from_json(cls, value: bytes | None) -> "Command":
        """Read a message's value; unknown fields are ignored.

        Raises:
            PermanentError: not a command (code ``wrong-schema``).
        """
        try:
            return cls.model_validate_json(value or b"")
        except ValueError as error:
            raise PermanentError(f"not a command: {shown(error)}", code="wrong-schema") from error

    def is_for(self, *, queue_id: str, target: str, step: str, installation: str | None = None) -> bool:
        """Whether a worker has to obey it."""
        if self.queue_id == ALL_QUEUES:
            mine = self.installation is None or self.installation == installation
        else:
            mine = self.queue_id == queue_id
        return mine and self.target in (None, target) and self.step in (None, step)
