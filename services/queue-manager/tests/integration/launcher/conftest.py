"""Launchers under test: the double, and the local node in a process of its own."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from queue_manager.launcher import JobSpec, Launcher
from queue_manager.launcher.memory import MemoryLauncher
from queue_manager.launcher.process import ProcessLauncher

SCRIPTS = {
    "runs": "echo here; exec sleep 600",
    "stubborn": "trap '' TERM; echo here; while :; do sleep 0.05; done",
    **{f"exits {code}": f"echo here; exit {code}" for code in (0, 1, 3, 75, 78)},
}


class LocalNode:
    """The node as the supervisor starts it."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "node.sock"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "node.log").open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "streamforge_local.node", "--first-delay-s", "0.02", "--beat-s", "0.2"),
                    *("--max-processes", "8"),
                    *("--socket", str(self.socket), "--data", str(self._folder / "data")),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == b'{"event": "ready"}\n', (self._folder / "node.log").read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        self._end(subprocess.Popen.kill)

    def stop(self) -> None:
        self._end(subprocess.Popen.terminate)

    def _end(self, how) -> None:
        if self._process is not None:
            how(self._process)
            self._process.wait(30)
            self._process.stdout.close()
            self._process = None


class Platform:
    """A launcher with Jobs that behave as a test wants: `runs`, `stubborn`, `exits <code>`."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    async def create(self, name: str, behaviour: str, **more):
        status = await self.launcher.create(self.spec(name, behaviour, **more))
        if isinstance(self.launcher, MemoryLauncher):
            await self._play(name, behaviour)
        return status

    def spec(self, name: str, behaviour: str, **more) -> JobSpec:
        values = {
            "name": name,
            "queue_id": "wf-1",
            "step": "a-step",
            "target": "a-target",
            "launch": 3,
            "installation": "i-1",
            "decision_id": "d-1",
            "command": ("sh", "-c", SCRIPTS[behaviour]),
            "image": "",
            "env": {"A": "1"},
            "secret_env": {"KAFKA_PASSWORD": SecretStr("hunter2")},
            "replicas": 1,
            "backoff_limit": 0,
            "grace_s": 0.3,
        }
        return JobSpec(**(values | more))

    async def until(self, name: str, holds):
        """The Job's status as soon as `holds(status)`."""
        try:
            async with asyncio.timeout(20):
                while not holds(status := await self.launcher.get(name)):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{name} is still {status}") from None
        return status

    async def end_stubborn(self, name: str) -> None:
        """In memory no time passes: say here that the grace is over."""
        if isinstance(self.launcher, MemoryLauncher):
            self.launcher.exit(name, 0, 137)

    async def _play(self, name: str, behaviour: str) -> None:
        assert isinstance(self.launcher, MemoryLauncher)
        status = await self.launcher.get(name)
        assert status is not None
        if not behaviour.startswith("exits "):
            for ordinal in range(len(status.ordinals)):
                self.launcher.say(name, "here", ordinal=ordinal)
        else:
            for _ in range(10):
                for ordinal in status.ordinals if status else ():
                    if ordinal.phase == "running":
                        self.launcher.say(name, "here", ordinal=ordinal.ordinal)
                        self.launcher.exit(name, ordinal.ordinal, int(behaviour.split()[1]))
                status = await self.launcher.get(name)


@pytest.fixture
def platform_class():
    """For tests that make launchers of their own."""
    return Platform


@pytest.fixture(scope="module")
def _shared_node(tmp_path_factory) -> Iterator[LocalNode]:
    node = LocalNode(tmp_path_factory.mktemp("node"))
    node.start()
    yield node
    node.stop()


@pytest.fixture
def own_node(tmp_path) -> Iterator[LocalNode]:
    """A node for one test, running."""
    node = LocalNode(tmp_path)
    node.start()
    yield node
    node.stop()


@pytest.fixture(params=["memory", "process"])
async def platform(request):
    """Every launcher in turn, without Jobs."""
    if request.param == "memory":
        yield Platform(MemoryLauncher(obedient=False))
        return
    node = request.getfixturevalue("_shared_node")
    launcher = ProcessLauncher(node.socket)
    platform = Platform(launcher)
    yield platform
    for status in await launcher.list():
        await launcher.delete(status.name, grace_s=0)
        await platform.until(status.name, lambda status: status is None)
    await launcher.close()
