"""Delays between restarts, ports, log files, names of files: what needs no server."""

import json
import shutil
import socket
import struct
import threading

import pytest

from streamforge_local.failures import StackError
from streamforge_local.kafka import rights
from streamforge_local.kafka.jars import pinned_sums, verify
from streamforge_local.kafka.security import make_credentials
from streamforge_local.paths import Home
from streamforge_local.ports import FIRST, LAST, assign_ports, free_port, is_free, variable
from streamforge_local.stack.logfile import RotatingLog
from streamforge_local.stack.process import inherited
from streamforge_local.stack.supervisor import Backoff, check_room


def test_restarts_are_delayed_from_a_fifth_of_a_second_doubling_to_ten():
    backoff = Backoff()
    assert [round(backoff.delay(1.0), 1) for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_life_of_half_a_minute_makes_the_next_restart_quick_again():
    backoff = Backoff()
    for _ in range(6):
        backoff.delay(1.0)
    assert backoff.delay(30.0) == 0.2
    assert backoff.delay(1.0) == 0.4


def test_ports_stay_the_same_for_the_life_of_the_data(tmp_path):
    book = tmp_path / "data" / "ports.json"
    first = assign_ports(book, ("kafka", "arango"), {})
    assert first == assign_ports(book, ("kafka", "arango"), {})
    assert all(FIRST <= port < LAST for port in first.values())
    assert assign_ports(book, ("kafka", "arango", "node"), {})["kafka"] == first["kafka"]


def test_a_named_port_wins_and_is_kept(tmp_path):
    book = tmp_path / "ports.json"
    assert assign_ports(book, ("queue-manager",), {"STREAMFORGE_PORT_QUEUE_MANAGER": "8080"}) == {"queue-manager": 8080}
    assert json.loads(book.read_text()) == {"queue-manager": 8080}


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "80.0"])
def test_a_port_that_is_none_is_refused_by_the_name_of_its_variable(tmp_path, text):
    with pytest.raises(StackError, match="STREAMFORGE_PORT_KAFKA"):
        assign_ports(tmp_path / "ports.json", ("kafka",), {variable("kafka"): text})


def test_two_parts_on_one_port_are_refused(tmp_path):
    same = {variable("kafka"): "9000", variable("arango"): "9000"}
    with pytest.raises(StackError, match="same port"):
        assign_ports(tmp_path / "ports.json", ("kafka", "arango"), same)


def test_a_port_with_a_listener_is_not_free():
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert is_free(port)


def test_a_log_is_rotated_and_no_line_is_lost(tmp_path):
    log = RotatingLog(tmp_path / "part.log", max_bytes=100)
    for number in range(25):
        log.write(f"line {number:03}\n".encode())
    log.close()
    files = [tmp_path / "part.log.2", tmp_path / "part.log.1", tmp_path / "part.log"]
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert lines == [f"line {number:03}" for number in range(25)]


def test_a_log_keeps_no_more_than_three_files(tmp_path):
    log = RotatingLog(tmp_path / "part.log", max_bytes=10)
    for number in range(20):
        log.write(f"a line {number:03}\n".encode())
    log.close()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_log_that_could_not_be_opened_again_goes_on_when_it_can(tmp_path):
    log = RotatingLog(tmp_path / "logs" / "part.log", max_bytes=10)
    shutil.rmtree(tmp_path / "logs")
    log.write(b"longer than ten bytes\n")
    log.write(b"lost, and no error\n")
    (tmp_path / "logs").mkdir()
    log.write(b"kept\n")
    log.close()
    assert (tmp_path / "logs" / "part.log").read_bytes() == b"kept\n"


def test_the_last_line_is_the_last_that_says_something(tmp_path):
    log = RotatingLog(tmp_path / "part.log")
    log.write(b"first\nwhy it failed\n\n   \n")
    assert log.last_line == "why it failed"
    log.forget()
    assert log.last_line == ""
    log.close()


def test_a_part_does_not_inherit_the_shells_log_in_to_another_cluster():
    environ = {"KAFKA_USER": "x", "ARANGO_PASSWORD": "y", "ARANGO_LOCAL_MAX_PAGES": "9", "PATH": "/bin"}
    assert inherited(environ) == {"ARANGO_LOCAL_MAX_PAGES": "9", "PATH": "/bin"}


def test_a_socket_path_that_is_too_long_for_the_kernel_goes_elsewhere(tmp_path):
    assert Home.at(tmp_path / "short").node_socket.parent == (tmp_path / "short").resolve()
    deep = Home.at(tmp_path / ("deep" * 30))
    assert len(str(deep.node_socket)) < 100
    assert deep.node_socket != Home.at(tmp_path / ("deer" * 30)).node_socket


def test_a_disk_without_room_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("streamforge_local.stack.supervisor.MIN_FREE_BYTES", 1 << 62)
    with pytest.raises(StackError, match="MB are free"):
        check_room(Home.at(tmp_path))


def test_every_pinned_jar_has_a_sum():
    sums = pinned_sums()
    assert len(sums) == 46
    assert {len(digest) for digest in sums.values()} == {64}


def test_a_jar_that_nobody_pinned_is_refused(tmp_path):
    (tmp_path / "evil.jar").write_bytes(b"")
    with pytest.raises(StackError, match=r"evil\.jar is not the pinned one"):
        verify(tmp_path, {})


def test_credentials_are_made_once_and_for_the_owner_alone(tmp_path):
    made = make_credentials(tmp_path / "secrets")
    passwords = made.password("admin"), made.password("user-streamforge")
    assert len(set(passwords)) == 2
    assert made.broker.stat().st_mode & 0o077 == 0
    certificate = made.broker.read_bytes()
    again = make_credentials(tmp_path / "secrets")
    assert (again.password("admin"), again.password("user-streamforge")) == passwords
    assert again.broker.read_bytes() == certificate


def test_with_a_prefix_the_client_has_rights_on_its_own_topics_only():
    topics = {(right.name, right.pattern) for right in rights.rights("a-") if right.resource == rights.TOPIC}
    assert topics == {("a-", rights.PREFIXED)}


def test_a_refused_right_is_told_with_the_brokers_words():
    message = b"no"
    response = struct.pack(">iii", 1, 0, 2) + struct.pack(">hh", 0, -1) + struct.pack(">hh", 31, 2) + message
    with pytest.raises(StackError, match="error 31 no"):
        rights._check(response)


def test_writers_of_one_log_do_not_tear_each_others_lines(tmp_path):
    log = RotatingLog(tmp_path / "part.log", max_bytes=5_000)
    threads = [
        threading.Thread(target=lambda c=c: [log.write(c * 50 + b"\n") for _ in range(60)]) for c in (b"a", b"b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    lines = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert sorted(lines) == ["a" * 50] * 60 + ["b" * 50] * 60
