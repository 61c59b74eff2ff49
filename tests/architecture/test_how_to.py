"""The source that docs/how-to/write-a-source.md shows keeps what the page says a source has to keep."""

import re
from typing import Any

import pytest

from streamforge_utils import codec
from streamforge_utils.errors import TransientError
from streamforge_utils.pipeline import Batching, Pipeline, runner
from streamforge_utils.pipeline.runner import Job, Outcome, Runner
from streamforge_utils.testing import MemoryCommitter, MemoryKafka, MemoryReader, RecordingObserver


@pytest.fixture
def shown(root) -> dict[str, Any]:
    page = (root / "docs/how-to/write-a-source.md").read_text()
    names: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0], names)
    return names


@pytest.mark.parametrize("cut", range(6))
async def test_the_shown_source_cut_at_any_commit_gives_every_record_once(shown, cut, monkeypatch):
    monkeypatch.setattr(runner, "PAUSE_SECONDS", 0.0)
    kafka = MemoryKafka()
    committer = MemoryCommitter(kafka)
    committer.fails = [*[None] * cut, TransientError("cut")]
    pipeline = Pipeline(source=shown["Numbers"](10), batching=Batching(max_records=2, linger_s=0))
    job = Job(step="numbers", writes={"data": "topic"})
    running = Runner(pipeline, job, committer=committer, reader=MemoryReader(kafka), observer=RecordingObserver())
    assert await running.run() is Outcome.FINISHED
    assert [codec.decode(value)["number"] for value in kafka.values("topic")] == list(range(10))
