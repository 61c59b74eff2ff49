"""`/_api/import`: bulk loads of JSON lines, of a JSON array, or of a header line and arrays of values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from arango_local.api.messages import Request, Response, Route, answer
from arango_local.collection import EDGES
from arango_local.engine import Engine
from arango_local.errors import (
    BAD_PARAMETER,
    COLLECTION_PARAMETER_MISSING,
    HTTP_CORRUPTED_JSON,
    UNIQUE_CONSTRAINT_VIOLATED,
    ArangoError,
)
from arango_local.values import dump
from arango_local.writes import Batch, Mode, Outcome, WriteOptions

_MODES: Final[dict[str, Mode]] = {"error": "conflict", "update": "update", "replace": "replace", "ignore": "ignore"}
_SHOWN_CHARACTERS: Final = 255


@dataclass
class _Tally:
    created: int = 0
    updated: int = 0
    ignored: int = 0
    empty: int = 0
    details: list[str] = field(default_factory=list)
    """What is wrong, one sentence per document that was not stored."""


def import_documents(engine: Engine, request: Request) -> Response:
    """Stores documents; `complete` stores all or none."""
    name = request.query.get("collection")
    if not name:
        message = "'collection' is missing, expecting /_api/import?collection=<identifier>"
        raise ArangoError(400, COLLECTION_PARAMETER_MISSING, message)
    collection = engine.catalog.collection(request.database, name)
    mode = _MODES.get(request.query.get("onDuplicate", "error"))
    if mode is None:
        raise ArangoError(400, BAD_PARAMETER, f"invalid onDuplicate '{request.query['onDuplicate']}'")
    tally = _Tally()
    documents = _parsed(request, tally)
    if collection.kind == EDGES:
        _prefix_ends(documents, request)
    complete = request.flag("complete")
    if complete and tally.details:
        raise ArangoError(400, HTTP_CORRUPTED_JSON, tally.details[0])
    with engine.storage.transaction() as connection:
        if request.flag("overwrite"):
            engine.catalog.truncate(connection, collection)
        batch = Batch(collection, connection, engine.clock, WriteOptions(mode=mode))
        if batch.insert_new(documents):
            tally.created = len(documents)
        else:
            _count(tally, batch.write("insert", documents), documents, complete=complete)
            tally.ignored = batch.ignored
            tally.created -= batch.ignored
    content = {"error": False, "created": tally.created, "errors": len(tally.details), "empty": tally.empty}
    content |= {"updated": tally.updated, "ignored": tally.ignored}
    return answer(201, content | ({"details": tally.details} if request.flag("details") else {}))


def _count(tally: _Tally, outcomes: list[Outcome], documents: list[Any], *, complete: bool) -> None:
    for place, (outcome, document) in enumerate(zip(outcomes, documents, strict=True)):
        if isinstance(outcome, ArangoError):
            message = _message(outcome)
            if complete:
                raise ArangoError(outcome.status, outcome.number, message)
            shown = _shown(dump(document))
            tally.details.append(
                f"at position {place}: creating document failed with error '{message}', offending document: {shown}"
            )
        elif "_oldRev" in outcome:
            tally.updated += 1
        else:
            tally.created += 1


def _message(error: ArangoError) -> str:
    return "unique constraint violated" if error.number == UNIQUE_CONSTRAINT_VIOLATED else error.message


def _shown(text: bytes) -> str:
    whole = text.decode()
    return whole if len(whole) <= _SHOWN_CHARACTERS else whole[:_SHOWN_CHARACTERS] + "..."


def _parsed(request: Request, tally: _Tally) -> list[Any]:
    kind = request.query.get("type")
    if kind == "auto":
        kind = "array" if request.body.lstrip()[:1] == b"[" else "documents"
    if kind in ("array", "list"):
        documents = request.json()
        if not isinstance(documents, list):
            raise ArangoError(400, 400, "expecting a JSON array in the request")
        return documents
    if kind not in (None, "documents"):
        raise ArangoError(400, BAD_PARAMETER, f"invalid value for type: '{kind}'")
    lines = _lines(request.body, tally)
    return [line for _, line in lines] if kind == "documents" else _from_table(lines, tally)


def _lines(body: bytes, tally: _Tally) -> list[tuple[int, Any]]:
    lines = []
    for place, text in enumerate(body.removesuffix(b"\n").split(b"\n"), 1):
        if not text.strip():
            tally.empty += 1
            continue
        try:
            lines.append((place, orjson.loads(text)))
        except orjson.JSONDecodeError:
            what = "invalid JSON type (expecting object, probably parse error)"
            tally.details.append(f"at position {place}: {what}, offending context: {_shown(text)}")
    return lines


def _from_table(lines: list[tuple[int, Any]], tally: _Tally) -> list[Any]:
    if not lines or not isinstance(lines[0][1], list):
        raise ArangoError(400, 400, "no JSON array of attribute names found in the first line")
    names = lines[0][1]
    documents = []
    for place, values in lines[1:]:
        if not isinstance(values, list) or len(values) != len(names):
            got = len(values) if isinstance(values, list) else 0
            tally.details.append(f"at position {place}: wrong number of JSON values (got {got}, expected {len(names)})")
            continue
        documents.append({name: value for name, value in zip(names, values, strict=True) if value is not None})
    return documents


def _prefix_ends(documents: list[Any], request: Request) -> None:
    for name, parameter in (("_from", "fromPrefix"), ("_to", "toPrefix")):
        prefix = request.query.get(parameter)
        for document in documents if prefix else ():
            end = document.get(name) if isinstance(document, dict) else None
            if prefix and isinstance(end, str) and "/" not in end:
                document[name] = f"{prefix.rstrip('/')}/{end}"


ROUTES: Final[list[Route]] = [("POST", "/_api/import", import_documents)]
