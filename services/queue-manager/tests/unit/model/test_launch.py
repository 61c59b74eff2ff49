"""The Job of a launch."""

import json

import pytest
from pydantic import SecretStr

from queue_manager.controller.launch import Platform, digest, job_name, job_spec
from queue_manager.model import SecretRef
from queue_manager.settings import QueueManagerSettings
from streamforge_utils.errors import ConfigurationError
from streamforge_utils.settings import ArangoSettings, KafkaSettings, WorkerSettings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    for name in ("KAFKA_USER", "KAFKA_PASSWORD", "ARANGO_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return QueueManagerSettings(
        secrets_file=tmp_path / "secrets.env",
        kafka=KafkaSettings(user="u", password=SecretStr("kafka-secret"), topic_prefix="p-"),
        arango=ArangoSettings(password=SecretStr("arango-secret")),
    )


def launched(tell, make_step, **more):
    story = tell(make_step("loader", writes=("data",)), make_step("sink", reads=("data",), **more))
    story.launch("loader")
    story.launch("sink")
    return story.document


def test_the_environment_is_what_a_worker_reads(tell, make_step, settings, monkeypatch):
    document = launched(tell, make_step, replicas=2)
    sink = document.spec.step("sink")
    made = job_spec(document, sink, document.step("sink").launch, Platform.of(settings))
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    for name, secret in made.secret_env.items():
        monkeypatch.setenv(name, secret.get_secret_value())
    monkeypatch.setenv("ORDINAL", "1")
    read = WorkerSettings()
    assert (read.queue_id, read.symbol, str(read.type), str(read.time_range)) == (
        document.queue_id,
        "BTCUSDT",
        "api_candles_1m",
        "2024-08-01:2024-08-02",
    )
    assert (read.step, read.launch, read.ordinal, read.replicas, read.former) == ("sink", 1, 1, 2, ())
    assert read.streams.reads == {"data": f"{document.queue_id}-data"}
    assert read.queue_control_topic == "p-queue-control"
    assert read.queue_events_topic == "p-queue-events"
    assert read.queue_control_offsets == {0: 0}
    assert read.dead_letter_topic == f"{document.queue_id}-dead-letter"
    assert (read.installation, read.metrics_port, read.collection_name) == ("inst", 0, "candles")
    assert read.kafka.password.get_secret_value() == "kafka-secret"
    assert made.env["KAFKA_TOPIC"] == f"{document.queue_id}-data"
    assert read.telemetry_producer_id == ""


def test_no_secret_is_shown(tell, make_step, settings):
    document = launched(tell, make_step)
    platform = Platform.of(settings)
    made = job_spec(document, document.spec.step("sink"), document.step("sink").launch, platform)
    for text in (repr(made), repr(platform), json.dumps(dict(made.env))):
        assert "kafka-secret" not in text
        assert "arango-secret" not in text


def test_a_targets_secrets_come_from_the_secrets_file(tell, make_step, settings):
    document = launched(tell, make_step, secrets=(SecretRef(env="API_KEY", secret="exchange", key="key"),))
    sink, launch = document.spec.step("sink"), document.step("sink").launch
    with pytest.raises(ConfigurationError, match=r"exchange\.key"):
        job_spec(document, sink, launch, Platform.of(settings))
    settings.secrets_file.write_text("# ours\n\nexchange.key=a=b\n")
    assert job_spec(document, sink, launch, Platform.of(settings)).secret_env["API_KEY"].get_secret_value() == "a=b"
    settings.secrets_file.write_text("exchange.key=1\nnonsense\n")
    with pytest.raises(ConfigurationError, match="line 2"):
        Platform.of(settings)


def test_former_launches_and_names(tell, make_step):
    document = launched(tell, make_step)
    sink = document.spec.step("sink")
    launch = document.step("sink").launch
    third = launch.model_copy(update={"number": 3})
    document.step("sink").launches = [launch, launch.model_copy(update={"number": 2}), third]
    made = job_spec(document, sink, third, Platform({}, {}))
    assert made.env["FORMER"] == "[[1,1],[2,1]]"
    assert made.env["TELEMETRY_PRODUCER_ID"] == "sink__abc123"
    assert job_name(document, sink, 1) == "job-sink-btcusdt-abc123"
    assert job_name(document, sink, 3) == "job-sink-btcusdt-abc123-3"
    assert digest(document, sink) == digest(document, sink) != digest(document, document.spec.step("loader"))


def test_folders_are_separated_as_in_path(monkeypatch):
    monkeypatch.setenv("TARGETS_DIRS", "/a:/b")
    monkeypatch.setenv("DATA_ROOTS", "/")
    read = QueueManagerSettings()
    assert [str(folder) for folder in read.targets_dirs] == ["/a", "/b"]
    assert [str(folder) for folder in read.data_roots] == ["/"]
