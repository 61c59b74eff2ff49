"""Many documents in one request, and which of them were refused."""

from collections.abc import Sequence
from typing import Any, Final

from arango.database import StandardDatabase
from arango.exceptions import DocumentInsertError
from arango.request import Request
from arango.response import Response

from streamforge_utils import codec
from streamforge_utils.arango.connection import not_ours
from streamforge_utils.arango.failures import meaning
from streamforge_utils.errors import ConfigurationError, PermanentError, TransientError

UPDATE_CARRIED_FIELDS: Final[dict[str, str | int]] = {"overwriteMode": "update", "keepNull": True, "mergeObjects": True}
"""An UPSERT on ``_key`` without AQL: a new key is inserted; of a known one the fields that the document carries are
set and all others stay (a plain candle leaves indicators alone), and a null is a value like any other.
https://docs.arangodb.com/3.12/develop/http-api/documents/#create-multiple-documents
"""
_STORED: Final = frozenset({201, 202})


def upsert(
    database: StandardDatabase, collection: str, documents: Sequence[dict[str, Any]]
) -> dict[int, PermanentError]:
    """Insert or update in one request; the refused documents by index, all others are stored.

    Raises:
        TransientError: unknown how many are stored (a lock, a full disk, an answer that is not ArangoDB's, ...).
    """
    if not documents:
        return {}
    try:
        # A silent answer costs the server a third less, but does not say which documents were refused. Sending them
        # all again does, and changes nothing.
        faults = _send(database, collection, documents, is_silent=True)
        return _send(database, collection, documents, is_silent=False) if faults else {}
    except PermanentError as error:
        if error.code != "not-encodable":
            raise
        return _upsert_encodable(database, collection, documents)


def _send(
    database: StandardDatabase, collection: str, documents: Sequence[dict[str, Any]], *, is_silent: bool
) -> dict[int, PermanentError]:
    # Not the driver's insert_many: with silent=True it answers True whatever failed.
    request = Request(
        method="post",
        endpoint=f"/_api/document/{collection}",
        params={**UPDATE_CARRIED_FIELDS, "silent": is_silent},
        data=documents,
    )
    answer = database.conn.send_request(request)
    if not answer.is_success:
        raise DocumentInsertError(answer, request)
    refused: dict[int, PermanentError] = {}
    for index, part in enumerate(_results(answer, len(documents), is_silent=is_silent)):
        if part.get("error"):
            cause = DocumentInsertError(database.conn.prep_bulk_err_response(answer, part), request)
            refused[index] = _refusal(cause, f"upsert into {collection}")
    return refused


def _results(answer: Response, count: int, *, is_silent: bool) -> list[dict[str, Any]]:
    """The result of each document; of a silent answer the refusals alone."""
    body = answer.body
    if answer.status_code in _STORED:
        if is_silent and body == {}:
            return []
        if isinstance(body, list) and all(map(_is_result, body)) and (is_silent or len(body) == count):
            return body
    raise not_ours(answer)


def _is_result(part: Any) -> bool:
    return isinstance(part, dict) and (part.get("error") is True or "_key" in part)


def _refusal(cause: DocumentInsertError, doing: str) -> PermanentError:
    fault = meaning(cause, doing)
    if isinstance(fault, TransientError | ConfigurationError):
        raise fault from cause
    refusal = PermanentError(fault.message)
    refusal.__cause__ = cause
    return refusal


def _upsert_encodable(
    database: StandardDatabase, collection: str, documents: Sequence[dict[str, Any]]
) -> dict[int, PermanentError]:
    refused: dict[int, PermanentError] = {}
    encodable: list[int] = []
    for index, document in enumerate(documents):
        try:
            codec.encode(document)
            encodable.append(index)
        except PermanentError as error:
            refused[index] = error
    others = upsert(database, collection, [documents[index] for index in encodable])
    return refused | {encodable[index]: fault for index, fault in others.items()}
