"""`/_api/index`: secondary indexes, and how the primary and the edge index are shown."""

from __future__ import annotations

from typing import Any, Final

from arango_local.api.messages import NAME, Request, Response, Route, answer
from arango_local.collection import EDGES, Collection
from arango_local.engine import Engine
from arango_local.errors import FORBIDDEN, INDEX_NOT_FOUND, ArangoError
from arango_local.indexes import Index, IndexDefinition


def _shown(collection: Collection, index: Index) -> dict[str, Any]:
    return {"id": f"{collection.name}/{index.number}"} | index.definition.properties()


def _all(collection: Collection) -> list[dict[str, Any]]:
    common = {"selectivityEstimate": 1, "sparse": False}
    shown: list[dict[str, Any]] = [
        {
            "id": f"{collection.name}/0",
            "name": "primary",
            "type": "primary",
            "fields": ["_key"],
            "unique": True,
            **common,
        }
    ]
    if collection.kind == EDGES:
        edge = {
            "id": f"{collection.name}/1",
            "name": "edge",
            "type": "edge",
            "fields": ["_from", "_to"],
            "unique": False,
        }
        shown.append(edge | common)
    return shown + [_shown(collection, index) for index in collection.indexes.values()]


def _find(collection: Collection, wanted: str) -> dict[str, Any]:
    for shown in _all(collection):
        if wanted in (shown["id"].partition("/")[2], shown["name"]):
            return shown
    raise ArangoError(404, INDEX_NOT_FOUND, f"index not found: {collection.name}/{wanted}")


def list_all(engine: Engine, request: Request) -> Response:
    """Lists the indexes of a collection."""
    collection = engine.catalog.collection(request.database, request.query.get("collection", ""))
    shown = _all(collection)
    identifiers = {each["id"]: each for each in shown}
    return answer(200, {"error": False, "code": 200, "indexes": shown, "identifiers": identifiers})


def show(engine: Engine, request: Request, name: str, wanted: str) -> Response:
    """Returns an index by id or name."""
    collection = engine.catalog.collection(request.database, name)
    return answer(200, {**_find(collection, wanted), "error": False, "code": 200})


def create(engine: Engine, request: Request) -> Response:
    """Makes an index unless there is the same."""
    collection = engine.catalog.collection(request.database, request.query.get("collection", ""))
    index, is_new = engine.catalog.create_index(collection, IndexDefinition.parse(request.json()))
    code = 201 if is_new else 200
    return answer(code, _shown(collection, index) | {"isNewlyCreated": is_new, "error": False, "code": code})


def drop(engine: Engine, request: Request, name: str, wanted: str) -> Response:
    """Removes an index."""
    collection = engine.catalog.collection(request.database, name)
    shown = _find(collection, wanted)
    if shown["type"] in ("primary", "edge"):
        raise ArangoError(403, FORBIDDEN, f"forbidden: the {shown['type']} index cannot be dropped")
    engine.catalog.drop_index(collection, int(shown["id"].partition("/")[2]))
    return answer(200, {"id": shown["id"], "error": False, "code": 200})


ROUTES: Final[list[Route]] = [
    ("GET", "/_api/index", list_all),
    ("POST", "/_api/index", create),
    ("GET", f"/_api/index/{NAME}/{NAME}", show),
    ("DELETE", f"/_api/index/{NAME}/{NAME}", drop),
]
