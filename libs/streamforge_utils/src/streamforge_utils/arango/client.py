"""ArangoDB for asyncio: the synchronous driver in a thread pool of its own.

It keeps no data and retries nothing; a caller that gets TransientError or NotConnected may call again. An ``insert``
whose answer was lost may have happened: the second one says Conflict.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from arango.cursor import Cursor
from arango.database import StandardDatabase
from arango.exceptions import (
    CollectionCreateError,
    CollectionPropertiesError,
    DocumentReplaceError,
)
from arango.resolver import SingleHostResolver
from urllib3 import HTTPConnectionPool

from streamforge_utils import codec
from streamforge_utils.arango import aql, bulk, failures
from streamforge_utils.arango.connection import CheckedConnection
from streamforge_utils.arango.failures import Conflict, translate_errors
from streamforge_utils.arango.threads import DaemonThreads
from streamforge_utils.arango.transport import SingleTryTransport
from streamforge_utils.errors import NotConnected, PermanentError, shown
from streamforge_utils.settings import ArangoSettings

Document = dict[str, Any]
CURSOR_TTL_S = 120
REMOVED_PER_REQUEST = 10_000

A = ParamSpec("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Index:
    """A persistent index. Equal definitions are one index, so that asking for it again changes nothing."""

    fields: tuple[str, ...]
    unique: bool = False
    sparse: bool = False

    def definition(self) -> Document:
        """As the server's API takes it."""
        return {"type": "persistent", "fields": list(self.fields), "unique": self.unique, "sparse": self.sparse}


@dataclass(frozen=True, slots=True)
class _Connection:
    session: HTTPConnectionPool
    database: StandardDatabase
    threads: DaemonThreads


