"""Whose lease nobody has to wait for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from queue_manager import owner
from queue_manager.owner import is_dead, new_owner


@pytest.fixture
def ended():
    """An owner whose process is no more."""
    code = "from queue_manager.owner import new_owner; print(new_owner())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_who_has_ended_is_dead_and_who_lives_is_not(ended):
    assert is_dead(ended)
    assert not is_dead(new_owner())


@pytest.mark.parametrize("part", [0, 2])
def test_nothing_is_known_of_another_host_or_of_another_containers_numbers(ended, part):
    parts = ended.split("/")
    parts[part] = "elsewhere"
    assert not is_dead("/".join(parts))


def test_a_process_of_another_user_lives(ended, monkeypatch):
    def kill(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    assert not is_dead(ended)


@pytest.mark.parametrize("name", ["", "host", "01M7Z05KGZ9HFYZ6P7DP1NWD1D", "host/1/01A", "a/b/c/d/e"])
def test_a_name_of_another_kind_tells_nothing(name):
    assert not is_dead(name)


def test_without_a_proc_file_system_the_host_decides(ended, monkeypatch):
    monkeypatch.setattr(owner, "Path", lambda name: Path("/nowhere") / name.lstrip("/"))
    host, pid, _, unique = ended.split("/")
    assert is_dead(f"{host}/{pid}/-/{unique}")
    assert new_owner().split("/")[2] == "-"


def test_no_two_are_the_same():
    assert new_owner() != new_owner()
