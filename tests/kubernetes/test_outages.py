"""What becomes of workflows when the cluster's own servers, or the ways to them, fail; and what their users are told.

The whole platform on a real control plane, whose servers are killed, frozen and slowed here; kwok plays the pods.
"""

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import time
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from streamforge_local.kubernetes.api import tls_context
from streamforge_local.kubernetes.kubeconfig import write_kubeconfig
from streamforge_local.scenario import until

TOLD_WITHIN_S = 10.0
LEASE_S = 10.0
SLOW_S, BREATH_S = 0.5, 0.05
SILENCE_S = 90.0
RETRY_AFTER_S = 6


def step_of(workflow):
    return workflow["steps"][0]


def _make_whole(cluster):
    """After a longer absence the cluster's own clients wait for half a minute between their tries; new ones do not."""
    for client in (cluster.controllers, cluster.scheduler):
        client.kill()
    cluster.start()
    cluster.wait_ready()


@pytest.mark.parametrize("server", ["apiserver", "etcd"])
@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_a_server_that_is_away_is_told_and_everything_goes_on_when_it_is_back(
    platform, own_control_plane, told, server, fault
):
    scene = await platform(exit=0, run="3s")
    process = getattr(own_control_plane, server)
    before = await scene.submit()
    await scene.runs(before)
    process.kill() if fault == "killed" else process.pause()
    began = time.monotonic()
    try:
        meanwhile = await scene.submit()  # accepted all the same
        shown = await scene.tells(meanwhile, "launcher-unreachable", within_s=2 * TOLD_WITHIN_S)
        seconds = told(f"{server} {fault}", began, shown["message"], code="launcher-unreachable")

        async def is_unready():
            ready = await scene.api.get("/health/ready")
            return ready.status_code == 503 and not ready.json()["conditions"]["launcher"]["ok"]

        await until(is_unready, "readiness names the launcher", timeout_s=TOLD_WITHIN_S)
        assert seconds < TOLD_WITHIN_S
        await asyncio.sleep(max(0.0, began + LEASE_S - time.monotonic()))
        late = await scene.submit()  # when nobody can be sure any more that it is he who acts
        began = time.monotonic()
        shown = await scene.tells(late, "launcher-unreachable", within_s=2 * TOLD_WITHIN_S)
        assert told(f"{server} {fault}, later", began, shown["message"]) < TOLD_WITHIN_S
    finally:
        process.resume()
        await asyncio.to_thread(_make_whole, own_control_plane)
    for queue_id in (before, meanwhile, late):
        assert step_of(await scene.ends(queue_id, within_s=60))["launch"] == 1


@contextlib.asynccontextmanager
async def slow(process):
    """What is asked of it waits up to half a second for its answer."""

    async def stutter():
        while True:
            process.pause()
            await asyncio.sleep(SLOW_S)
            process.resume()
            await asyncio.sleep(BREATH_S)

    stuttering = asyncio.create_task(stutter())
    try:
        yield
    finally:
        stuttering.cancel()
        await asyncio.wait([stuttering])
        process.resume()


async def test_with_a_slow_etcd_every_workflow_is_finished_and_none_runs_twice(platform, own_control_plane, told):
    scene = await platform(exit=0, run="1s")
    began = time.monotonic()
    async with slow(own_control_plane.etcd):
        submitted = [await scene.submit() for _ in range(5)]
        ended = [await scene.ends(queue_id, within_s=100) for queue_id in submitted]
    told("etcd slow by 500 ms", began, "finished")
    assert [step_of(workflow)["launch"] for workflow in ended] == [1] * 5
    assert [step_of(workflow)["restarts"] for workflow in ended] == [0] * 5
    assert len((await scene.call("get", scene.jobs))["items"]) == 5
    assert scene.voices.said["started"] == 5


async def _compact(cluster):
    """Forget every version but the present one (etcd's own API, v3/kv)."""
    async with httpx.AsyncClient(base_url=cluster.etcd.part.address) as etcd:
        first = {"key": base64.b64encode(b"\0").decode(), "limit": "1"}
        revision = (await etcd.post("/v3/kv/range", json=first)).raise_for_status().json()["header"]["revision"]
        (await etcd.post("/v3/kv/compaction", json={"revision": revision, "physical": True})).raise_for_status()


