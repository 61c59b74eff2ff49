"""Supervised real processes: all together, killed, paused, away, not startable, and nothing left behind."""

import asyncio
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field

import pytest

from streamforge_local.failures import StackError
from streamforge_local.paths import Home
from streamforge_local.ports import free_port
from streamforge_local.stack.leftovers import leftovers, sweep
from streamforge_local.stack.parts import Launch
from streamforge_local.stack.supervisor import running_stack
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.settings import KafkaSettings

pytestmark = pytest.mark.integration

SERVER = """
import os, socket, sys
print("server", os.getpid(), flush=True)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    connection.sendall(str(os.getpid()).encode())
    connection.close()
"""
STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + SERVER
BROKEN = "import sys; print('the configuration is wrong', flush=True); sys.exit(78)"
SILENT = "import time; print('still loading', flush=True); time.sleep(60)"


@dataclass(frozen=True)
class ScriptPart:
    """A small real server; it answers each connection with its process id."""

    name: str
    port: int
    script: str = SERVER
    deadline_s: float = 5.0

    @property
    def ports(self):
        return (self.port,)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def prepare(self):
        return Launch((sys.executable, "-c", self.script, str(self.port)))

    def is_ready(self):
        return self.ask(timeout=1) is not None

    def environment(self):
        return {f"{self.name.upper()}_ADDRESS": self.address}

    def ask(self, timeout=5.0):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
                return int(connection.recv(100))
        except (OSError, ValueError):
            return None


@pytest.fixture
def one():
    return ScriptPart("one", free_port())


@pytest.fixture
def two():
    return ScriptPart("two", free_port())


async def test_a_stack_starts_all_parts_and_leaves_nothing(one, two, tmp_path):
    async with running_stack(one, two, home=tmp_path) as stack:
        assert stack.env() == {"ONE_ADDRESS": one.address, "TWO_ADDRESS": two.address}
        assert stack.address("two") == two.address
        assert {one.ask(), two.ask()} == set(leftovers(Home.at(tmp_path)))
    assert one.ask() is None
    assert leftovers(Home.at(tmp_path)) == []


async def test_a_killed_part_comes_back_on_its_port_and_the_others_live_on(one, two, tmp_path):
    async with running_stack(one, two, home=tmp_path) as stack:
        before = one.ask(), two.ask()
        begin = time.monotonic()
        await stack.kill("one")
        await stack.wait_ready("one")
        assert time.monotonic() - begin < 3
        after = one.ask(), two.ask()
        assert after[0] not in (None, before[0])
        assert after[1] == before[1]
        assert stack.members["one"].restarts == 1


async def test_a_stopped_part_stays_away_until_it_is_started(one, tmp_path):
    async with running_stack(one, home=tmp_path) as stack:
        await stack.stop("one")
        await asyncio.sleep(0.5)
        assert one.ask() is None
        await stack.start("one")
        assert one.ask() is not None


async def test_a_part_that_is_stopped_while_it_is_started_stays_away(one, tmp_path):
    @dataclass(frozen=True)
    class Slow(ScriptPart):
        pause: list[float] = field(default_factory=lambda: [0.0])

        def prepare(self):
            time.sleep(self.pause[0])
            return super().prepare()

    slow = Slow("slow", one.port)
    async with running_stack(slow, home=tmp_path) as stack:
        slow.pause[0] = 0.5
        await stack.kill("slow")
        await asyncio.sleep(0.4)  # the pause before a restart is over, the next life is being prepared
        await stack.stop("slow")
        await asyncio.sleep(1.0)
        assert slow.ask() is None
        slow.pause[0] = 0.0
        await stack.start("slow")
        assert slow.ask() is not None


async def test_a_part_that_is_stopped_and_started_while_it_waits_for_a_restart_runs_once(one, tmp_path):
    async with running_stack(one, home=tmp_path) as stack:
        await stack.kill("one")
        await stack.stop("one")
        await stack.start("one")
        assert leftovers(Home.at(tmp_path)) == [one.ask()]


async def test_a_paused_part_is_there_and_does_not_answer(one, tmp_path):
    async with running_stack(one, home=tmp_path) as stack:
        pid = one.ask()
        stack.pause("one")
        assert await asyncio.to_thread(one.ask, 0.3) is None
        stack.resume("one")
        assert await asyncio.to_thread(one.ask) == pid


async def test_a_part_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("streamforge_local.stack.process.PartProcess.stop.__defaults__", (0.3,))
    stubborn = ScriptPart("stubborn", free_port(), STUBBORN)
    async with running_stack(stubborn, home=tmp_path):
        begin = time.monotonic()
    assert 0.3 <= time.monotonic() - begin < 3
    assert leftovers(Home.at(tmp_path)) == []


async def test_a_part_that_ends_at_its_start_is_told_in_one_line(one, tmp_path):
    broken = ScriptPart("broken", free_port(), BROKEN)
    with pytest.raises(StackError) as raised:
        async with running_stack(one, broken, home=tmp_path):
            pass
    log = tmp_path / "logs" / "broken.log"
    assert str(raised.value) == f"broken: ended with exit code 78: the configuration is wrong (log: {log})"
    assert leftovers(Home.at(tmp_path)) == []


async def test_a_part_that_misses_its_deadline_is_told_in_one_line(tmp_path):
    silent = ScriptPart("silent", free_port(), SILENT, deadline_s=0.5)
    with pytest.raises(StackError, match=r"^silent: is not ready after 0\.5 s: still loading \(log: "):
        async with running_stack(silent, home=tmp_path):
            pass
    assert leftovers(Home.at(tmp_path)) == []


async def test_a_program_that_does_not_exist_is_told(tmp_path):
    class Missing(ScriptPart):
        def prepare(self):
            return Launch(("/nowhere/program",))

    with pytest.raises(
        StackError, match=r"^missing: ended with exit code 1: /nowhere/program cannot be run: No such file"
    ):
        async with running_stack(Missing("missing", free_port()), home=tmp_path):
            pass


async def test_a_port_in_use_is_told_with_the_variable_that_names_another(one, tmp_path):
    with socket.create_server(("127.0.0.1", one.port)), pytest.raises(StackError) as raised:
        async with running_stack(one, home=tmp_path):
            pass
    assert str(raised.value).startswith(f"one: port {one.port} on 127.0.0.1 is in use")
    assert "STREAMFORGE_PORT_ONE" in str(raised.value)


async def test_what_a_former_stack_left_is_ended_by_its_mark(one, tmp_path):
    home = Home.at(tmp_path)
    environ = {**os.environ, "STREAMFORGE_STACK": str(home.root)}
    left = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SILENT, env=environ, stdout=asyncio.subprocess.DEVNULL
    )
    while left.pid not in leftovers(home):
        await asyncio.sleep(0.01)
    assert sweep(Home.at(tmp_path / "other")) == 0
    assert await asyncio.to_thread(sweep, home) == 1
    assert await left.wait() == -signal.SIGKILL


async def test_kafka_in_a_stack_is_killed_and_comes_back_with_its_data(tmp_path):
    async with running_stack("kafka", home=tmp_path) as stack:
        admin = KafkaAdmin(KafkaSettings(bootstrap_servers=stack.env()["KAFKA_BOOTSTRAP_SERVERS"]))
        await admin.create_topics([TopicSpec("kept", replication=1)])
        await admin.close()
        await stack.kill("kafka")
        await stack.wait_ready("kafka")
        assert await admin.partitions(["kept"]) == {"kept": 1}
        await admin.close()
