"""The server itself: version and role, databases, the one user, and `/_local`, which no real server has."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from arango_local.api.messages import NAME, Request, Response, Route, answer, result
from arango_local.catalog import SYSTEM
from arango_local.engine import Engine
from arango_local.errors import (
    BAD_PARAMETER,
    DATABASE_NAME_INVALID,
    USE_SYSTEM_DATABASE,
    USER_NOT_FOUND,
    ArangoError,
    unsupported,
)

VERSION: Final = "3.12.4"
_MAX_PAGES: Final = 1_073_741_823


def version(_engine: Engine, request: Request) -> Response:
    """Answers the version whose API this is."""
    content: dict[str, Any] = {"server": "arango", "license": "community", "version": VERSION}
    if request.flag("details"):
        content["details"] = {"server-version": VERSION, "mode": "server", "emulator": "arango-local"}
    return answer(200, content)


def engine_name(_engine: Engine, _request: Request) -> Response:
    """Answers the storage engine that clients expect."""
    return answer(200, {"name": "rocksdb", "supports": {"indexes": ["primary", "edge", "persistent", "ttl"]}})


def role(_engine: Engine, _request: Request) -> Response:
    """Answers that this is a single server."""
    return answer(200, {"error": False, "code": 200, "role": "SINGLE", "mode": "default"})


def status(_engine: Engine, _request: Request) -> Response:
    """Answers what the server is."""
    info = {"maintenance": False, "role": "SINGLE", "writeOpsEnabled": True, "readOnly": False}
    content = {
        "server": "arango",
        "license": "community",
        "version": VERSION,
        "mode": "server",
        "operationMode": "server",
    }
    return answer(200, content | {"foxxApi": False, "host": "", "pid": os.getpid(), "serverInfo": info})


def now(_engine: Engine, _request: Request) -> Response:
    """Answers the time in seconds."""
    return answer(200, {"error": False, "code": 200, "time": time.time()})


def current_database(engine: Engine, request: Request) -> Response:
    """Answers what the database is."""
    number, name = engine.catalog.databases[request.database], request.database
    return result({"id": str(number), "name": name, "path": "", "isSystem": name == SYSTEM})


def list_databases(engine: Engine, request: Request) -> Response:
    """Lists all databases."""
    _only_in_system(request)
    return result(sorted(engine.catalog.databases))


def list_own_databases(engine: Engine, _request: Request) -> Response:
    """Lists the databases that the user may use: all."""
    return result(sorted(engine.catalog.databases))


def create_database(engine: Engine, request: Request) -> Response:
    """Makes a database."""
    _only_in_system(request)
    body = request.object()
    name = body.get("name")
    if not isinstance(name, str):
        raise ArangoError(400, DATABASE_NAME_INVALID, "database name invalid: a database needs a 'name'")
    if any(each.get("username") != request.user for each in body.get("users") or ()):
        raise unsupported("a second user")
    engine.catalog.create_database(name)
    return result(True, 201)


def drop_database(engine: Engine, request: Request, name: str) -> Response:
    """Removes a database."""
    _only_in_system(request)
    engine.catalog.drop_database(name)
    return result(True)


def _only_in_system(request: Request) -> None:
    if request.database != SYSTEM:
        raise ArangoError(403, USE_SYSTEM_DATABASE, "operation only allowed in system database")


def list_users(engine: Engine, _request: Request) -> Response:
    """Lists the one user."""
    return result([{"user": engine.accounts.user, "active": True, "extra": {}}])


def show_user(engine: Engine, _request: Request, user: str) -> Response:
    """Answers the one user."""
    _known(engine, user)
    return answer(200, {"user": user, "active": True, "extra": {}, "error": False, "code": 200})


def list_permissions(engine: Engine, _request: Request, user: str) -> Response:
    """Lists what the user may do: everything."""
    _known(engine, user)
    return result(dict.fromkeys(engine.catalog.databases, "rw"))


def show_permission(engine: Engine, _request: Request, user: str, database: str) -> Response:
    """Answers what the user may do in a database: everything."""
    _known(engine, user)
    engine.catalog.in_database(database)
    return result("rw")


def _known(engine: Engine, user: str) -> None:
    if user != engine.accounts.user:
        raise ArangoError(404, USER_NOT_FOUND, f"user not found: '{user}'")


def show_pages(engine: Engine, _request: Request) -> Response:
    """Answers limit and size of the data file, in pages."""
    return result(engine.storage.pages())


def limit_pages(engine: Engine, request: Request) -> Response:
    """Sets the size at which the "disk" is full: `{"max_pages": n}`; 0 = no limit, 1 = full now."""
    pages = request.object().get("max_pages")
    if type(pages) is not int or not 0 <= pages <= _MAX_PAGES:
        raise ArangoError(400, BAD_PARAMETER, f"'max_pages' must be an integer from 0 to {_MAX_PAGES}")
    engine.storage.limit_pages(pages)
    return show_pages(engine, request)


_USER: Final = f"/_api/user/{NAME}"
ROUTES: Final[list[Route]] = [
    ("GET", "/_api/version", version),
    ("GET", "/_api/engine", engine_name),
    ("GET", "/_admin/server/role", role),
    ("GET", "/_admin/server/availability", role),
    ("GET", "/_admin/server/mode", role),
    ("GET", "/_admin/status", status),
    ("GET", "/_admin/time", now),
    ("GET", "/_api/database/current", current_database),
    ("GET", "/_api/database/user", list_own_databases),
    ("GET", "/_api/database", list_databases),
    ("POST", "/_api/database", create_database),
    ("DELETE", f"/_api/database/{NAME}", drop_database),
    ("GET", "/_api/user", list_users),
    ("GET", _USER, show_user),
    ("GET", f"{_USER}/database", list_permissions),
    ("GET", f"{_USER}/database/{NAME}", show_permission),
    ("GET", "/_local/max_pages", show_pages),
    ("PUT", "/_local/max_pages", limit_pages),
]
