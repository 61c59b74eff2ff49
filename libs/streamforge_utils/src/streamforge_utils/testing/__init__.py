"""In-memory doubles of every port, so that a service is tested without servers. Nothing of the wheel imports this."""

from streamforge_utils.testing.pipeline import (
    ListSource,
    MemoryCommitter,
    MemoryKafka,
    MemoryReader,
    MemorySink,
    NullSink,
    RecordingObserver,
)

__all__ = [
    "ListSource",
    "MemoryCommitter",
    "MemoryKafka",
    "MemoryReader",
    "MemorySink",
    "NullSink",
    "RecordingObserver",
]
