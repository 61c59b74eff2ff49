"""What an answer of ArangoDB means for the caller: the one place that knows its error numbers.

Numbers: https://docs.arangodb.com/3.12/develop/error-codes-and-meanings/. The driver's error stays the cause.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from arango.exceptions import ArangoError, ArangoServerError

from streamforge_utils.errors import (
    ConfigurationError,
    NotConnected,
    PermanentError,
    StreamForgeError,
    TransientError,
    shown,
)

PRECONDITION_FAILED: Final = 412
UNAVAILABLE: Final = 503
CONFLICT: Final = 1200
DOCUMENT_NOT_FOUND: Final = 1202
COLLECTION_NOT_FOUND: Final = 1203
DUPLICATE_NAME: Final = 1207
UNIQUE_VIOLATED: Final = 1210
DISK_FULL: Final = frozenset({507, 1104})
PASSING: Final = frozenset({408, 429, 500, 502, 504, 18, 1004, CONFLICT, 1500, 1600, 21004}) | DISK_FULL
"""HTTP statuses of a busy server, and: lock timeout, read-only mode, write-write conflict, query killed, cursor lost,
queue too long.
"""
_CONFIGURATION: Final = {
    401: ("unauthenticated", "wrong user or password, or no access to the database"),
    403: ("not-authorized", "grant the right to the user"),
    1228: ("configuration", "create the database or correct ARANGO_DB"),
    COLLECTION_NOT_FOUND: ("configuration", "the collection does not exist, or no longer"),
}

_OVER = re.compile(r"over '([^']*)'")


class Conflict(StreamForgeError):
    """Another document or another writer was first. ``over``: the fields of the unique index, else ``_rev``."""

    code = "conflict"

    def __init__(self, message: str, *, over: str = "_rev") -> None:
        super().__init__(message)
        self.over = over


@contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """Turn the driver's errors into ours; ``doing`` says what was tried on which object ("insert into jobs").

    Raises:
        NotConnected: the server is away.
        TransientError: it may work later (lock, overload, disk full, another 5xx).
        ConfigurationError: ``unauthenticated``, ``not-authorized``, or a database or collection that does not exist.
        Conflict: a unique index or a revision.
        PermanentError: anything else that was refused.
    """
    try:
        yield
    except ArangoServerError as error:
        raise meaning(error, doing) from error
    except ArangoError as error:
        raise PermanentError(f"{doing}: {shown(error)}") from error
    except ConnectionAbortedError as error:
        # The driver's answer to a 503 with error number 503, after its (single) try.
        raise NotConnected(f"{doing}: ArangoDB is not available") from error


def meaning(error: ArangoServerError, doing: str) -> StreamForgeError:
    """Our error for the server's answer (or for one document's part of it)."""
    status, number = error.http_code, error.error_code or error.http_code
    text = f"{doing}: {shown(error.message)}"
    if number == UNIQUE_VIOLATED:
        over = _OVER.search(error.error_message or "")
        return Conflict(text, over=over.group(1) if over else "_key")
    if number == CONFLICT and status == PRECONDITION_FAILED:
        return Conflict(f"{text} (changed by another writer)")
    if {status, number} & PASSING:
        is_full = bool({status, number} & DISK_FULL)
        return TransientError(f"{text} (disk full: free space on the database server)" if is_full else text)
    if configuration := _CONFIGURATION.get(status) or _CONFIGURATION.get(number):
        code, advice = configuration
        return ConfigurationError(f"{text} ({advice})", code=code)
    return NotConnected(text) if status == UNAVAILABLE else PermanentError(text)
