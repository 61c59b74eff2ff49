"""The contract between queue-manager, workers and clients: names, messages, records, reasons.

Pure: no I/O, no driver.
"""

from streamforge_utils.contracts import (
    candle,
    commands,
    dead_letters,
    events,
    names,
    reasons,
    time_range,
    workflow_type,
)

__all__ = ["candle", "commands", "dead_letters", "events", "names", "reasons", "time_range", "workflow_type"]
