"""A real node in a process of its own, spoken to by nothing but its wire format."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from streamforge_local.node.sweep import mark_of, marked


class NodeUnderTest:
    """Starts and kills the node, and speaks its protocol."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "node.sock"
        self.data = folder / "data"
        self.log = folder / "node.log"
        self.options = ["--first-delay-s", "0.02", "--beat-s", "0.2", "--stop-grace-s", "5"]
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, *options: str) -> "subprocess.Popen[bytes]":
        with self.log.open("a") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "streamforge_local.node"),
                    *("--socket", str(self.socket), "--data", str(self.data), *self.options, *options),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def start(self, *options: str) -> None:
        self.process = self.launch(*options)
        line = self.process.stdout.readline()
        assert line == b'{"event": "ready"}\n', self.log.read_text()

    def stop(self) -> int:
        self.process.terminate()
        return self.reap()

    def kill(self) -> None:
        self.process.kill()
        self.reap()

    def reap(self) -> int:
        self.process.stdout.close()
        return self.process.wait(30)

    async def call(self, call: str, **arguments):
        reader, writer = await asyncio.open_unix_connection(self.socket, limit=1 << 24)
        try:
            writer.write(json.dumps({"call": call, **arguments}).encode() + b"\n")
            answer = json.loads(await reader.readline())
        finally:
            writer.close()
        return answer.get("result", answer)

    async def stream(self, call: str, **arguments):
        reader, writer = await asyncio.open_unix_connection(self.socket, limit=1 << 24)
        try:
            writer.write(json.dumps({"call": call, **arguments}).encode() + b"\n")
            while line := await reader.readline():
                yield json.loads(line)
        finally:
            writer.close()

    async def create(self, name: str, *command: str, **more):
        return await self.call("create", spec={"name": name, "command": command, **more})

    async def status(self, name: str):
        return (await self.call("get", name=name))["status"]

    async def until(self, name: str, holds, *, timeout_s: float = 20.0):
        """The Job's status as soon as `holds(status)`."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds(status := await self.status(name)):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{name} is still {status}; node: {self.log.read_text()[-2000:]}") from None
        return status

    async def lines(self, name: str, **arguments) -> list[str]:
        return [
            answer["item"]["line"]
            async for answer in self.stream("logs", name=name, **arguments)
            if "line" in answer.get("item", {})
        ]

    async def until_count(self, name: str, count: int) -> list[str]:
        """The Job's lines as soon as there are so many."""
        async with asyncio.timeout(20):
            while len(lines := await self.lines(name)) < count:
                await asyncio.sleep(0.01)
        return lines

    async def until_lines(self, name: str, wanted: list[str], **arguments) -> None:
        """Wait for these lines, among others."""
        try:
            async with asyncio.timeout(20):
                while [line for line in await self.lines(name, **arguments) if line in wanted] != wanted:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{wanted} is not in {await self.lines(name, **arguments)}") from None

    def processes(self) -> list[int]:
        """Every process that belongs to this node."""
        return list(marked(mark_of(self.data)))

    def until_no_process(self, *, timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        while left := self.processes():
            assert time.monotonic() < deadline, f"processes {left} are left"
            time.sleep(0.01)

    def close(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.kill()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.until_no_process()


@pytest.fixture
def own_node(tmp_path):
    """A node for one test, not started."""
    node = NodeUnderTest(tmp_path)
    yield node
    node.close()


@pytest.fixture(scope="module")
def _shared_node(tmp_path_factory):
    node = NodeUnderTest(tmp_path_factory.mktemp("node"))
    node.start()
    yield node
    node.close()


@pytest.fixture
async def node(_shared_node):
    """A running node without Jobs, shared by tests that do it no harm."""
    yield _shared_node
    for job in (await _shared_node.call("list"))["jobs"]:
        await _shared_node.call("delete", name=job["name"], grace_s=0)
        await _shared_node.until(job["name"], lambda status: status is None)
