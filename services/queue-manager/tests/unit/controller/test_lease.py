"""Whose lease nobody has to wait for."""

import os
import socket
import subprocess
import sys

from queue_manager.controller.lease import is_dead


def test_only_a_process_of_this_machine_that_is_gone_is_dead():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    assert is_dead(f"{host}/{ended.pid}/x")
    assert not is_dead(f"{host}/{os.getpid()}/x")
    assert not is_dead(f"{host}/1/x")
    assert not is_dead(f"elsewhere-{host}/{ended.pid}/x")
    assert not is_dead("01M7Z05KGZ9HFYZ6P7DP1NWD1D")
