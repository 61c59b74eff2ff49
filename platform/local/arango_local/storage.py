"""The SQLite file: one writing connection behind a lock, one reading connection per thread, WAL.

`synchronous=NORMAL`: what was acknowledged survives the death of this process (kill -9); only a crash of the operating
system or a power cut can lose the last transactions. Must never know what is stored: tables belong to `catalog`,
`collection` and `indexes`.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from arango_local.errors import CONFLICT, FILESYSTEM_FULL, SHUTTING_DOWN, ArangoError

_PAGE_BYTES: Final = 8192
_WRITER_CACHE_KIB: Final = 65536
_READER_CACHE_KIB: Final = 8192  # one per thread; the file itself is mapped
_MMAP_BYTES: Final = 1 << 30
_CHECKPOINT_BYTES: Final = 400_000_000  # random index pages are then written once per checkpoint, not once per batch
_CHECKPOINT_LOOK_SECONDS: Final = 0.5
_CHECKPOINT: Final = "PRAGMA wal_checkpoint(PASSIVE)"
_BUSY_SECONDS: Final = 10
_NO_LIMIT: Final = 1_073_741_823


class DataDirectoryInUseError(Exception):
    """Another server works on the data directory."""


class Storage:
    """Connections to the database file in a data directory that nobody else has open.

    Raises:
        DataDirectoryInUseError: Another process has it.
        OSError: The directory cannot be made or written.
    """

    def __init__(self, directory: Path, *, max_pages: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._claim = (directory / "lock").open("w")
        try:
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._claim.close()
            raise DataDirectoryInUseError(f"the data directory {directory} is in use by another arango-local") from None
        self._path = directory / "arango.sqlite3"
        self._lock = threading.RLock()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._writer = self._connect(cache_kib=_WRITER_CACHE_KIB)
        if max_pages:
            self.limit_pages(max_pages)
        self._closing = threading.Event()
        connection = self._connect(cache_kib=_READER_CACHE_KIB)
        self._checkpointer = threading.Thread(target=self._keep_log_short, args=(connection,), daemon=True)
        self._checkpointer.start()

    def _connect(self, *, cache_kib: int) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=_BUSY_SECONDS
        )
        for pragma in (
            f"page_size={_PAGE_BYTES}",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"cache_size=-{cache_kib}",
            "temp_store=MEMORY",
            f"mmap_size={_MMAP_BYTES}",
            "wal_autocheckpoint=0",  # `_checkpoint` does it: a commit that does it takes as long as 400 MB take
            "journal_size_limit=0",  # the log's file is as long as the log
        ):
            connection.execute(f"PRAGMA {pragma}")
        self._connections.append(connection)
        return connection

    def _keep_log_short(self, connection: sqlite3.Connection) -> None:
        log = self._path.with_name(f"{self._path.name}-wal")
        while not self._closing.wait(_CHECKPOINT_LOOK_SECONDS):
            if log.exists() and log.stat().st_size > _CHECKPOINT_BYTES:
                self._checkpoint(connection)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """Moves the log into the file beside the writers, and what they add meanwhile while they wait.

        The next writer then begins the log anew, unless somebody still reads from it: then it is tried again.
        """
        with suppress(sqlite3.Error):  # a full disk: the log stays, and is tried again
            for _ in range(2):  # the second one what was added during the first
                connection.execute(_CHECKPOINT).fetchall()
            with self._lock:
                connection.execute(_CHECKPOINT).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Gives this thread's reading connection; all reads inside see one state of the data."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect(cache_kib=_READER_CACHE_KIB)
        connection.execute("BEGIN")
        try:
            with translated_errors():
                yield connection
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keeps all other writers out, for what must change in memory together with the file."""
        with self._lock:
            yield

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Gives the writing connection; all of it is stored when the block ends, nothing when it raises.

        Raises:
            ArangoError: 1104 when the disk is full, 1200 when the file stayed locked.
        """
        with self._lock, translated_errors():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # SQLite has already rolled back by itself after some faults, a full disk among them.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def limit_pages(self, pages: int) -> None:
        """Sets the size in pages at which the "disk" is full; 0 lifts the limit, less than the present size is that."""
        with self._lock:
            self._writer.execute(f"PRAGMA max_page_count={pages or _NO_LIMIT}")

    def pages(self) -> dict[str, int]:
        """Returns the limit, the size and the unused part of the file, in pages, and the bytes of a page."""
        with self._lock:
            return {
                name: self._writer.execute(f"PRAGMA {pragma}").fetchone()[0]
                for name, pragma in (
                    ("max_pages", "max_page_count"),
                    ("pages", "page_count"),
                    ("free_pages", "freelist_count"),
                    ("page_bytes", "page_size"),
                )
            }

    def close(self, *, patience_seconds: float) -> None:
        """Stops reads, waits so long for a write to end, and closes; the next start rolls an unfinished write back."""
        self._closing.set()
        self._checkpointer.join(patience_seconds)
        for connection in self._connections:
            if connection is not self._writer:
                connection.interrupt()
                connection.close()
        if self._lock.acquire(timeout=patience_seconds):
            self._writer.close()
            self._lock.release()
        self._claim.close()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turns what SQLite raises for a full or locked file into what ArangoDB answers."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = error.sqlite_errorcode & 0xFF
        if code == sqlite3.SQLITE_FULL:
            # A real server maps RocksDB's "no space" to 1104, whose HTTP status is 500.
            raise ArangoError(500, FILESYSTEM_FULL, "filesystem full: free some space and write again") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise ArangoError(
                409, CONFLICT, "write-write conflict: timeout waiting for the writer, try again"
            ) from error
        if code == sqlite3.SQLITE_INTERRUPT:
            raise ArangoError(503, SHUTTING_DOWN, "the server is shutting down") from error
        if str(error).startswith("no such table"):
            raise ArangoError(
                409, CONFLICT, "conflict: a collection or index was dropped during the operation"
            ) from error
        raise
