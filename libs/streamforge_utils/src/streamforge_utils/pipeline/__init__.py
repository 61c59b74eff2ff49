"""The pipeline core: what components are, and the runner that makes one commit of what they do."""

from streamforge_utils.pipeline.interfaces import (
    SINK,
    Batch,
    Batching,
    Cache,
    Delivery,
    EndOfSource,
    Pipeline,
    Processor,
    Refused,
    Routed,
    Sink,
    Source,
    Stateful,
    Verdicts,
    keyed_json,
)

__all__ = [
    "SINK",
    "Batch",
    "Batching",
    "Cache",
    "Delivery",
    "EndOfSource",
    "Pipeline",
    "Processor",
    "Refused",
    "Routed",
    "Sink",
    "Source",
    "Stateful",
    "Verdicts",
    "keyed_json",
]
