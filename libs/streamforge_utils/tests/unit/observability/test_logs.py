import io
import json
import logging
import subprocess
import sys

import pytest
import structlog
from pydantic import SecretStr

from streamforge_utils.observability import logs

pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture
def lines(capsysbinary):
    """Call it for the lines since it was last called."""

    def read():
        return [json.loads(line) for line in capsysbinary.readouterr().err.splitlines()]

    return read


def test_every_line_is_json_and_carries_what_was_bound(lines):
    logs.configure(queue_id="wf-a", step="load", run="01J")
    structlog.get_logger(component="sink").info("batch_written", records=3)
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "batch_written",
        "component": "sink",
        "records": 3,
        "queue_id": "wf-a",
        "step": "load",
        "run": "01J",
    }


def test_configured_again_nothing_bound_before_is_left_and_no_line_comes_twice(lines):
    logs.configure(queue_id="wf-a")
    logs.configure(step="load")
    logging.getLogger("aiokafka").warning("once")
    (line,) = lines()
    assert line["step"] == "load"
    assert "queue_id" not in line


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "hunter2"},
        {"KAFKA_PASSWORD": "hunter2"},
        {"settings": {"sasl": {"plain_password": "hunter2"}}},
        {"value": SecretStr("hunter2")},
        {"values": [SecretStr("hunter2")]},
        {"api_key": "hunter2"},
        {"Authorization": "Bearer hunter2"},
        {"url": "https://me:hunter2@example.org/x"},
        {"reason": "GET https://me:hunter2@example.org/x said 500"},
    ],
)
def test_a_secret_never_gets_into_a_line(lines, fields):
    logs.configure()
    structlog.get_logger().error("failed", **fields)
    (line,) = lines()
    assert "hunter2" not in json.dumps(line)
    assert logs.MASK in json.dumps(line)


def test_an_exception_is_told_without_the_values_of_its_variables(lines):
    logs.configure()
    try:
        password = "hunter2"  # noqa: F841 - it is what must not be seen
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines()
    assert "ValueError: broken" in line["exception"]
    assert "hunter2" not in line["exception"].replace('password = "hunter2"', "")


@pytest.mark.parametrize("value", ["\ud800", 2**80, object(), {1: {2, 3}}, float("nan"), b"\xff"])
def test_a_value_that_json_does_not_have_is_still_logged(lines, value):
    logs.configure()
    structlog.get_logger().info("odd", value=value)
    (line,) = lines()
    assert "odd" in {line.get("event"), line.get("'event'", "").strip("'")}


def test_lines_of_libraries_go_the_same_way_from_warning_on(lines):
    logs.configure(queue_id="wf-a")
    logging.getLogger("aiokafka.client").info("chatter")
    logging.getLogger("aiokafka.client").error("Unable connect to %s", "broker")
    (line,) = lines()
    assert line["event"] == "Unable connect to broker"
    assert line["component"] == "aiokafka.client"
    assert line["level"] == "error"
    assert line["queue_id"] == "wf-a"


def test_a_library_that_repeats_itself_is_heard_once(lines):
    logs.configure()
    for attempt in range(50):
        logging.getLogger("aiokafka").error("Unable connect, attempt %d", attempt)
    logging.getLogger("aiokafka").error("something else")
    assert [line["event"] for line in lines()] == ["Unable connect, attempt 0", "something else"]


def test_a_record_that_cannot_be_formatted_ends_nothing(lines, monkeypatch):
    logs.configure()
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("aiokafka").error("%d", "no number")
    structlog.get_logger().info("still_here")
    assert [line["event"] for line in lines()] == ["still_here"]


def test_the_level_is_obeyed_and_a_wrong_one_refused(lines):
    logs.configure(level="warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines()] == ["loud"]
    with pytest.raises(ValueError, match="LOUD"):
        logs.configure(level="loud".upper())


def test_debug_writes_lines_for_people(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    logs.configure(debug=True)
    structlog.get_logger().debug("batch_written", password="hunter2", records=3)
    assert "batch_written" in out.getvalue()
    assert "records=3" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_importing_the_package_configures_nothing():
    code = (
        "import logging, structlog, threading, streamforge_utils.observability, streamforge_utils.observability.logs;"
        "assert not structlog.is_configured() and not logging.getLogger().handlers and threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
