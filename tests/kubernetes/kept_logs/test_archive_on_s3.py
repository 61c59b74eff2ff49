"""The archive of logs on a real server of S3, which checks every signature."""

import asyncio
import io
import os
import subprocess
import time

import httpx
import pytest
import structlog

from queue_manager.launcher.kubernetes.archive import Archive, ArchiveError, Kept
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from queue_manager.launcher.kubernetes.spool import Spool
from streamforge_local.kubernetes.programs import S3, find_programs
from streamforge_local.ports import free_port

KEY, SECRET, REGION, BUCKET = "stf", "not-a-secret", "eu-central-1", "logs"
DAY = 86_400


class Server:
    """versitygw over a folder; may be killed and started again."""

    def __init__(self, program, folder):
        self._program, self._folder = program, folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.bucket = folder / "data" / BUCKET
        self.bucket.mkdir(parents=True)
        (folder / "attributes").mkdir()
        self._process = None

    def start(self):
        login = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        where = ["--region", REGION, "--port", f"127.0.0.1:{self.port}"]
        command = [self._program, *where, "posix", "--sidecar", self._folder / "attributes", self._folder / "data"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env={**os.environ, **login}, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(self.url)
                return
            except httpx.TransportError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def kill(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(find_programs([S3]) / S3, tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def access(server, monkeypatch):
    login = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION}
    for name, value in {**login, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def archive(access, request):
    return Archive(KubernetesSettings(log_archive=f"s3://{BUCKET}/{request.node.name}/logs", log_max_bytes=1024**2))


def kept(uid="u1", *, ordinal=0):
    return Kept(job="job-a", created_at=1_700_000_000.0, ordinal=ordinal, uid=uid)


async def test_what_was_put_is_found_read_and_removed_when_it_is_old(archive):
    assert not await archive.has(kept())
    assert await archive.of("job-a") == []
    lines = [{"ts": float(number), "line": os.urandom(60).hex()} for number in range(2000)]
    with Spool(10**6) as spool:
        for line in lines:
            await spool.add(line["ts"], line["line"])
        with await spool.packed({"step": "a"}) as packed:
            await archive.put(kept(), packed)
    assert await archive.has(kept())
    assert await archive.of("job-a") == [kept()]
    assert await archive.of("job") == []
    header, *found = [line async for line in archive.read(kept())]
    assert (header["step"], found) == ("a", lines)
    assert await archive.prune(time.time()) == (0, 0)
    assert await archive.prune(time.time() + 7 * DAY + 60) == (1, 0)
    assert await archive.of("job-a") == []


async def test_a_large_log_is_put_in_parts(archive):
    content = os.urandom(12 * 1024**2)
    await archive.put(kept(), io.BytesIO(content))
    assert await archive.has(kept())
    assert await archive.prune(time.time()) == (0, 1)


async def test_above_the_cap_the_oldest_go(archive):
    for number in range(7):
        await archive.put(kept(f"u{number}"), io.BytesIO(os.urandom(200_000)))
        await asyncio.sleep(0.01)
    assert await archive.prune(time.time()) == (0, 2)
    assert sorted(one.uid for one in await archive.of("job-a")) == [f"u{number}" for number in range(2, 7)]


async def test_a_wrong_key_is_told_without_it(access, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-key")
    archive = Archive(KubernetesSettings(log_archive=f"s3://{BUCKET}"))
    with (
        structlog.testing.capture_logs() as told,
        pytest.raises(ArchiveError, match="KUBERNETES_LOG_ARCHIVE") as refused,
    ):
        await archive.of("job-a")
    assert "wrong-key" not in str(refused.value) + str(told)
    assert "403" in str(refused.value)


async def test_a_bucket_that_is_not_there_is_told(access):
    archive = Archive(KubernetesSettings(log_archive="s3://nowhere"))
    with pytest.raises(ArchiveError, match=r"NoSuchBucket|not found"):
        await archive.put(kept(), io.BytesIO(b""))


async def test_a_server_that_is_away_is_told_soon_and_used_again_when_it_is_back(archive, server):
    server.kill()
    try:
        with structlog.testing.capture_logs() as told:
            began = time.monotonic()
            with pytest.raises(ArchiveError):
                await archive.put(kept(), io.BytesIO(b"x"))
            assert time.monotonic() - began < 10
            server.start()
            await archive.put(kept(), io.BytesIO(b"x"))
        assert [event["event"] for event in told] == ["log_archive_away", "log_archive_back"]
    finally:
        if server._process.poll() is not None:
            server.start()
