"""The HTTP face without a network: paths, encodings, faults."""

import base64
import gzip
import json
import logging
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from arango_local.accounts import Accounts
from arango_local.api.application import Application
from arango_local.catalog import Catalog
from arango_local.engine import Engine
from arango_local.logs import JsonFormatter

BASIC = b"Basic " + base64.b64encode(b"tester:secret")


class BrokenEngine:
    """An engine in which running a query is a fault of the program."""

    def __init__(self, engine: Engine) -> None:
        self.accounts: Accounts = engine.accounts
        self.catalog: Catalog = engine.catalog

    @property
    def queries(self) -> Any:
        raise ZeroDivisionError("a bug")


@pytest.fixture
def application(engine: Engine) -> Iterator[Application]:
    application = Application(engine)
    yield application
    application.close()


async def call(
    application: Application,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    query: bytes = b"",
    headers: dict[str, bytes] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []
    waiting = [
        {"type": "http.request", "body": body[:3], "more_body": True},
        {"type": "http.request", "body": body[3:]},
    ]

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    given = {"authorization": BASIC, **(headers or {})}
    raw = [(name.encode(), value) for name, value in given.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": raw}
    await application(scope, receive, send)
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, sent[1]["body"]


async def test_an_answer_has_the_headers_that_arangodb_sends(application: Application) -> None:
    status, headers, body = await call(application, "GET", "/_api/version")
    assert status == 200
    assert headers["content-type"].startswith("application/json")
    assert headers["x-arango-queue-time-seconds"] == "0.000000"
    assert json.loads(body)["server"] == "arango"


@pytest.mark.parametrize(
    "header", [b"", b"Basic", b"Basic !!!", b"Bearer abc", b"Basic " + base64.b64encode(b"tester:wrong"), b"Basic /w=="]
)
async def test_who_is_not_known_gets_401(application: Application, header: bytes) -> None:
    status, _, body = await call(application, "GET", "/_api/version", headers={"authorization": header})
    assert (status, json.loads(body)["errorNum"]) == (401, 11)


@pytest.mark.parametrize(
    ("method", "path", "status", "number"),
    [
        ("GET", "/nowhere", 404, 404),
        ("GET", "/_db/absent/_api/version", 404, 1228),
        ("GET", "/_api/view", 501, 9),
        ("POST", "/_api/transaction/begin", 501, 9),
        ("GET", "/_admin/metrics", 501, 9),
        ("POST", "/_open/auth", 501, 9),
        ("GET", "/_db/_system", 404, 404),
    ],
)
async def test_a_path_that_is_not_served(
    application: Application, method: str, path: str, status: int, number: int
) -> None:
    answered, _, body = await call(application, method, path)
    error = json.loads(body)
    assert (answered, error["errorNum"], error["code"], error["error"]) == (status, number, status, True)


@pytest.mark.parametrize(("encoding", "compress"), [("deflate", zlib.compress), ("gzip", gzip.compress)])
async def test_a_compressed_body_is_read(application: Application, encoding: str, compress: Any) -> None:
    body = compress(b'{"query": "RETURN 1"}')
    status, _, answer = await call(
        application, "POST", "/_api/cursor", body, headers={"content-encoding": encoding.encode()}
    )
    assert (status, json.loads(answer)["result"]) == (201, [1])


@pytest.mark.parametrize(
    ("encoding", "status", "number"), [(b"deflate", 400, 600), (b"gzip", 400, 600), (b"br", 501, 9)]
)
async def test_a_body_that_cannot_be_unpacked(
    application: Application, encoding: bytes, status: int, number: int
) -> None:
    answered, _, body = await call(
        application, "POST", "/_api/cursor", b"nonsense", headers={"content-encoding": encoding}
    )
    assert (answered, json.loads(body)["errorNum"]) == (status, number)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[1]", b'{"query": 5}', b'{"query": "RETURN 1", "batchSize": 0}', b'{"query": "RETURN 1", "bindVars": []}'],
)
async def test_a_wrong_body_is_a_bad_request(application: Application, body: bytes) -> None:
    status, _, answer = await call(application, "POST", "/_api/cursor", body)
    assert status == 400
    assert json.loads(answer)["errorMessage"]


async def test_a_fault_of_the_program_is_answered_and_logged_with_its_traceback(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    application = Application(BrokenEngine(engine))  # type: ignore[arg-type]  # the part that a cursor needs
    with caplog.at_level(logging.ERROR):
        status, _, body = await call(application, "POST", "/_api/cursor", b'{"query": "RETURN 1"}')
    assert (status, json.loads(body)["errorNum"]) == (500, 4)
    line = json.loads(JsonFormatter().format(caplog.records[-1]))
    assert "ZeroDivisionError: a bug" in line["traceback"]
    assert line["path"] == "/_api/cursor"
    application.close()


async def test_a_document_that_is_not_changed_is_not_sent_again(
    application: Application, engine: Engine, database: str
) -> None:
    engine.catalog.create_collection(database, "c", kind=2, properties={})
    path = f"/_db/{database}/_api/document/c"
    status, headers, body = await call(application, "POST", path, b'{"_key": "a"}', query=b"waitForSync=true")
    assert (status, headers["etag"]) == (201, f'"{json.loads(body)["_rev"]}"')
    tag = headers["etag"].encode()
    assert (await call(application, "GET", path + "/a", headers={"if-none-match": tag}))[0] == 304
    assert (await call(application, "HEAD", path + "/a"))[::2] == (200, b"")
    assert (await call(application, "GET", path + "/a", headers={"if-match": b'"other"'}))[0] == 412
