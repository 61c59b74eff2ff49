"""Death, a full disk, a second server, the end."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from arango import exceptions as errors

pytestmark = pytest.mark.integration

Start = Any


@pytest.mark.parametrize("after_batches", [3, 11, 25])
def test_after_kill_9_every_acknowledged_document_is_there(start: Start, tmp_path: Path, after_batches: int) -> None:
    server = start(tmp_path / "data")
    server.connect().create_collection("log").add_index({"type": "persistent", "fields": ["n"]})
    acknowledged: list[int] = []

    def write(writer: int) -> None:
        collection = server.connect().collection("log")
        for batch in range(10_000):
            first = (writer * 10_000 + batch) * 50
            try:
                collection.insert_many(
                    [{"_key": str(first + n), "n": first + n} for n in range(50)], overwrite_mode="update"
                )
            except (requests.ConnectionError, ConnectionError):
                return
            acknowledged.append(first)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < after_batches:
        time.sleep(0.001)
    server.kill()
    for thread in threads:
        thread.join()

    again = start(tmp_path / "data").connect()
    numbers = list(again.aql.execute("FOR d IN log SORT d.n RETURN d.n", batch_size=100_000))
    assert {first + n for first in acknowledged for n in range(50)} <= set(numbers)
    assert len(numbers) % 50 == 0
    by_index = list(again.aql.execute("FOR d IN log FILTER d.n >= 0 RETURN d.n", batch_size=100_000))
    by_scan = list(again.aql.execute("FOR d IN log FILTER d.n + 0 >= 0 RETURN d.n", batch_size=100_000))
    assert sorted(by_index) == sorted(by_scan) == numbers


def limit_pages(server: Any, pages: int) -> dict[str, int]:
    url = f"http://127.0.0.1:{server.port}/_local/max_pages"
    answer = requests.put(url, json={"max_pages": pages}, auth=("streamforge", "a secret"), timeout=10)
    answer.raise_for_status()
    result: dict[str, int] = answer.json()["result"]
    return result


def test_a_full_disk_is_told_and_the_server_goes_on_when_there_is_space(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    collection = server.connect().create_collection("log")
    collection.add_index({"type": "persistent", "fields": ["text"]})
    limit_pages(server, 1)
    stored = 0

    def fill() -> None:
        nonlocal stored
        for batch in range(1000):
            collection.import_bulk([{"_key": f"{batch}-{n}", "text": "x" * 500 + str(n)} for n in range(40)])
            stored += 40

    with pytest.raises(errors.DocumentInsertError) as raised:
        fill()
    assert (raised.value.http_code, raised.value.error_code) == (500, 1104)
    assert collection.count() == stored
    with pytest.raises(errors.AQLQueryExecuteError) as by_query:
        server.connect().aql.execute(
            "FOR n IN 1..5000 INSERT {text: CONCAT(n, @pad)} INTO log", bind_vars={"pad": "y" * 500}
        )
    assert by_query.value.error_code == 1104
    assert collection.count() == stored

    limit_pages(server, 0)
    collection.insert({"_key": "after"})
    assert collection.count() == stored + 1
    assert server.stop() == 0


def test_a_disk_limit_from_the_environment_holds_from_the_start(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "data", ARANGO_LOCAL_MAX_PAGES="120")
    collection = server.connect().create_collection("log")
    with pytest.raises(errors.DocumentInsertError) as raised:
        collection.import_bulk([{"text": "x" * 1000} for _ in range(2000)])
    assert raised.value.error_code == 1104
    assert collection.count() == 0


def test_the_server_ends_within_a_second_also_while_a_query_runs(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    db = server.connect()
    db.collections()
    ended: list[BaseException] = []

    def sleep() -> None:
        try:
            db.aql.execute("FOR n IN 1..100 RETURN SLEEP(1)")
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=sleep)
    thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 3  # a second, and what a loaded machine adds
    thread.join()
    assert len(ended) == 1


def test_data_and_password_survive_a_restart_and_a_new_password_replaces_the_old(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    server.connect().create_collection("kept").insert({"_key": "a", "n": 1})
    server.stop()
    again = start(tmp_path / "data", ARANGO_LOCAL_PASSWORD="another")
    assert again.connect(password="another").collection("kept").get("a")["n"] == 1
    with pytest.raises(errors.ArangoServerError):
        again.connect().collections()
    assert b"another" not in (tmp_path / "data" / "arango.sqlite3").read_bytes()
    assert "another" not in again.log.read_text()


def run_to_its_end(data: Path, port: int, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "arango_local", "--data", str(data), "--port", str(port)]
    variables = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=20, check=False)


def test_a_server_that_cannot_start_says_why_in_one_line(start: Start, tmp_path: Path) -> None:
    running = start(tmp_path / "data")
    user = {"ARANGO_LOCAL_USER": "u", "ARANGO_LOCAL_PASSWORD": "p"}
    ended = run_to_its_end(tmp_path / "data", 0, **user)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines() == [
        f"arango-local: the data directory {tmp_path / 'data'} is in use by another arango-local"
    ]
    ended = run_to_its_end(tmp_path / "other", running.port, **user)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{running.port}" in ended.stderr
    ended = run_to_its_end(tmp_path / "other", 0)
    assert ended.returncode == 78
    assert "ARANGO_LOCAL_USER is not set" in ended.stderr


def test_expired_documents_are_swept(tmp_path: Path) -> None:
    from arango_local.engine import Engine
    from arango_local.indexes import IndexDefinition
    from arango_local.writes import WriteOptions

    engine = Engine(tmp_path / "data", user="u", password="p")
    collection = engine.catalog.create_collection("_system", "c", kind=2, properties={})
    engine.catalog.create_index(collection, IndexDefinition.parse({"type": "ttl", "fields": ["at"], "expireAfter": 10}))
    now = time.time()
    times = [now - 11, now - 9, "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z", None, True, "soon"]
    engine.write(collection, "insert", [{"_key": str(n), "at": at} for n, at in enumerate(times)], WriteOptions())
    assert engine.sweep() == 2
    with engine.storage.snapshot() as connection:
        assert sorted(row[0] for row in collection.scan(connection)) == ["1", "3", "4", "5", "6"]
    engine.close()
