"""What each answer of ArangoDB means, and that a request is sent once."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from streamforge_utils.arango import ArangoClient, Conflict
from streamforge_utils.errors import ConfigurationError, NotConnected, PermanentError, TransientError
from streamforge_utils.settings import ArangoSettings, read_settings

PASSWORD = "do-not-show-me"
PAGE = b"<html>back soon</html>"


class ScriptedServer(ThreadingHTTPServer):
    """Answers every request with what the test put down: for faults that no server can be made to have."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.body: Any = {"error": False, "code": 200, "result": {}}
        self.location: str | None = None
        self.requests: list[str] = []
        self.released = threading.Event()
        self.is_silent = False

    @property
    def settings(self) -> ArangoSettings:
        return ArangoSettings(
            url=f"http://127.0.0.1:{self.server_port}", db="things", user="worker", password=SecretStr(PASSWORD)
        )

    def answer(self, status: int, number: int, message: str = "because") -> None:
        self.status = status
        self.body = {"error": True, "code": status, "errorNum": number, "errorMessage": message}


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def _reply(self) -> None:
        self.server.requests.append(self.path)
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.server.is_silent:
            self.server.released.wait(10)
            return
        if self.server.location and self.path != self.server.location:
            self._begin(302, "text/html", 0)
            return
        is_page = isinstance(self.server.body, bytes)
        body = self.server.body if is_page else json.dumps(self.server.body).encode()
        self._begin(self.server.status, "text/html" if is_page else "application/json", len(body))
        self.wfile.write(body)

    def _begin(self, status: int, kind: str, length: int) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(length))
        if status == 302:
            self.send_header("location", self.server.location)
        self.end_headers()

    do_GET = do_POST = do_PUT = do_DELETE = _reply

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    made = ScriptedServer()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.released.set()
        made.shutdown()
        thread.join()
        made.server_close()


@pytest.fixture
async def client(server):
    made = ArangoClient(server.settings, timeout_s=1.5)
    await made.open()
    server.requests.clear()
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("status", "number", "expected", "code"),
    [
        (401, 11, ConfigurationError, "unauthenticated"),
        (401, 401, ConfigurationError, "unauthenticated"),
        (403, 11, ConfigurationError, "not-authorized"),
        (403, 403, ConfigurationError, "not-authorized"),
        (403, 1004, TransientError, "unavailable"),  # read-only mode
        (404, 1228, ConfigurationError, "configuration"),
        (404, 1203, ConfigurationError, "configuration"),
        (409, 1200, TransientError, "unavailable"),  # write-write conflict
        (412, 1200, Conflict, "conflict"),
        (409, 1210, Conflict, "conflict"),
        (412, 21004, TransientError, "unavailable"),  # queue time
        (400, 18, TransientError, "unavailable"),  # lock timeout
        (404, 1600, TransientError, "unavailable"),  # cursor lost
        (410, 1500, TransientError, "unavailable"),  # query killed
        (500, 4, TransientError, "unavailable"),
        (502, 502, TransientError, "unavailable"),
        (503, 503, NotConnected, "unavailable"),
        (503, 1495, NotConnected, "unavailable"),
        (507, 1104, TransientError, "unavailable"),
        (429, 429, TransientError, "unavailable"),
        (400, 1501, PermanentError, "rejected"),
        (400, 1233, PermanentError, "rejected"),
    ],
)
async def test_an_answer_becomes_the_error_that_says_what_to_do(server, client, status, number, expected, code):
    server.answer(status, number)
    with pytest.raises((ConfigurationError, TransientError, Conflict, PermanentError)) as caught:
        await client.insert("jobs", {"_key": "a"})
    assert type(caught.value) is expected
    assert caught.value.code == code
    assert "insert into jobs" in caught.value.message
    assert caught.value.__cause__ is not None
    assert len(server.requests) == 1, "the driver tried again by itself"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_reading_is_tried_once_too(server, client, status):
    server.answer(status, status)
    with pytest.raises(TransientError):
        await client.get("jobs", "a")
    assert len(server.requests) == 1


async def test_a_full_disk_is_called_so(server, client):
    server.answer(500, 1104, "filesystem full")
    with pytest.raises(TransientError, match="disk full: free space"):
        await client.insert("jobs", {})


async def test_a_conflict_says_over_which_fields(server, client):
    over = "unique constraint violated - in index idx_17 of type persistent over 'idempotency_key'; conflicting key: 5"
    server.answer(409, 1210, over)
    with pytest.raises(Conflict) as caught:
        await client.insert("jobs", {"_key": "a"})
    assert caught.value.over == "idempotency_key"


async def test_silence_is_not_waited_for_longer_than_the_time_limit(server):
    impatient = ArangoClient(server.settings, timeout_s=0.5)
    await impatient.open()
    server.requests.clear()
    server.is_silent = True
    with pytest.raises(NotConnected, match=r"127.0.0.1:\d+ does not answer: timed out"):
        await impatient.count("jobs")
    await impatient.close()
    assert len(server.requests) == 1


