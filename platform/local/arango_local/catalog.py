# ruff: noqa: S608 - table names are made here from numbers; values are bound
"""Which databases, collections and indexes exist; small values that must outlive the process.

The tables are the truth; the dictionaries here mirror them and change only after a commit. Must never hold documents.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import orjson

from arango_local.collection import DOCUMENTS, EDGES, Collection
from arango_local.errors import (
    BAD_PARAMETER,
    COLLECTION_NOT_FOUND,
    DATABASE_NAME_INVALID,
    DATABASE_NOT_FOUND,
    DUPLICATE_NAME,
    FORBIDDEN,
    ILLEGAL_NAME,
    INDEX_NOT_FOUND,
    INVALID_KEY_GENERATOR,
    UNIQUE_CONSTRAINT_VIOLATED,
    ArangoError,
    unsupported,
)
from arango_local.indexes import Index, IndexDefinition
from arango_local.storage import Storage

SYSTEM: Final = "_system"
KEY_GENERATORS: Final = ("traditional", "padded", "uuid")
_SYSTEM_COLLECTIONS: Final = ("_analyzers", "_apps", "_aqlfunctions", "_frontend", "_graphs", "_jobs", "_queues")
_DATABASE_NAME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_\-]{0,63}")
_COLLECTION_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_\-]{0,255}")
_TABLES: Final = (
    "databases(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE)",
    "collections(id INTEGER PRIMARY KEY AUTOINCREMENT, database TEXT, name TEXT, kind INTEGER, properties TEXT, "
    "UNIQUE(database, name))",
    "indexes(id INTEGER PRIMARY KEY AUTOINCREMENT, collection INTEGER, definition TEXT)",
    "settings(name TEXT PRIMARY KEY, value TEXT)",
)
_DEFAULT_PROPERTIES: Final = {
    "waitForSync": False,
    "isSystem": False,
    "schema": None,
    "computedValues": None,
    "cacheEnabled": False,
    "writeConcern": 1,
}


class Catalog:
    """Names and definitions, and the statements that change them.

    Attributes:
        databases: The id of each database.
        collections: The collections of each database by name.
        version: Rises with every change; a compiled query holds for one version.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.databases: dict[str, int] = {}
        self.collections: dict[str, dict[str, Collection]] = {}
        self.version = 0
        with storage.transaction() as connection:
            for table in _TABLES:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {table}")
            self._load(connection)
        if SYSTEM not in self.databases:
            self.create_database(SYSTEM)

    def _load(self, connection: sqlite3.Connection) -> None:
        for number, name in connection.execute("SELECT id, name FROM databases"):
            self.databases[name] = number
            self.collections[name] = {}
        by_number: dict[int, Collection] = {}
        for number, database, name, kind, properties in connection.execute("SELECT * FROM collections"):
            collection = Collection(number, name, kind=kind, properties=orjson.loads(properties))
            self.collections[database][name] = by_number[number] = collection
        for number, owner, definition in connection.execute("SELECT * FROM indexes"):
            fields = orjson.loads(definition)
            parsed = IndexDefinition(**(fields | {"fields": tuple(fields["fields"])}))
            by_number[owner].indexes[number] = Index(number, parsed)

    def setting(self, name: str) -> Any:
        """Returns a stored value; None when there is none."""
        with self._storage.snapshot() as connection:
            row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else orjson.loads(row[0])

    def store_setting(self, name: str, value: Any) -> None:
        """Stores a value under a name."""
        with self._storage.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, orjson.dumps(value).decode()))

    def create_database(self, name: str) -> None:
        """Makes a database and its system collections.

        Raises:
            ArangoError: 1229 for a bad name, 1207 for one in use.
        """
        if name != SYSTEM and not _DATABASE_NAME.fullmatch(name):
            raise ArangoError(400, DATABASE_NAME_INVALID, f"database name invalid: '{name}'")
        with self._storage.exclusive():
            with self._storage.transaction() as connection:
                if name in self.databases:
                    raise ArangoError(409, DUPLICATE_NAME, f"duplicate database name '{name}'")
                number = connection.execute("INSERT INTO databases(name) VALUES (?)", (name,)).lastrowid
                names = (*_SYSTEM_COLLECTIONS, "_users") if name == SYSTEM else _SYSTEM_COLLECTIONS
                properties = _DEFAULT_PROPERTIES | {"isSystem": True, "keyOptions": _key_options(None)}
                made = [_insert_collection(connection, name, each, (DOCUMENTS, properties)) for each in names]
            self.collections[name] = {collection.name: collection for collection in made}
            self.databases[name] = number or 0
            self.version += 1

    def drop_database(self, name: str) -> None:
        """Removes a database with all that is in it.

        Raises:
            ArangoError: 1228 when there is none, 11 for `_system`.
        """
        if name == SYSTEM:
            raise ArangoError(403, FORBIDDEN, "the database _system cannot be dropped")
        with self._storage.exclusive():
            with self._storage.transaction() as connection:
                for collection in self.in_database(name).values():
                    _drop_collection_tables(connection, collection)
                connection.execute("DELETE FROM databases WHERE name = ?", (name,))
            del self.databases[name], self.collections[name]
            self.version += 1

    def in_database(self, database: str) -> dict[str, Collection]:
        """Returns the collections of a database.

        Raises:
            ArangoError: 1228 when there is no such database.
        """
        try:
            return self.collections[database]
        except KeyError:
            raise ArangoError(404, DATABASE_NOT_FOUND, f"database not found: '{database}'") from None

    def collection(self, database: str, name: str) -> Collection:
        """Returns a collection by its name or its id.

        Raises:
            ArangoError: 1203 when there is none.
        """
        collections = self.in_database(database)
        found = collections.get(name)
        if found is None and name.isdecimal():
            found = next((each for each in collections.values() if str(each.number) == name), None)
        if found is None:
            raise ArangoError(404, COLLECTION_NOT_FOUND, f"collection or view not found: {name}")
        return found

    def create_collection(self, database: str, name: str, *, kind: int, properties: dict[str, Any]) -> Collection:
        """Makes a collection.

        Raises:
            ArangoError: 1208 for a bad name, 1207 for one in use, 1232 for an unknown key generator, 9 for schema and
            the like.
        """
        collections = self.in_database(database)
        if not _COLLECTION_NAME.fullmatch(name):
            raise ArangoError(400, ILLEGAL_NAME, f"illegal name: collection '{name}'")
        if kind not in (DOCUMENTS, EDGES):
            raise ArangoError(400, BAD_PARAMETER, f"collection type must be {DOCUMENTS} or {EDGES}, not {kind}")
        wanted = _DEFAULT_PROPERTIES | properties | {"keyOptions": _key_options(properties.get("keyOptions"))}
        refuse_rules(wanted)
        with self._storage.exclusive():
            with self._storage.transaction() as connection:
                if name in collections:
                    raise ArangoError(409, DUPLICATE_NAME, f"duplicate name: collection '{name}'")
                collection = _insert_collection(connection, database, name, (kind, wanted))
            collections[name] = collection
            self.version += 1
            return collection

    def change_properties(self, collection: Collection, changes: dict[str, Any]) -> None:
        """Stores changed properties of a collection."""
        properties = collection.properties | changes
        refuse_rules(properties)
        with self._storage.exclusive():
            with self._storage.transaction() as connection:
                connection.execute(
                    "UPDATE collections SET properties = ? WHERE id = ?",
                    (orjson.dumps(properties).decode(), collection.number),
                )
            collection.properties = properties

    def rename_collection(self, database: str, collection: Collection, name: str) -> None:
        """Gives a collection another name; documents have the new one in their `_id` at once.

        Raises:
            ArangoError: 1208 for a bad name, 1207 for one in use.
        """
        collections = self.in_database(database)
        if name == collection.name:
            return
        if not _COLLECTION_NAME.fullmatch(name):
            raise ArangoError(400, ILLEGAL_NAME, f"illegal name: collection '{name}'")
        with self._storage.exclusive():
            with self._storage.transaction() as connection:
                if name in collections:
                    raise ArangoError(409, DUPLICATE_NAME, f"duplicate name: collection '{name}'")
                connection.execute("UPDATE collections SET name = ? WHERE id = ?", (name, collection.number))
            del collections[collection.name]
            collection.name, collection.prefix = name, name + "/"
            collections[name] = collection
            self.version += 1

    def drop_collection(self, database: str, collection: Collection) -> None:
        """Removes a collection with its documents and indexes."""
        with self._storage.exclusive():
            with self._storage.transaction() as connection:
                _drop_collection_tables(connection, collection)
            self.in_database(database).pop(collection.name, None)
            self.version += 1

    def truncate(self, connection: sqlite3.Connection, collection: Collection) -> None:
        """Removes all documents of a collection, inside the caller's transaction."""
        for table in (collection.table, *(index.table for index in collection.indexes.values())):
            connection.execute(f"DELETE FROM {table}")

    def create_index(self, collection: Collection, definition: IndexDefinition) -> tuple[Index, bool]:
        """Makes an index over the stored documents; returns it and whether it is new.

        Raises:
            ArangoError: 1210 when stored documents violate a unique index, 1207 when another index has the name.
        """
        with self._storage.exclusive():
            with self._storage.transaction() as connection:
                for index in collection.indexes.values():
                    if index.definition.same_as(definition):
                        return index, False
                    if index.definition.name == definition.name:
                        raise ArangoError(
                            409, DUPLICATE_NAME, f"duplicate name: another index is called '{definition.name}'"
                        )
                number = (
                    connection.execute("INSERT INTO indexes(collection) VALUES (?)", (collection.number,)).lastrowid
                    or 0
                )
                named = replace(definition, name=definition.name or f"idx_{1 << 40 | number}")
                index = Index(number, named)
                connection.execute(
                    "UPDATE indexes SET definition = ? WHERE id = ?", (orjson.dumps(vars(named)).decode(), number)
                )
                connection.execute(index.create_statement)
                _fill(connection, collection, index)
            collection.indexes = collection.indexes | {number: index}
            self.version += 1
            return index, True

    def drop_index(self, collection: Collection, number: int) -> None:
        """Removes an index.

        Raises:
            ArangoError: 1212 when the collection has no such index.
        """
        with self._storage.exclusive():
            with self._storage.transaction() as connection:
                if number not in collection.indexes:
                    raise ArangoError(404, INDEX_NOT_FOUND, f"index not found: {collection.name}/{number}")
                connection.execute(f"DROP TABLE {collection.indexes[number].table}")
                connection.execute("DELETE FROM indexes WHERE id = ?", (number,))
            collection.indexes = {key: index for key, index in collection.indexes.items() if key != number}
            self.version += 1


