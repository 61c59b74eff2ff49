"""Errors as clients see them: RFC 9457 problem details, ``application/problem+json`` (contract, section 8).

Owns the closed list of problem types and the document's form. It never shows internals: what is unexpected is told as
``internal`` and goes to the log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from queue_manager.params import Fault
from streamforge_utils import codec
from streamforge_utils.contracts.reasons import DOCS

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:streamforge:problem:"


@dataclass(frozen=True, slots=True)
class Kind:
    """A problem type: its status and the title that never changes."""

    status: int
    title: str


KINDS: Final[Mapping[str, Kind]] = {
    "malformed": Kind(400, "The request cannot be read"),
    "unauthenticated": Kind(401, "Who is asking is not known"),
    "forbidden": Kind(403, "Who is asking may not do this"),
    "not-found": Kind(404, "There is no such thing"),
    "method-not-allowed": Kind(405, "The resource does not take this method"),
    "conflict": Kind(409, "The state of the workflow does not allow it"),
    "too-large": Kind(413, "The request is too large"),
    "validation": Kind(422, "The request asks for what cannot be"),
    "too-many": Kind(429, "Too much is waiting already"),
    "internal": Kind(500, "A fault of the queue-manager"),
    "unavailable": Kind(503, "Something that this needs does not answer"),
}
"""Type -> what it is; each has a page under ``docs/errors``."""


class Problem(Exception):
    """A request that is answered by a problem document; ``kind`` is a key of ``KINDS``."""

    def __init__(
        self, kind: str, detail: str, faults: Sequence[Fault] = (), *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.faults, self.headers = kind, detail, faults, headers or {}

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.kind].status

    def response(self) -> Response:
        """The problem document."""
        document: dict[str, object] = {
            "type": TYPE_PREFIX + self.kind,
            "title": KINDS[self.kind].title,
            "status": self.status,
            "detail": self.detail,
            "help": f"{DOCS}/{self.kind}.md",
        }
        if self.faults:
            document["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in self.faults]
        return Response(codec.encode(document), self.status, dict(self.headers), MEDIA_TYPE)


def unavailable(detail: str, *, retry_after_s: int = 5) -> Problem:
    """Something is away; the client may try again after ``retry_after_s`` seconds."""
    return Problem("unavailable", detail, headers={"Retry-After": str(retry_after_s)})


def invalid(faults: Sequence[Fault]) -> Problem:
    """All faults of a request at once."""
    count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
    return Problem("validation", f"{count}; nothing was created or changed", faults)
