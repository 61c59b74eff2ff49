"""The target's file says what the code does."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from candle_indicators.main import TARGET, build
from candle_indicators.params import IndicatorParams
from streamforge_utils.contracts import candle
from streamforge_utils.pipeline import Batch
from streamforge_utils.settings import WorkerSettings
from streamforge_utils.worker import WorkerContext


@pytest.fixture
def target() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parents[2] / "target.yaml").read_text())


def test_the_schema_of_the_params_is_that_of_the_model(target):
    assert target["params"] == IndicatorParams.model_json_schema()


def test_the_command_starts_this_package(target):
    assert target["name"] == TARGET
    assert target["command"] == ["python", "-m", "candle_indicators"]


def test_candles_are_read_in_order_and_written_enriched(target):
    assert target["reads"] == [{"stream": "data", "schema": candle.SCHEMA}]
    assert target["writes"] == [{"stream": "enriched", "schema": candle.SCHEMA}]
    assert target["order"] == "stream"
    assert target["replicas"]["max"] == 1


def test_each_partition_gets_a_chain_of_its_own(monkeypatch):
    monkeypatch.setenv("SYMBOL", "BTCUSDT")
    monkeypatch.setenv("TYPE", "api_candles_1m")
    settings = WorkerSettings()
    params = IndicatorParams(ema=[2])
    context = WorkerContext(settings=settings, params=params, registry=CollectorRegistry(), report=print)
    pipeline = build(context)
    (first,), (second,) = pipeline.processors(), pipeline.processors()
    assert first is not second
    assert pipeline.schema == candle.SCHEMA
    batch = Batch.of([{}])
    first.process(batch)
    assert batch.verdicts.refused[0][0] == "wrong-schema"
