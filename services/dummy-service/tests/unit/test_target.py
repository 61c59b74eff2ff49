"""The target's file says what the code does."""

from pathlib import Path

import yaml

from dummy_service.params import DummyParams

TARGET = yaml.safe_load((Path(__file__).parents[2] / "target.yaml").read_text())


def test_the_schema_of_the_params_is_that_of_the_model():
    assert TARGET["params"] == DummyParams.model_json_schema()


def test_every_type_of_workflow_may_name_it():
    assert TARGET["name"] == "dummy-service"
    assert TARGET["command"] == ["python", "-m", "dummy_service"]
    assert TARGET["types"] == ["*"]
    assert TARGET["reads"] == TARGET["writes"] == []
