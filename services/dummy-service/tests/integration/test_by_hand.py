"""The commands of the handbook, as they stand, against a real Kafka."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
SERVICE = Path(__file__).parents[2]
ROOT = SERVICE.parents[1]
PYTHON = sys.executable


def environment(kafka, queue_id):
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "QUEUE_ID": queue_id,
        "METRICS_PORT": "0",
        "GRACE_S": "10",
    }


@contextmanager
def dummy(kafka, queue_id, *flags):
    """The running service; its log is read line by line until it listens."""
    command = [PYTHON, "-m", "app.main", *flags]
    process = subprocess.Popen(
        command, cwd=SERVICE, env=environment(kafka, queue_id), stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def producer(kafka, queue_id, *flags, timeout="10"):
    command = [PYTHON, "services/dummy-service/debug_producer.py", "--queue-id", queue_id, "--timeout", timeout, *flags]
    return subprocess.run(
        command, check=False, cwd=ROOT, env=environment(kafka, queue_id), capture_output=True, text=True, timeout=60
    )


def ping_until_there(kafka, queue_id, *flags):
    for _ in range(20):
        answer = producer(kafka, queue_id, "--command", "ping", "--expect-pong", *flags, timeout="2")
        if answer.returncode == 0:
            return answer
    raise AssertionError(answer.stderr)


def test_it_answers_a_ping_and_stops(kafka):
    with dummy(kafka, "wf-ping-abc123", "--simulate-loading") as process:
        answer = ping_until_there(kafka, "wf-ping-abc123", "--count", "3")
        assert len(re.findall(r"pong from dummy-service__abc123 in [0-9.]+ ms", answer.stdout)) == 3
        assert "3 pongs: min" in answer.stdout
        found = json.loads(producer(kafka, "wf-ping-abc123", "--command", "ping", "--expect-pong", "--json").stdout)
        assert found["producer"] == "dummy-service__abc123"
        assert 0 < found["round_trip_ms"] < 10_000
        assert producer(kafka, "wf-ping-abc123", "--command", "stop").stdout == "stop sent to wf-ping-abc123\n"
        assert process.wait(30) == 0


def test_a_ping_that_nobody_answers_ends_with_a_sentence(kafka):
    answer = producer(kafka, "wf-nobody", "--command", "ping", "--expect-pong", timeout="1")
    assert answer.returncode == 1
    assert answer.stderr.startswith("no pong from wf-nobody within 1 s (ping 1 of 1)")
    assert answer.stderr.count("\n") == 1


def test_no_kafka_ends_with_a_sentence():
    class Nowhere:
        bootstrap_servers = "127.0.0.1:1"

    start = time.monotonic()
    answer = producer(Nowhere, "wf-x", "--command", "stop")
    assert answer.returncode == 1
    assert "Kafka at 127.0.0.1:1" in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert time.monotonic() - start < 15


def test_fail_after_says_error_and_exits_1(kafka):
    with dummy(kafka, "wf-fail-abc123", "--simulate-loading", "--rate", "1000", "--fail-after", "20") as process:
        assert process.wait(60) == 1
        assert "failed after 20 records" in process.stderr.read()


def test_it_is_steered_while_it_runs(kafka):
    with dummy(kafka, "wf-steer-abc123") as process:
        ping_until_there(kafka, "wf-steer-abc123")
        producer(kafka, "wf-steer-abc123", "--command", "fail-after", "--payload", '{"n": 1}')
        producer(kafka, "wf-steer-abc123", "--command", "simulate-loading", "--payload", '{"rate": 999, "records": 50}')
        assert process.wait(30) == 0
        text = process.stderr.read()
        assert "message_skipped" in text
        assert '"exit_code":0' in text


def test_metrics_are_on_their_port(kafka, free_metrics_port):
    queue = "wf-metrics-abc123"
    command = [PYTHON, "-m", "dummy_service", "--simulate-loading", "--rate", "1000"]
    env = environment(kafka, queue) | {"METRICS_PORT": str(free_metrics_port)}
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        ping_until_there(kafka, queue)
        with urllib.request.urlopen(f"http://127.0.0.1:{free_metrics_port}/metrics", timeout=5) as answer:
            assert b'streamforge_records_total{result="stored"}' in answer.read()
        with urllib.request.urlopen(f"http://127.0.0.1:{free_metrics_port}/health/ready", timeout=5) as answer:
            assert json.load(answer)["status"] == "ok"
        second = subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=30)
        assert second.returncode == 78
        assert f"port {free_metrics_port} of 127.0.0.1 is in use" in second.stderr
    finally:
        process.terminate()
        assert process.wait(30) == 143
