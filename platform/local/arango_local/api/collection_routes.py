"""`/_api/collection`: what collections there are, and what they are like."""

from __future__ import annotations

from typing import Any, Final

from arango_local.api.messages import NAME, Request, Response, Route, answer, result
from arango_local.collection import DOCUMENTS, Collection
from arango_local.engine import Engine
from arango_local.errors import ILLEGAL_NAME, ArangoError

_LOADED: Final = 3
_SETTABLE: Final = ("waitForSync", "schema", "computedValues", "cacheEnabled")
_CREATABLE: Final = (*_SETTABLE, "isSystem", "keyOptions", "writeConcern")


def _summary(collection: Collection) -> dict[str, Any]:
    return {
        "id": str(collection.number),
        "name": collection.name,
        "isSystem": bool(collection.properties["isSystem"]),
        "status": _LOADED,
        "type": collection.kind,
        "globallyUniqueId": f"h{collection.number:X}/{collection.number}",
    }


def _short(collection: Collection) -> dict[str, Any]:
    return {"error": False, "code": 200, "statusString": "loaded", **_summary(collection)}


def _long(collection: Collection) -> dict[str, Any]:
    key_options = {"lastValue": 0, **collection.properties["keyOptions"]}
    return _short(collection) | collection.properties | {"keyOptions": key_options}


def list_all(engine: Engine, request: Request) -> Response:
    """Lists the collections of a database."""
    found = engine.catalog.in_database(request.database)
    hide = request.flag("excludeSystem")
    shown = [_summary(each) for _, each in sorted(found.items()) if not (hide and each.properties["isSystem"])]
    return result(shown)


def create(engine: Engine, request: Request) -> Response:
    """Makes a collection."""
    body = request.object()
    name = body.get("name")
    if not isinstance(name, str):
        raise ArangoError(400, ILLEGAL_NAME, "illegal name: a collection needs a 'name'")
    properties = {each: body[each] for each in _CREATABLE if body.get(each) is not None}
    kind = body.get("type", DOCUMENTS)
    collection = engine.catalog.create_collection(request.database, name, kind=kind, properties=properties)
    return answer(200, _long(collection))


def drop(engine: Engine, request: Request, name: str) -> Response:
    """Removes a collection."""
    collection = engine.catalog.collection(request.database, name)
    engine.catalog.drop_collection(request.database, collection)
    return answer(200, {"error": False, "code": 200, "id": str(collection.number)})


def show(engine: Engine, request: Request, name: str) -> Response:
    """Returns what a collection is, in short."""
    return answer(200, _short(engine.catalog.collection(request.database, name)))


def show_properties(engine: Engine, request: Request, name: str) -> Response:
    """Returns what a collection is."""
    return answer(200, _long(engine.catalog.collection(request.database, name)))


def change_properties(engine: Engine, request: Request, name: str) -> Response:
    """Changes what may be changed of a collection."""
    collection = engine.catalog.collection(request.database, name)
    body = request.object()
    engine.catalog.change_properties(collection, {each: body[each] for each in _SETTABLE if each in body})
    return answer(200, _long(collection))


def count(engine: Engine, request: Request, name: str) -> Response:
    """Returns the number of documents."""
    collection = engine.catalog.collection(request.database, name)
    return answer(200, _long(collection) | {"count": _count(engine, collection)})


def figures(engine: Engine, request: Request, name: str) -> Response:
    """Returns the number of documents and indexes."""
    collection = engine.catalog.collection(request.database, name)
    shown = {"indexes": {"count": 1 + len(collection.indexes), "size": 0}, "documentsSize": 0}
    shown |= {"cacheInUse": False, "cacheSize": 0, "cacheUsage": 0}
    return answer(200, _long(collection) | {"count": _count(engine, collection), "figures": shown})


def truncate(engine: Engine, request: Request, name: str) -> Response:
    """Removes all documents."""
    collection = engine.catalog.collection(request.database, name)
    with engine.storage.transaction() as connection:
        engine.catalog.truncate(connection, collection)
    return answer(200, _short(collection))


def rename(engine: Engine, request: Request, name: str) -> Response:
    """Renames a collection."""
    collection = engine.catalog.collection(request.database, name)
    engine.catalog.rename_collection(request.database, collection, str(request.object().get("name", "")))
    return answer(200, _short(collection))


def nothing_to_do(engine: Engine, request: Request, name: str, _action: str) -> Response:
    """Answers what only a real server has to do (load, compact, ...)."""
    collection = engine.catalog.collection(request.database, name)
    return answer(200, _short(collection) | {"result": True, "count": _count(engine, collection)})


def _count(engine: Engine, collection: Collection) -> int:
    with engine.storage.snapshot() as connection:
        return collection.count(connection)


_ONE: Final = f"/_api/collection/{NAME}"
ROUTES: Final[list[Route]] = [
    ("GET", "/_api/collection", list_all),
    ("POST", "/_api/collection", create),
    ("GET", _ONE, show),
    ("DELETE", _ONE, drop),
    ("GET", f"{_ONE}/properties", show_properties),
    ("PUT", f"{_ONE}/properties", change_properties),
    ("GET", f"{_ONE}/count", count),
    ("GET", f"{_ONE}/figures", figures),
    ("PUT", f"{_ONE}/truncate", truncate),
    ("PUT", f"{_ONE}/rename", rename),
    ("PUT", f"{_ONE}/(load|unload|compact|recalculateCount|loadIndexesIntoMemory)", nothing_to_do),
]
