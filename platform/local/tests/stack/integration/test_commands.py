"""``up``, ``down``, ``clean``, ``status`` as a user runs them, with a real broker and the real supervisor."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from streamforge_local.paths import Home
from streamforge_local.stack import daemon
from streamforge_local.stack.leftovers import leftovers

pytestmark = pytest.mark.integration


class Cli:
    """The command line on a home of its own."""

    def __init__(self, folder):
        self.home = Home.at(folder / "home")

    def __call__(self, *arguments, **env):
        command = [sys.executable, "-m", "streamforge_local", *arguments]
        environ = {**os.environ, "STREAMFORGE_HOME": str(self.home.root), **env}
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)

    def up(self, **env):
        return self("up", "--parts", "kafka", **env)


@pytest.fixture
def cli(tmp_path):
    cli = Cli(tmp_path)
    yield cli
    cli("clean")
    assert leftovers(cli.home) == []


def variables(home):
    return dict(line.split("=", 1) for line in home.local_env.read_text().splitlines())


def test_up_returns_when_all_is_ready_and_down_keeps_data_and_ports(cli):
    started = cli.up()
    assert started.returncode == 0, started.stderr
    assert "The stack is ready after" in started.stdout
    address = variables(cli.home)["KAFKA_BOOTSTRAP_SERVERS"]
    assert address in started.stdout
    assert cli.home.local_env.stat().st_mode & 0o777 == 0o600
    again = cli.up()
    assert again.returncode == 0
    assert "runs already" in again.stdout
    assert cli("status").returncode == 0

    stopped = cli("down")
    assert stopped.returncode == 0
    assert leftovers(cli.home) == []
    assert cli("status").returncode == 3
    assert "No stack runs" in cli("down").stdout

    assert cli.up().returncode == 0
    assert variables(cli.home)["KAFKA_BOOTSTRAP_SERVERS"] == address


def test_clean_removes_what_the_stack_made_and_nothing_of_the_user(cli):
    cli.home.root.mkdir()
    cli.home.secrets.write_text("a.b=c\n")
    assert cli.up().returncode == 0
    assert cli("clean").returncode == 0
    assert [path.name for path in cli.home.root.iterdir()] == ["secrets.env"]


def test_a_killed_supervisor_takes_its_parts_along_and_up_works_again(cli):
    assert cli.up().returncode == 0
    os.kill(daemon.supervisor_pid(cli.home), signal.SIGKILL)
    deadline = time.monotonic() + 5
    while leftovers(cli.home) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leftovers(cli.home) == []
    assert cli("status").returncode == 3
    assert cli.up().returncode == 0


def test_the_supervisor_restarts_what_dies_and_says_so(cli):
    assert cli.up().returncode == 0
    os.kill(daemon.read_state(cli.home).parts[0].pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        part = daemon.read_state(cli.home).parts[0]
        if part.restarts and part.state == "ready":
            break
        time.sleep(0.05)
    assert (part.restarts, part.state) == (1, "ready")
    assert "kafka: ended with signal SIGKILL" in (cli.home.logs / "supervisor.log").read_text()


def test_a_port_in_use_is_one_line_and_exit_1(cli):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = cli.up(STREAMFORGE_PORT_KAFKA=str(port))
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith(f"kafka: port {port} on 127.0.0.1 is in use")
    assert "STREAMFORGE_PORT_KAFKA" in refused.stderr
    assert cli("status").returncode == 3


def test_an_unknown_security_is_one_line_and_exit_1(cli):
    refused = cli.up(STREAMFORGE_KAFKA_SECURITY="tls")
    assert refused.returncode == 1
    assert refused.stderr == "kafka: STREAMFORGE_KAFKA_SECURITY='tls' is not known; give plaintext or scram\n"


def test_with_scram_clients_are_told_user_password_and_authority(cli):
    assert cli.up(STREAMFORGE_KAFKA_SECURITY="scram").returncode == 0
    found = variables(cli.home)
    assert found["KAFKA_USER"] == "user-streamforge"
    assert found["KAFKA_CA_PATH"].startswith(str(cli.home.data))
    assert found["KAFKA_PASSWORD"] not in (cli.home.logs / "kafka.log").read_text()
    assert found["KAFKA_PASSWORD"] not in cli.home.state.read_text()
    refused = cli.up(STREAMFORGE_KAFKA_SECURITY="plaintext")
    assert refused.returncode == 0, "what runs is not touched"
    cli("down")
    refused = cli.up(STREAMFORGE_KAFKA_SECURITY="plaintext")
    assert refused.returncode == 1
    assert "was made with STREAMFORGE_KAFKA_SECURITY=scram" in refused.stderr


def test_two_ups_at_once_make_one_stack(cli):
    command = [sys.executable, "-m", "streamforge_local", "up", "--parts", "kafka"]
    environ = {**os.environ, "STREAMFORGE_HOME": str(cli.home.root)}
    both = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, error = process.communicate(timeout=100)
        assert process.returncode == 0, error
    assert len(leftovers(cli.home)) == 1
