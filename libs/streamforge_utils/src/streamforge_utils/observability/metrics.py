"""A worker's metrics, made on the registry that is handed in.

Labels never carry a queue_id: a series per workflow would grow without end; who scrapes a worker knows its workflow.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class WorkerMetrics:
    """All of a worker's own series, one attribute each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"streamforge_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"streamforge_{name}", text, registry=registry)

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(f"streamforge_{name}_seconds", text, buckets=_SECONDS, registry=registry)

        self.records = counter("records", "Input records by what became of them, counted at the commit.", "result")
        """``result``: stored, dead_lettered, dropped."""
        self.written = counter("records_written", "Records written to streams.")
        self.batch_seconds = seconds("batch", "From the first record of a batch to its commit.")
        self.sink_seconds = seconds("sink_write", "One write of the sink that succeeded.")
        self.commit_seconds = seconds("commit", "One commit (a Kafka transaction).")
        self.retries = counter("retries", "Calls that were tried again, by component.", "component")
        self.lag = gauge("lag_records", "Records between the worker's position and the ends of its input.")
        self.last_commit = gauge("last_commit_timestamp_seconds", "When the last commit succeeded; 0: none yet.")
        self.events = counter("events", "Events that Kafka acknowledged.", "event")
        self.events_lost = counter("events_lost", "Events that were given up: progress, pongs, unsendable ones.")
        self.last_event = gauge("last_event_timestamp_seconds", "When Kafka last acknowledged an event; 0: never.")
        self.commands = counter("commands", "Commands that were obeyed.", "command")
        self.messages_skipped = counter("messages_skipped", "Messages of queue-control that are no commands.", "code")
        ProcessCollector(registry=registry)