class ArangoClient:
    """One database of one ArangoDB. ``threads`` bounds the requests under way, ``timeout_s`` the wait for an answer.

    Every method but ``open`` raises NotConnected before ``open``; what else they raise is told by
    ``failures.translate_errors``.
    """

    def __init__(self, settings: ArangoSettings, *, threads: int = 4, timeout_s: float = 30.0) -> None:
        self._settings = settings
        self._threads = threads
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None

    async def open(self) -> None:
        """Connect and check the login; on an open client it only checks.

        Raises:
            NotConnected: the server does not answer.
            ConfigurationError: ``unauthenticated``, ``not-authorized``, or no such database.
        """
        if self._connection is None:
            self._connection = self._connected()
        settings = self._settings
        await self._run(f"log in as {settings.user} to database {settings.db}", StandardDatabase.properties)

    def _connected(self) -> _Connection:
        settings = self._settings
        transport = SingleTryTransport(timeout_s=self._timeout_s, connections=self._threads)
        url = settings.url.strip("/")
        session = transport.create_session(url)
        # Not the driver's client: its connections take any answer with a status of 2xx for ArangoDB's.
        connection = CheckedConnection(
            hosts=[url],
            host_resolver=SingleHostResolver(host_count=1, max_tries=1),
            sessions=cast(Any, [session]),  # its type is that of another transport
            db_name=settings.db,
            username=settings.user,
            password=settings.password.get_secret_value(),
            http_client=transport,
            serializer=lambda value: codec.encode(value).decode(),
            deserializer=codec.loads,
        )
        return _Connection(session, StandardDatabase(connection), DaemonThreads(self._threads, name="arango"))

    async def close(self) -> None:
        """Let go of connections and threads. Idempotent; a request under way ends by itself and is not waited for."""
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        connection.threads.close()
        connection.session.close()

    async def _run(
        self, doing: str, call: Callable[Concatenate[StandardDatabase, A], R], *args: A.args, **kwargs: A.kwargs
    ) -> R:
        connection = self._connection
        if connection is None:
            raise NotConnected(f"{doing}: the client is not open")

        def translated() -> R:
            with translate_errors(doing):
                return call(connection.database, *args, **kwargs)

        return await asyncio.wrap_future(connection.threads.submit(translated))

    # -- collections ---------------------------------------------------------------------------------------------

    async def ensure_collection(self, name: str, *, indexes: Sequence[Index] = ()) -> None:
        """Make the collection and its indexes unless they are there; others may do the same at the same time."""
        await self._run(f"make collection {name}", _ensure_collection, name, indexes)

    async def has_collection(self, name: str) -> bool:
        """Whether the collection is there."""
        return await self._run(f"look for collection {name}", _has_collection, name)

    async def drop_collection(self, name: str) -> bool:
        """Delete the collection with all its documents; False when there was none."""
        return await self._run(
            f"drop collection {name}",
            lambda database: bool(database.delete_collection(name, ignore_missing=True)),
        )

    async def count(self, collection: str) -> int:
        """How many documents the collection has."""
        return await self._run(
            f"count {collection}", lambda database: cast("int", database.collection(collection).count())
        )

    # -- one document --------------------------------------------------------------------------------------------

    async def get(self, collection: str, key: str) -> Document | None:
        """The document with its ``_key``, ``_id`` and ``_rev``; None when there is none."""
        return await self._run(
            f"get {collection}/{key}",
            lambda database: cast("Document | None", database.collection(collection).get({"_key": key})),
        )

    async def insert(self, collection: str, document: Mapping[str, Any]) -> str:
        """Store a new document; answers its revision.

        Raises:
            Conflict: its key or a unique index is taken; ``over`` names the fields.
        """
        metadata = await self._run(f"insert into {collection}", _insert, collection, dict(document))
        return cast("str", metadata["_rev"])

    async def replace(self, collection: str, document: Mapping[str, Any], *, rev: str) -> str:
        """Compare and set: replace the document of the same ``_key`` if its revision is ``rev``; the new revision.

        Raises:
            Conflict: it has another revision, is gone, or a unique index is taken; ``over`` says which.
        """
        doing = f"replace {collection}/{document['_key']}"
        metadata = await self._run(doing, _replace, collection, {**document, "_rev": rev})
        return cast("str", metadata["_rev"])

    async def delete(self, collection: str, key: str, *, rev: str | None = None) -> bool:
        """Delete a document, if ``rev`` is given only in that revision; False when there was none.

        Raises:
            Conflict: it has another revision.
        """
        handle = {"_key": key} if rev is None else {"_key": key, "_rev": rev}
        return await self._run(
            f"delete {collection}/{key}",
            lambda database: bool(database.collection(collection).delete(handle, ignore_missing=True)),
        )

    # -- many ----------------------------------------------------------------------------------------------------

    async def upsert_many(self, collection: str, documents: Sequence[Document]) -> dict[int, PermanentError]:
        """Insert each document, or update the fields it carries if its ``_key`` is there; one request.

        Answers the refused documents by index; all others are stored. A null is stored as null.

        Raises:
            TransientError: unknown how many are stored; send the same again.
        """
        return await self._run(f"upsert into {collection}", bulk.upsert, collection, documents)

    async def delete_where(self, collection: str, field: str, value: Any) -> int:
        """Delete all documents whose ``field`` equals ``value``, in requests of bounded size; how many there were."""
        bind_vars = {"@collection": collection, "field": field, "value": value, "limit": REMOVED_PER_REQUEST}
        doing = f"remove documents of {collection} by {field}"
        deleted = 0
        while removed := await self._run(doing, _modified, aql.REMOVE_EQUAL, bind_vars):
            deleted += removed
        return deleted

    async def query(
        self, text: str, bind_vars: Mapping[str, Any] | None = None, *, batch_size: int = 1000
    ) -> list[Any]:
        """All rows of an AQL query; for many use ``rows``."""
        return [row async for row in self.rows(text, bind_vars, batch_size=batch_size)]

    async def rows(
        self, text: str, bind_vars: Mapping[str, Any] | None = None, *, batch_size: int = 1000
    ) -> AsyncIterator[Any]:
        """The rows of an AQL query, fetched by ``batch_size``. A pause of two minutes between batches ends it.

        A write is done with the first row, whether or not the others are asked for.
        """
        doing = "query " + shown(" ".join(text.split()))
        cursor = await self._run(doing, _execute, text, bind_vars or {}, batch_size)
        while True:
            while not cursor.empty():
                yield cursor.pop()
            if not cursor.has_more():
                return
            await self._run(doing, lambda _: cursor.fetch())


def _ensure_collection(database: StandardDatabase, name: str, indexes: Sequence[Index]) -> None:
    if not _has_collection(database, name):
        try:
            database.create_collection(name)
        except CollectionCreateError as error:
            if error.error_code != failures.DUPLICATE_NAME:
                raise
    for index in indexes:
        database.collection(name).add_index(index.definition())


def _has_collection(database: StandardDatabase, name: str) -> bool:
    # Not the driver's has_collection: it fetches the list of all.
    try:
        database.collection(name).properties()
    except CollectionPropertiesError as error:
        if error.error_code == failures.COLLECTION_NOT_FOUND:
            return False
        raise
    return True


def _insert(database: StandardDatabase, collection: str, document: Document) -> Document:
    return cast("Document", database.collection(collection).insert(document))


def _replace(database: StandardDatabase, collection: str, document: Document) -> Document:
    try:
        return cast("Document", database.collection(collection).replace(document))
    except DocumentReplaceError as error:
        if error.error_code != failures.DOCUMENT_NOT_FOUND:
            raise
        raise Conflict(f"replace {collection}/{document['_key']}: the document is gone") from error


def _execute(database: StandardDatabase, text: str, bind_vars: Mapping[str, Any], batch_size: int) -> Cursor:
    cursor = database.aql.execute(text, bind_vars=dict(bind_vars), batch_size=batch_size, ttl=cast(Any, CURSOR_TTL_S))
    return cast("Cursor", cursor)


def _modified(database: StandardDatabase, text: str, bind_vars: Mapping[str, Any]) -> int:
    statistics = _execute(database, text, bind_vars, 1).statistics() or {}
    return int(statistics.get("modified", 0))
