from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
import yaml
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from loader_candles.files_source import FilesSource
from loader_candles.live_source import LiveSource
from loader_candles.main import HostSettings, build, source_of
from loader_candles.pacing import PacedSource
from loader_candles.params import LoaderParams
from loader_candles.rest_source import RestSource
from loader_candles.simulated_source import SimulatedSource
from streamforge_utils import codec
from streamforge_utils.contracts.time_range import TimeRange
from streamforge_utils.contracts.workflow_type import WorkflowType
from streamforge_utils.errors import ConfigurationError
from streamforge_utils.worker import WorkerContext

TARGET = yaml.safe_load((Path(__file__).parents[2] / "target.yaml").read_text())

GOOD = [
    {"source": "simulated", "seed": 7, "rate": 100},
    {"source": "file:///data/BTCUSDT-1m-*.csv.gz"},
    {"source": "binance-archive", "base_url": "http://mirror.example/binance"},
    {"source": "binance-rest", "weight_share": 0.1, "base_url": None},
    {"source": "binance-ws", "base_url": "https://api.example", "ws_url": "wss://stream.example:9443"},
]
BAD = [
    {},
    {"source": None},
    {"source": "kraken"},
    {"source": "simulated "},
    {"source": "simulated\n"},
    {"source": "binance-rest", "base_url": "https://api.example\n"},
    {"source": "file://host/data.csv"},
    {"source": "file:///"},
    {"source": "file:///data/../etc/passwd"},
    {"source": "file:///data/.."},
    {"source": "file:///a\nb"},
    {"source": f"file:///{'a' * 1024}"},
    {"source": "simulated", "unknown": 1},
    {"source": "simulated", "rate": 0},
    {"source": "simulated", "rate": "fast"},
    {"source": "simulated", "seed": -1},
    {"source": "simulated", "seed": 1.5},
    {"source": "simulated", "base_url": "https://api.example"},
    {"source": "file:///a.csv", "base_url": "https://api.example"},
    {"source": "binance-rest", "base_url": "ftp://api.example"},
    {"source": "binance-rest", "base_url": "https://user:password@api.example"},
    {"source": "binance-rest", "base_url": "https://api.example/?a=b"},
    {"source": "binance-rest", "ws_url": "wss://stream.example"},
    {"source": "binance-ws", "ws_url": "https://stream.example"},
    {"source": "binance-rest", "weight_share": 1.1},
    {"source": "binance-rest", "weight_limit": 0},
    {"source": "binance-rest", "timeout_s": 0},
]


def test_the_target_says_the_schema_of_the_params():
    assert TARGET["params"] == LoaderParams.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(TARGET["params"])


@pytest.mark.parametrize("params", GOOD, ids=str)
def test_good_params_are_taken_by_the_model_and_the_schema(params):
    LoaderParams.model_validate_json(codec.encode(params))
    jsonschema.validate(params, TARGET["params"])


@pytest.mark.parametrize("params", BAD, ids=lambda params: str(params)[:60])
def test_bad_params_are_refused_by_the_model_and_the_schema(params):
    with pytest.raises(ValidationError):
        LoaderParams.model_validate_json(codec.encode(params))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(params, TARGET["params"])


@pytest.fixture
def context():
    def make(type_="api_candles_1m", time_range="2025-08-01:2025-08-02", symbol="btcusdt", **params):
        settings = SimpleNamespace(
            symbol=symbol,
            type=WorkflowType.parse(type_),
            time_range=time_range and TimeRange.parse(time_range),
        )
        return WorkerContext(settings, LoaderParams(**params), CollectorRegistry(), lambda message, **payload: None)

    return make


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({"source": "simulated"}, SimulatedSource),
        ({"source": "simulated", "type_": "ws_candles_1m", "time_range": None}, SimulatedSource),
        ({"source": "file:///a.csv"}, FilesSource),
        ({"source": "file:///a.csv", "time_range": None}, FilesSource),
        ({"source": "binance-archive"}, FilesSource),
        ({"source": "binance-rest"}, RestSource),
        ({"source": "binance-ws", "type_": "ws_candles_1m", "time_range": None}, LiveSource),
        ({"source": "simulated", "rate": 5}, PacedSource),
    ],
    ids=str,
)
def test_the_params_choose_the_source(given, source, context):
    pipeline = build(context(**given))
    assert isinstance(pipeline.source, source)
    assert (pipeline.schema, pipeline.sink) == ("candle.v1", None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "binance-ws"}, "binance-ws is for live"),
        ({"source": "binance-rest", "type_": "ws_candles_1m", "time_range": None}, "binance-rest is for bounded"),
        ({"source": "binance-archive", "time_range": None}, "needs a time range"),
        ({"source": "simulated", "time_range": None}, "needs a time range"),
        ({"source": "simulated", "symbol": ""}, "SYMBOL is not set"),
        ({"source": "simulated", "type_": "api_candles"}, "names no interval"),
    ],
    ids=str,
)
def test_a_workflow_that_does_not_fit_the_source_is_told(given, message, context):
    with pytest.raises(ConfigurationError, match=message):
        source_of(context(**given), HostSettings())


def test_the_roots_come_from_the_operator(monkeypatch):
    monkeypatch.setenv("DATA_ROOTS", "/data:/mnt/candles")
    assert HostSettings().roots == [Path("/data"), Path("/mnt/candles")]