async def test_what_ended_while_it_was_frozen_and_versions_were_compacted_is_finished(
    platform, own_control_plane, told
):
    """410 Gone: the version that the frozen queue-manager has seen last is in no server's memory any more."""
    scene = await platform(exit=0, run="3s")
    queue_id = await scene.submit()
    job = step_of(await scene.runs(queue_id))["job"]
    seen = (await scene.call("get", scene.jobs))["metadata"]["resourceVersion"]
    scene.manager.send_signal(signal.SIGSTOP)

    async def is_complete():
        found = await scene.call("get", f"{scene.jobs}/{job}")
        return any(c["type"] == "Complete" for c in found["status"].get("conditions", ()))

    await until(is_complete, "the Job is complete", timeout_s=30)
    own_control_plane.apiserver.kill()
    await _compact(own_control_plane)
    await asyncio.to_thread(own_control_plane.start)
    await asyncio.to_thread(own_control_plane.wait_ready)
    events = await asyncio.to_thread(
        lambda: list(own_control_plane.api.watch(scene.jobs, resourceVersion=seen, timeout_s=2))
    )
    assert (events[0]["type"], events[0]["object"]["code"]) == ("ERROR", 410)
    began = time.monotonic()
    scene.manager.send_signal(signal.SIGCONT)
    workflow = await scene.ends(queue_id, within_s=30)
    told("410 by compaction", began, "finished")
    assert (step_of(workflow)["launch"], step_of(workflow)["restarts"]) == (1, 0)


