"""The words of the interface."""

from queue_manager.launcher import JobExists, JobStatus, Launcher
from queue_manager.launcher.interface import LABELS
from queue_manager.launcher.memory import MemoryLauncher
from queue_manager.launcher.process import ProcessLauncher


def test_a_spec_shows_no_secret(spec):
    assert "hunter2" not in repr(spec)


def test_the_labels_name_the_launch(spec):
    assert spec.labels == {
        "queue_id": "wf-btcusdt-abc123",
        "step": "loader",
        "target": "loader-candles",
        "launch": "2",
        "installation": "i1",
        "decision_id": "d1",
    }
    assert set(spec.labels) == set(LABELS)


def test_a_taken_name_says_by_which_decision():
    labels = {"decision_id": "d0"}
    status = JobStatus(name="job-x", labels=labels, condition=None, ordinals=(), live=0, created_at=0.0)
    assert str(JobExists(status)) == "Job job-x exists already (decision d0)"


def test_both_launchers_are_launchers(tmp_path):
    launchers: list[Launcher] = [MemoryLauncher(), ProcessLauncher(tmp_path / "socket")]
    for launcher in launchers:
        for name in ("create", "get", "list", "watch", "delete", "logs", "close"):
            assert callable(getattr(launcher, name))
