"""The file and its log."""

import time
from pathlib import Path

import pytest

from arango_local import storage
from arango_local.storage import Storage

LIMIT = 200_000
ROWS = 300


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(storage, "_CHECKPOINT_BYTES", LIMIT)
    monkeypatch.setattr(storage, "_CHECKPOINT_LOOK_SECONDS", 0.01)
    made = Storage(tmp_path / "data")
    with made.transaction() as connection:
        connection.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, v BLOB)")
    return made


def write(stored: Storage, first: int, count: int) -> None:
    for n in range(first, first + count):
        with stored.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (?, ?)", (n, bytes(4000)))


def test_a_long_log_goes_into_the_file_as_soon_as_nobody_reads_from_it(stored: Storage, tmp_path: Path) -> None:
    log = tmp_path / "data" / "arango.sqlite3-wal"
    with stored.snapshot() as reader:
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
        write(stored, 0, ROWS)
        assert log.stat().st_size > LIMIT
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
    written, deadline = ROWS, time.monotonic() + 10
    while log.stat().st_size > LIMIT:
        assert time.monotonic() < deadline, log.stat().st_size
        time.sleep(0.05)
        write(stored, written, 1)  # the log begins anew with a write
        written += 1
    stored.close(patience_seconds=1)
    again = Storage(tmp_path / "data")
    with again.snapshot() as reader:
        assert reader.execute("SELECT count(*), sum(length(v)) FROM t").fetchone() == (written, 4000 * written)
    again.close(patience_seconds=1)