class Proxy:
    """A way to the API server that can stall: connections stay open and nothing comes through them any more."""

    def __init__(self, url):
        self._target = urlsplit(url)
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._connections = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def stall(self):
        """Every connection of now is dead without a word; new ones work."""
        self._is_open.clear()
        self._is_open = asyncio.Event()
        self._is_open.set()

    async def _serve(self, reader, writer):
        self._connections.add(asyncio.current_task())
        is_open = self._is_open
        with contextlib.suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
            pumps = [
                asyncio.create_task(_pump(one, other, is_open))
                for one, other in ((reader, there_writer), (there_reader, writer))
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.wait(pumps)
                for end in (there_writer, writer):
                    end.close()


async def _pump(reader, writer, is_open):
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            await is_open.wait()
            writer.write(data)
            await writer.drain()


async def test_a_watch_that_hangs_without_a_word_is_left_and_the_workflow_is_finished(
    platform, own_control_plane, told, tmp_path
):
    async with Proxy(own_control_plane.url) as proxy:
        kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", replace(own_control_plane.access, url=proxy.url))
        scene = await platform(exit=0, run="2s", settings={"KUBECONFIG": str(kubeconfig)})
        queue_id = await scene.submit()
        await scene.runs(queue_id)
        proxy.stall()
        began = time.monotonic()
        workflow = await scene.ends(queue_id, within_s=SILENCE_S + 15)
        told("half-open connection", began, "finished")
        assert (step_of(workflow)["launch"], step_of(workflow)["restarts"]) == (1, 0)
        scene.manager.send_signal(signal.SIGTERM)
        await asyncio.to_thread(scene.manager.wait, 20)


class FullServer(Proxy):
    """A way to the API server, in plain HTTP, on which the first create of a Job is told to come again later.

    A refused create may have been done all the same: whoever stands before a server (a load balancer) does not know.
    """

    def __init__(self, cluster, status, *, does_it):
        super().__init__(cluster.url)
        self._cluster, self._status, self._does_it = cluster, status, does_it
        self.creates = []
        """When each create came (monotonic)."""
        self.has_refused = False

    async def __aenter__(self):
        await super().__aenter__()
        self.url = self.url.replace("https", "http")
        return self

    async def _serve(self, reader, writer):
        self._connections.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            there_reader, there_writer = await asyncio.open_connection(
                self._target.hostname, self._target.port, ssl=tls_context(self._cluster.access)
            )
            answers = asyncio.create_task(_pump(there_reader, writer, self._is_open))
            answers.add_done_callback(lambda _: writer.close())
            try:
                while True:
                    request = await self._request(reader)
                    there_writer.write(request) if request else writer.write(self._refusal())
            finally:
                answers.cancel()
                there_writer.close()

    async def _request(self, reader):
        """The next one, whole; nothing when it is refused."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        method, path, _ = head.split(b" ", 2)
        if method == b"POST" and path.endswith(b"/jobs"):
            self.creates.append(time.monotonic())
            if len(self.creates) == 1:
                if self._does_it:
                    await asyncio.to_thread(self._cluster.api.post, path.decode(), json.loads(body))
                return b""
        return head + body

    def _refusal(self):
        self.has_refused = True
        status = {"kind": "Status", "status": "Failure", "message": "no room at all", "code": self._status}
        body = json.dumps(status).encode()
        head = f"HTTP/1.1 {self._status} Later\r\nRetry-After: {RETRY_AFTER_S}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("does_it", [False, True], ids=["refused", "done-all-the-same"])
@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_asks_to_wait_is_sent_no_create_before_and_has_each_job_once(
    platform, own_control_plane, told, tmp_path, status, does_it
):
    async with FullServer(own_control_plane, status, does_it=does_it) as server:
        kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", replace(own_control_plane.access, url=server.url))
        scene = await platform(exit=0, run="3s", settings={"KUBECONFIG": str(kubeconfig)})
        began = time.monotonic()
        submitted = [await scene.submit()]
        await until(lambda: asyncio.sleep(0, server.has_refused), "the first create is refused", timeout_s=20)
        if does_it:  # its Job runs, so that there may be nothing to tell
            await asyncio.sleep(0.5)  # until the refusal was read
        else:
            shown = await scene.tells(submitted[0], "launcher-unreachable", within_s=TOLD_WITHIN_S)
            told(f"{status} with Retry-After", began, shown["message"], code="launcher-unreachable")
            assert "no room at all" in shown["message"] or "asked to wait" in shown["message"]
        submitted += [await scene.submit() for _ in range(3)]
        ended = [await scene.ends(queue_id, within_s=60) for queue_id in submitted]
        scene.manager.send_signal(signal.SIGTERM)
        await asyncio.to_thread(scene.manager.wait, 20)
    refused, *later = server.creates
    # the Job that is there though its create was refused may be seen before it is tried again
    assert len(submitted) - does_it <= len(later) <= len(submitted)
    assert min(later) - refused >= RETRY_AFTER_S
    assert [step_of(workflow)["launch"] for workflow in ended] == [1] * len(submitted)
    jobs = (await scene.call("get", scene.jobs))["items"]
    assert sorted(job["metadata"]["labels"]["queue_id"] for job in jobs) == sorted(submitted)
    assert scene.voices.said["started"] == len(submitted)


@contextlib.asynccontextmanager
async def open_transaction(kafka, queue_id):
    """Readers of committed records stop before it, in the partition of this workflow's events."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=f"test-{os.getpid()}-{queue_id}"
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait("queue-events", b"{}", key=queue_id.encode())
        yield
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def test_a_job_that_ends_while_nothing_can_be_read_of_the_events_is_judged_by_them_later(platform, kafka, told):
    scene = await platform(exit=0, run="4s")
    queue_id = await scene.submit()
    job = step_of(await scene.runs(queue_id))["job"]
    async with open_transaction(kafka, queue_id):

        async def is_complete():
            found = await scene.call("get", f"{scene.jobs}/{job}")
            return any(c["type"] == "Complete" for c in found["status"].get("conditions", ()))

        await until(is_complete, "the Job is complete", timeout_s=30)
        assert scene.voices.said["finished"] == 1
        await asyncio.sleep(5)
        assert (await scene.get(queue_id))["state"] == "running"
        began = time.monotonic()
    workflow = await scene.ends(queue_id)
    told("frozen event reader", began, "finished")
    assert (step_of(workflow)["launch"], step_of(workflow)["restarts"]) == (1, 0)
