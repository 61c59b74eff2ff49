"""What a process says about itself: log lines, metrics, health, and the small server that shows the last two."""

from streamforge_utils.observability.health import Health
from streamforge_utils.observability.metrics import WorkerMetrics
from streamforge_utils.observability.server import ObservabilityServer

__all__ = ["Health", "ObservabilityServer", "WorkerMetrics"]
