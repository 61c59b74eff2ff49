"""The words of the interface."""

from pydantic import SecretStr

from queue_manager.launcher import JobExists, JobSpec, JobStatus, Launcher
from queue_manager.launcher.interface import LABELS
from queue_manager.launcher.memory import MemoryLauncher
from queue_manager.launcher.process import ProcessLauncher


def a_spec(**more):
    values = {
        "name": "job-loader-btcusdt-abc123",
        "queue_id": "wf-btcusdt-abc123",
        "step": "loader",
        "target": "loader-candles",
        "launch": 2,
        "installation": "i1",
        "decision_id": "d1",
        "command": ("python", "-m", "loader_candles"),
        "image": "loader-candles@sha256:0",
        "env": {"A": "1"},
        "secret_env": {"KAFKA_PASSWORD": SecretStr("hunter2")},
        "replicas": 1,
        "backoff_limit": 2,
        "grace_s": 30.0,
    }
    return JobSpec(**(values | more))


def test_a_spec_shows_no_secret():
    assert "hunter2" not in repr(a_spec())


def test_the_labels_name_the_launch():
    assert a_spec().labels == {
        "queue_id": "wf-btcusdt-abc123",
        "step": "loader",
        "target": "loader-candles",
        "launch": "2",
        "installation": "i1",
        "decision_id": "d1",
    }
    assert set(a_spec().labels) == set(LABELS)


def test_a_taken_name_says_by_which_decision():
    labels = {"decision_id": "d0"}
    status = JobStatus(name="job-x", labels=labels, condition=None, ordinals=(), live=0, created_at=0.0)
    assert str(JobExists(status)) == "Job job-x exists already (decision d0)"


def test_both_launchers_are_launchers(tmp_path):
    launchers: list[Launcher] = [MemoryLauncher(), ProcessLauncher(tmp_path / "socket")]
    for launcher in launchers:
        for name in ("create", "get", "list", "watch", "delete", "logs", "close"):
            assert callable(getattr(launcher, name))
