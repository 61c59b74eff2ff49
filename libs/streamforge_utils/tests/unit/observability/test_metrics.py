"""What a worker's metrics promise."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import streamforge_utils
from streamforge_utils.observability import WorkerMetrics

PACKAGE = Path(streamforge_utils.__file__).parent
CODE = "\n".join(p.read_text() for part in ("worker", "control") for p in sorted((PACKAGE / part).glob("*.py")))


@pytest.mark.parametrize("name", vars(WorkerMetrics(CollectorRegistry())))
def test_every_series_is_fed(name):
    assert re.search(rf"(?:\bm|metrics)\.{name}\b", CODE), f"nothing ever changes {name}"
