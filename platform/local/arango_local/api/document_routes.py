"""`/_api/document`: single documents and arrays of them."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import orjson

from arango_local.api.messages import NAME, Request, Response, Route
from arango_local.collection import Collection
from arango_local.engine import Engine
from arango_local.errors import BAD_PARAMETER, CONFLICT, DOCUMENT_NOT_FOUND, DOCUMENT_TYPE_INVALID, ArangoError
from arango_local.values import dump
from arango_local.writes import Mode, Operation, Outcome, WriteOptions

_MODES: Final[dict[str, Mode]] = {"conflict": "conflict", "ignore": "ignore", "update": "update", "replace": "replace"}
_NOT_FOUND: Final = b'{"error":true,"errorNum":1202,"errorMessage":"document not found"}'


def insert(engine: Engine, request: Request, name: str) -> Response:
    """Inserts one document or an array of them."""
    collection = engine.catalog.collection(request.database, name)
    body = request.json()
    options = _options(request, check_revs=False)
    if isinstance(body, list):
        return _write_many(engine, request, collection, ("insert", body, options))
    return _write_one(engine, request, collection, ("insert", body, options))


def read(engine: Engine, request: Request, name: str, key: str) -> Response:
    """Returns a document."""
    collection = engine.catalog.collection(request.database, name)
    with engine.storage.snapshot() as connection:
        row = collection.find(connection, key)
    if row is None:
        raise ArangoError(404, DOCUMENT_NOT_FOUND, "document not found")
    tag = {"etag": f'"{row[1]}"'}
    wanted = request.revision("if-match")
    if wanted is not None and wanted != row[1]:
        identity = {"_id": collection.prefix + key, "_key": key, "_rev": row[1]}
        raise ArangoError(412, CONFLICT, "conflict, _rev values do not match", **identity)
    if request.revision("if-none-match") == row[1]:
        return Response(304, b"", tag)
    return Response(200, collection.json(row), tag)


def read_many(engine: Engine, request: Request, name: str) -> Response:
    """Returns the documents of an array of keys, ids or objects; an error object for each that is missing."""
    collection = engine.catalog.collection(request.database, name)
    keys = [_key_of(collection, each) for each in _array(request.json())]
    with engine.storage.snapshot() as connection:
        found = collection.find_many(connection, [key for key in keys if key is not None])
    parts = [collection.json((key, *found[key])) if key in found else _NOT_FOUND for key in keys]
    return Response(200, b"[" + b",".join(parts) + b"]")


def change(operation: Operation) -> Any:
    """Returns the handler of one changed document: key from the path, revision from If-Match or the body."""

    def handler(engine: Engine, request: Request, name: str, key: str) -> Response:
        collection = engine.catalog.collection(request.database, name)
        body = {} if operation == "remove" else request.json()
        if not isinstance(body, dict):
            raise ArangoError(400, DOCUMENT_TYPE_INVALID, "invalid document type: a document must be a JSON object")
        wanted = request.revision("if-match")
        options = _options(request, check_revs=wanted is not None or not request.flag("ignoreRevs", True))
        given = {**body, "_key": key} | ({} if wanted is None else {"_rev": wanted})
        return _write_one(engine, request, collection, (operation, given, options))

    return handler


def change_many(operation: Operation) -> Any:
    """Returns the handler of an array of changed documents."""

    def handler(engine: Engine, request: Request, name: str) -> Response:
        if operation == "replace" and request.flag("onlyget"):
            return read_many(engine, request, name)
        collection = engine.catalog.collection(request.database, name)
        options = _options(request, check_revs=not request.flag("ignoreRevs", True))
        return _write_many(engine, request, collection, (operation, _array(request.json()), options))

    return handler


def _options(request: Request, *, check_revs: bool) -> WriteOptions:
    mode = request.query.get("overwriteMode") or ("replace" if request.flag("overwrite") else "conflict")
    if mode not in _MODES:
        raise ArangoError(400, BAD_PARAMETER, f"invalid overwriteMode '{mode}'")
    return WriteOptions(
        mode=_MODES[mode],
        keep_null=request.flag("keepNull", True),
        merge_objects=request.flag("mergeObjects", True),
        check_revs=check_revs,
        return_new=request.flag("returnNew"),
        return_old=request.flag("returnOld"),
        version_attribute=request.query.get("versionAttribute"),
    )


def _array(body: Any) -> list[Any]:
    if not isinstance(body, list):
        raise ArangoError(400, DOCUMENT_TYPE_INVALID, "invalid document type: an array of documents is expected")
    return body


def _key_of(collection: Collection, given: Any) -> str | None:
    if isinstance(given, dict):
        given = given.get("_key") or given.get("_id")
    return given.removeprefix(collection.prefix) if isinstance(given, str) else None


def _status(request: Request, collection: Collection, operation: Operation) -> int:
    if not request.flag("waitForSync") and not collection.properties["waitForSync"]:
        return 202
    return 200 if operation == "remove" else 201


def _write_one(
    engine: Engine, request: Request, collection: Collection, work: tuple[Operation, Any, WriteOptions]
) -> Response:
    operation, document, options = work
    outcome = engine.write(collection, operation, [document], options)[0]
    if isinstance(outcome, ArangoError):
        raise outcome
    content = {} if request.flag("silent") else outcome
    location = f"/_db/{request.database}/_api/document/{outcome['_id']}"
    status = _status(request, collection, operation)
    return Response(status, dump(content), {"etag": f'"{outcome["_rev"]}"', "location": location})


def _write_many(
    engine: Engine, request: Request, collection: Collection, work: tuple[Operation, list[Any], WriteOptions]
) -> Response:
    operation, documents, options = work
    outcomes = engine.write(collection, operation, documents, options)
    errors = Counter(outcome.number for outcome in outcomes if isinstance(outcome, ArangoError))
    content: Any = [_inline(outcome) for outcome in outcomes]
    if request.flag("silent"):
        content = [each for each in content if "error" in each] or {}
    headers = {"x-arango-error-codes": orjson.dumps({str(number): count for number, count in errors.items()}).decode()}
    return Response(_status(request, collection, operation), dump(content), headers if errors else {})


def _inline(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, ArangoError):
        return {"error": True, "errorNum": outcome.number, "errorMessage": outcome.message}
    return outcome


ROUTES: Final[list[Route]] = [
    ("GET", f"/_api/document/{NAME}/{NAME}", read),
    ("HEAD", f"/_api/document/{NAME}/{NAME}", read),
    ("POST", f"/_api/document/{NAME}", insert),
    ("PATCH", f"/_api/document/{NAME}/{NAME}", change("update")),
    ("PUT", f"/_api/document/{NAME}/{NAME}", change("replace")),
    ("DELETE", f"/_api/document/{NAME}/{NAME}", change("remove")),
    ("PATCH", f"/_api/document/{NAME}", change_many("update")),
    ("PUT", f"/_api/document/{NAME}", change_many("replace")),
    ("DELETE", f"/_api/document/{NAME}", change_many("remove")),
]