def refuse_rules(properties: dict[str, Any]) -> None:
    """Refuses collection properties that would change what is stored and that are not done here.

    Raises:
        ArangoError: 9, naming the property.
    """
    for name in ("schema", "computedValues"):
        if properties.get(name):
            raise unsupported(f"the collection property '{name}'")


def _key_options(options: dict[str, Any] | None) -> dict[str, Any]:
    if not isinstance(options, dict | None):
        raise ArangoError(400, BAD_PARAMETER, "'keyOptions' must be an object")
    wanted = {"type": "traditional", "allowUserKeys": True} | (options or {})
    if wanted["type"] == "autoincrement":
        raise unsupported("the key generator 'autoincrement'")
    if wanted["type"] not in KEY_GENERATORS:
        raise ArangoError(400, INVALID_KEY_GENERATOR, f"invalid key generator type '{wanted['type']}'")
    return wanted


def _insert_collection(
    connection: sqlite3.Connection, database: str, name: str, definition: tuple[int, dict[str, Any]]
) -> Collection:
    kind, properties = definition
    number = connection.execute(
        "INSERT INTO collections(database, name, kind, properties) VALUES (?, ?, ?, ?)",
        (database, name, kind, orjson.dumps(properties).decode()),
    ).lastrowid
    collection = Collection(number or 0, name, kind=kind, properties=properties)
    connection.execute(collection.create_statement)
    return collection


def _drop_collection_tables(connection: sqlite3.Connection, collection: Collection) -> None:
    for index in collection.indexes.values():
        connection.execute(f"DROP TABLE {index.table}")
    connection.execute(f"DROP TABLE {collection.table}")
    connection.execute("DELETE FROM indexes WHERE collection = ?", (collection.number,))
    connection.execute("DELETE FROM collections WHERE id = ?", (collection.number,))


def _fill(connection: sqlite3.Connection, collection: Collection, index: Index) -> None:
    key_of: Callable[[str, dict[str, Any]], bytes | None] = index.key
    rows = connection.execute(f"SELECT key, doc FROM {collection.table}")
    entries = ((entry, key) for key, doc in rows if (entry := key_of(key, orjson.loads(doc))) is not None)
    try:
        connection.executemany(f"INSERT INTO {index.table}(k, key) VALUES (?, ?)", entries)
    except sqlite3.IntegrityError as error:
        fields = ", ".join(index.definition.fields)
        raise ArangoError(
            409,
            UNIQUE_CONSTRAINT_VIOLATED,
            f"unique constraint violated - stored documents of '{collection.name}' have equal values of '{fields}'",
        ) from error
