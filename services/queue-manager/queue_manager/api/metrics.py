"""The API's metrics. Labels are template, target, state, route: never a queue_id, whose series would never end."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from queue_manager.model import TERMINAL

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_STATES = ("pending", "starting", "running", "stopping", *sorted(TERMINAL))


class ApiMetrics:
    """All series of the API, one attribute each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"streamforge_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"streamforge_{name}", text, labels, registry=registry)

        self.requests = counter("http_requests", "Requests answered.", "method", "route", "status")
        self.seconds = Histogram(
            "streamforge_http_request_seconds",
            "From a request's head to its answer's.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.accepted = counter("workflows_accepted", "Workflows accepted.", "template")
        self.steps = counter("steps_accepted", "Steps of accepted workflows.", "target")
        self.workflows = gauge("workflows", "Workflows in the store, by state.", "state")
        self.streams = gauge("open_streams", "Event and log streams open now.")
        ProcessCollector(registry=registry)

    def show(self, counts: Mapping[str, int]) -> None:
        """Set the gauges of the workflows' states."""
        for state in _STATES:
            self.workflows.labels(state).set(counts.get(state, 0))