async def test_an_answer_that_is_no_json_is_an_error_of_ours(server, client):
    server.status, server.body = 502, "<html>"
    with pytest.raises(TransientError):
        await client.get("jobs", "a")


@pytest.mark.parametrize("number", [1200, 1104])
async def test_a_document_that_could_not_be_written_now_makes_the_whole_request_transient(server, client, number):
    server.status = 202
    server.body = [{"error": True, "errorNum": number, "errorMessage": "not now"}]
    with pytest.raises(TransientError):
        await client.upsert_many("jobs", [{"_key": "a"}, {"_key": "b"}])


async def test_the_password_is_in_no_error_and_no_repr(server, client):
    server.answer(401, 11)
    with pytest.raises(ConfigurationError) as caught:
        await client.open()
    assert "worker" in caught.value.message
    for text in (repr(client), repr(client.__dict__), repr(caught.value), repr(caught.value.__cause__)):
        assert PASSWORD not in text


async def test_a_closed_client_says_that_it_is_not_open(server):
    made = ArangoClient(server.settings)
    with pytest.raises(NotConnected, match="not open"):
        await made.get("jobs", "a")
    await made.open()
    await made.close()
    await made.close()
    with pytest.raises(NotConnected, match="not open"):
        await made.get("jobs", "a")
    await made.open()  # open again is a new connection
    await made.close()


@pytest.mark.parametrize("url", ["127.0.0.1:8529", "http://", "ftp://127.0.0.1"])
async def test_an_address_that_is_none_is_a_setting_to_correct(url):
    made = ArangoClient(ArangoSettings(url=url, db="things"))
    with pytest.raises(ConfigurationError, match="ARANGO_URL"):
        await made.open()
    await made.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, PAGE),
        (201, PAGE),
        (200, {}),  # nothing is created with 200
        (201, {"status": "ok"}),
        (201, [{"status": "ok"}]),
        (201, [{"error": True, "errorNum": 1233, "errorMessage": "bad"}]),  # asked again, it has to tell of both
        (404, PAGE),
        (520, PAGE),
    ],
)
async def test_what_arangodb_does_not_say_confirms_nothing(server, client, status, body):
    server.status, server.body = status, body
    with pytest.raises(TransientError, match=rf"http://127.0.0.1:{server.server_port} .*: status {status}") as caught:
        await client.upsert_many("jobs", [{"_key": "a"}, {"_key": "b"}])
    assert PASSWORD not in caught.value.message


@pytest.mark.parametrize("body", [{}, [{"_key": "a"}, {"_key": "b"}]])
async def test_what_arangodb_says_confirms(server, client, body):
    server.status, server.body = 202, body
    assert await client.upsert_many("jobs", [{"_key": "a"}, {"_key": "b"}]) == {}


async def test_a_redirect_is_not_followed(server, client):
    server.location, server.body = "/login", PAGE
    with pytest.raises(TransientError, match="status 302"):
        await client.upsert_many("jobs", [{"_key": "a"}])
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [PAGE, {"status": "ok"}])
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.open(),
        lambda client: client.ensure_collection("jobs"),
        lambda client: client.has_collection("jobs"),
        lambda client: client.drop_collection("jobs"),
        lambda client: client.count("jobs"),
        lambda client: client.get("jobs", "a"),
        lambda client: client.insert("jobs", {"_key": "a"}),
        lambda client: client.replace("jobs", {"_key": "a"}, rev="1"),
        lambda client: client.delete("jobs", "a"),
        lambda client: client.delete_where("jobs", "n", 1),
        lambda client: client.query("RETURN 1"),
    ],
)
async def test_no_call_takes_another_ones_answer_for_arangodbs(server, client, call, body):
    server.body = body
    with pytest.raises(TransientError, match="does not answer as ArangoDB does"):
        await call(client)


@pytest.mark.parametrize("url", [f"http://root:{PASSWORD}@db:8529", f"htp://root:{PASSWORD}@db", f"root:{PASSWORD}@db"])
async def test_an_address_with_a_password_is_refused_and_never_shown(monkeypatch, url):
    monkeypatch.setenv("ARANGO_URL", url)
    with pytest.raises(ConfigurationError, match="ARANGO_USER and ARANGO_PASSWORD") as caught:
        read_settings(ArangoSettings)
    assert PASSWORD not in caught.value.message


@pytest.mark.parametrize("url", [f"htp://root:{PASSWORD}@db", f"http://root:{PASSWORD}@db:no", f"root:{PASSWORD}@db"])
async def test_a_wrong_address_is_shown_by_scheme_host_and_port_alone(url):
    made = ArangoClient(ArangoSettings().model_copy(update={"url": url}))
    with pytest.raises(ConfigurationError, match="ARANGO_URL") as caught:
        await made.open()
    assert PASSWORD not in caught.value.message
    await made.close()
