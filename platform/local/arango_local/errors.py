"""The one error that leaves this server: what ArangoDB answers, with its HTTP status and its error number.

Owns the error numbers used here (names and texts as in ArangoDB's `errors.dat`). Must never know about HTTP objects or
SQLite.
"""

from __future__ import annotations

from typing import Any, Final

NOT_IMPLEMENTED: Final = 9
FORBIDDEN: Final = 11
SHUTTING_DOWN: Final = 30
BAD_PARAMETER: Final = 10
HTTP_CORRUPTED_JSON: Final = 600
FILESYSTEM_FULL: Final = 1104
CONFLICT: Final = 1200
DOCUMENT_NOT_FOUND: Final = 1202
COLLECTION_NOT_FOUND: Final = 1203
COLLECTION_PARAMETER_MISSING: Final = 1204
DUPLICATE_NAME: Final = 1207
ILLEGAL_NAME: Final = 1208
UNIQUE_CONSTRAINT_VIOLATED: Final = 1210
INDEX_NOT_FOUND: Final = 1212
DOCUMENT_KEY_BAD: Final = 1221
DOCUMENT_KEY_UNEXPECTED: Final = 1222
DOCUMENT_KEY_MISSING: Final = 1226
DOCUMENT_TYPE_INVALID: Final = 1227
DATABASE_NOT_FOUND: Final = 1228
DATABASE_NAME_INVALID: Final = 1229
USE_SYSTEM_DATABASE: Final = 1230
INVALID_KEY_GENERATOR: Final = 1232
INVALID_EDGE_ATTRIBUTE: Final = 1233
QUERY_KILLED: Final = 1500
QUERY_PARSE: Final = 1501
QUERY_EMPTY: Final = 1502
QUERY_VARIABLE_REDECLARED: Final = 1511
QUERY_FUNCTION_UNKNOWN: Final = 1540
QUERY_ARGUMENT_NUMBER: Final = 1541
QUERY_ARGUMENT_TYPE: Final = 1542
QUERY_BIND_MISSING: Final = 1551
QUERY_BIND_UNDECLARED: Final = 1552
QUERY_BIND_TYPE: Final = 1553
QUERY_DIVISION_BY_ZERO: Final = 1562
QUERY_ARRAY_EXPECTED: Final = 1563
QUERY_FAIL_CALLED: Final = 1569
QUERY_INVALID_AGGREGATE: Final = 1574
QUERY_ACCESS_AFTER_MODIFICATION: Final = 1579
CURSOR_NOT_FOUND: Final = 1600
USER_NOT_FOUND: Final = 1703


class ArangoError(Exception):
    """What a client is told.

    Attributes:
        status: The HTTP status.
        number: ArangoDB's error number (`errorNum`).
        message: The sentence (`errorMessage`).
        extra: Further attributes of the error body, such as `_rev` of a document that another writer changed.
    """

    def __init__(self, status: int, number: int, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.number = number
        self.message = message
        self.extra = extra

    def body(self) -> dict[str, Any]:
        """Returns the error body as ArangoDB sends it."""
        return {
            "error": True,
            "code": self.status,
            "errorNum": self.number,
            "errorMessage": self.message,
            **self.extra,
        }


def unsupported(construct: str) -> ArangoError:
    """Returns the refusal of what a real server can do and this one cannot."""
    return ArangoError(501, NOT_IMPLEMENTED, f"not implemented: {construct} is not supported by arango-local")
