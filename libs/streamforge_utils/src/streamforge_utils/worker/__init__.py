"""The runtime of a worker: puts settings, control, telemetry and pipeline together; signals; exit codes."""

from streamforge_utils.worker.context import Build, Report, WorkerContext
from streamforge_utils.worker.runner import run_worker

__all__ = ["Build", "Report", "WorkerContext", "run_worker"]
