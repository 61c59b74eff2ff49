"""Many documents in one request, and which of them were refused."""

from collections.abc import Sequence
from typing import Any, Final

from arango.database import StandardDatabase
from arango.exceptions import DocumentInsertError
from arango.request import Request

from streamforge_utils import codec
from streamforge_utils.arango.failures import meaning
from streamforge_utils.errors import ConfigurationError, PermanentError, TransientError

UPDATE_CARRIED_FIELDS: Final[dict[str, str | int]] = {"overwriteMode": "update", "keepNull": True, "mergeObjects": True}
"""An UPSERT on ``_key`` without AQL: a new key is inserted; of a known one the fields that the document carries are
set and all others stay (a plain candle leaves indicators alone), and a null is a value like any other.
https://docs.arangodb.com/3.12/develop/http-api/documents/#create-multiple-documents
"""


def upsert(
    database: StandardDatabase, collection: str, documents: Sequence[dict[str, Any]]
) -> dict[int, PermanentError]:
    """Insert or update in one request; the refused documents by index, all others are stored.

    Raises:
        TransientError: unknown how many are stored (a lock, a full disk, ...).
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
    parts = answer.body if isinstance(answer.body, list) else []
    refused: dict[int, PermanentError] = {}
    for index, part in enumerate(parts):
        if part.get("error"):
            cause = DocumentInsertError(database.conn.prep_bulk_err_response(answer, part), request)
            refused[index] = _refusal(cause, f"upsert into {collection}")
    return refused


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
