"""Starts, watches and removes Jobs: one Protocol, one module per platform that implements it.

It reports what is and never decides what should be: judging an end is the controller's.
"""

from queue_manager.launcher.interface import (
    Condition,
    JobEvent,
    JobExists,
    JobRefused,
    JobSpec,
    JobStatus,
    Launcher,
    LauncherError,
    LauncherUnavailable,
    LogLine,
    OrdinalStatus,
    Phase,
    Volume,
)

__all__ = [
    "Condition",
    "JobEvent",
    "JobExists",
    "JobRefused",
    "JobSpec",
    "JobStatus",
    "Launcher",
    "LauncherError",
    "LauncherUnavailable",
    "LogLine",
    "OrdinalStatus",
    "Phase",
    "Volume",
]
