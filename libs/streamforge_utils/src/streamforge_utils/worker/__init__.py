"""The runtime of a worker: puts settings, control, telemetry and pipeline together; signals; exit codes."""

from streamforge_utils.worker.context import Build, Report, WorkerContext

__all__ = ["Build", "Report", "WorkerContext"]
