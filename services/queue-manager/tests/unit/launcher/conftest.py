"""A launch of a step, for the tests of this folder."""

import pytest
from pydantic import SecretStr

from queue_manager.launcher import JobSpec


@pytest.fixture
def spec():
    return JobSpec(
        name="job",
        queue_id="wf-btcusdt-abc123",
        step="loader",
        target="loader-candles",
        launch=2,
        installation="i1",
        decision_id="d1",
        command=("python", "-m", "loader_candles"),
        image="loader-candles@sha256:0",
        env={"A": "1"},
        secret_env={"KAFKA_PASSWORD": SecretStr("hunter2")},
        replicas=2,
        backoff_limit=0,
        grace_s=5.0,
    )
