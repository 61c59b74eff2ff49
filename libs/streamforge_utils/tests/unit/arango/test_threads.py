"""The store's threads end with their client, and never hold up the end of a process."""

import subprocess
import sys
import threading
import time

import pytest

from streamforge_utils.arango.threads import DaemonThreads

LEAVES = """
import sys, time
from streamforge_utils.arango.threads import DaemonThreads
threads = DaemonThreads(1, name="store")
threads.submit(lambda: time.sleep(60))
time.sleep(0.1)
threads.close()
sys.exit(7)
"""


def store_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("store_")]


def test_a_call_under_way_does_not_hold_up_the_end_of_the_process():
    assert subprocess.run([sys.executable, "-c", LEAVES], timeout=20, check=False).returncode == 7


def test_calls_are_answered_by_as_many_threads_as_there_are():
    threads, together = DaemonThreads(3, name="store"), threading.Barrier(3)
    assert sorted(f.result(5) < 3 for f in [threads.submit(lambda: together.wait(5)) for _ in range(6)]) == [True] * 6
    assert len(store_threads()) == 3
    threads.close()


def test_a_fault_is_the_callers():
    threads = DaemonThreads(1, name="store")
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(5)
    assert threads.submit(lambda: "next").result(5) == "next"
    threads.close()


def test_close_cancels_what_waits_and_lets_the_threads_go():
    threads, begun, released = DaemonThreads(1, name="store"), threading.Event(), threading.Event()
    under_way = threads.submit(lambda: begun.set() or released.wait(5))
    waiting = threads.submit(lambda: "never")
    assert begun.wait(5)
    threads.close()
    assert waiting.cancelled()
    released.set()
    assert under_way.result(5)
    deadline = time.monotonic() + 5
    while store_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not store_threads()
