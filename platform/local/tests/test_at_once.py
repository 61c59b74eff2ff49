"""Commands at the same time."""

import signal
import subprocess
import sys
import time

import pytest

AT_ONCE = [sys.executable, "-m", "streamforge_local.at_once"]
WITHIN_S = 20


def run(*commands):
    return subprocess.run([*AT_ONCE, *commands], capture_output=True, text=True, timeout=WITHIN_S, check=False)


def test_they_run_at_the_same_time_and_each_output_is_in_one_piece(tmp_path):
    # each waits for what the other makes
    first = f"echo a; touch {tmp_path}/a; until [ -e {tmp_path}/b ]; do sleep 0.01; done; echo b"
    second = f"echo c; until [ -e {tmp_path}/a ]; do sleep 0.01; done; echo d >&2; touch {tmp_path}/b"
    done = run(first, second)
    assert (done.stdout, done.stderr, done.returncode) == ("a\nb\nc\nd\n", "", 0)


@pytest.mark.parametrize("commands", [("exit 3", "exit 0"), ("exit 0", "exit 3"), ("exit 3", "exit 4")])
def test_a_failure_of_any_is_the_status(commands):
    assert run(*commands).returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_ends_it_ends_them_as_ctrl_c_would(number, tmp_path):
    waits = f"for i in $(seq {WITHIN_S * 10}); do sleep 0.1; done"  # not for ever, whatever becomes of this test
    commands = [f"trap 'echo cleaned; exit 5' INT; touch {tmp_path / name}; {waits}" for name in "ab"]
    process = subprocess.Popen([*AT_ONCE, *commands], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + WITHIN_S
    while not all((tmp_path / name).exists() for name in "ab"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=WITHIN_S)
    assert (output, process.returncode) == ("cleaned\ncleaned\n", 5)
