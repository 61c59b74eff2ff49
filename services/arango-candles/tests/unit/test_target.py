"""The target's file says what the code does."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from arango_candles.main import TARGET, build
from streamforge_utils.contracts import candle
from streamforge_utils.errors import ConfigurationError
from streamforge_utils.settings import NoParams, WorkerSettings
from streamforge_utils.worker import WorkerContext


@pytest.fixture
def target() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parents[2] / "target.yaml").read_text())


def context(collection: str) -> WorkerContext[NoParams]:
    settings = WorkerSettings(collection_name=collection, queue_id="wf-1")
    return WorkerContext(settings=settings, params=NoParams(), registry=CollectorRegistry(), report=print)


def test_the_schema_of_the_params_is_that_of_the_model(target):
    assert target["params"] == NoParams.model_json_schema()


def test_the_command_starts_this_package(target):
    assert target["name"] == TARGET
    assert target["command"] == ["python", "-m", "arango_candles"]


def test_candles_are_read_by_up_to_eight_replicas(target):
    assert target["reads"] == [{"stream": "data", "schema": candle.SCHEMA}]
    assert target["writes"] == []
    assert target["order"] == "none"
    assert target["replicas"]["max"] == 8


def test_a_pipeline_checks_then_stores():
    pipeline = build(context("btcusdt_api_candles_1m_2024_08_01"))
    assert [processor.name for processor in pipeline.processors()] == ["validate"]
    assert pipeline.sink is not None
    assert pipeline.sink.name == "arango"


@pytest.mark.parametrize("collection", ["", "1st", "a/b"])
def test_a_name_that_is_no_collection_s_is_told_at_once(collection):
    with pytest.raises(ConfigurationError, match="COLLECTION_NAME"):
        build(context(collection))
