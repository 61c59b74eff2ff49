"""What is published is what the queue-manager leaves out of its Jobs, as pods see it; no value is shown."""

from pathlib import Path

import pytest

from queue_manager import cluster
from queue_manager.controller.launch import Platform
from queue_manager.settings import QueueManagerSettings
from streamforge_utils.errors import ConfigurationError
from streamforge_utils.settings import ArangoSettings, KafkaSettings

PODS = {"KAFKA_BOOTSTRAP_SERVERS": "10.244.0.1:9092", "ARANGO_URL": "http://10.244.0.1:8529", "DATA_ROOTS": "/data"}


@pytest.fixture
def settings(tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_text("a certificate")
    kafka = KafkaSettings(user="user-streamforge", password="hunter2", ca_path=authority)
    arango = ArangoSettings(user="streamforge", password="hunter3")
    return QueueManagerSettings(launcher="kubernetes", kafka=kafka, arango=arango)


def published(settings, **more):
    return cluster._publication(settings, "abcd1234", **{"changed": PODS, "files": {}} | more)


def test_every_variable_that_jobs_are_made_without_is_there(settings):
    told = published(settings)
    platform = Platform.of(settings)
    assert told.env.keys() == platform.env.keys()
    assert told.secret_env == platform.secret_env
    assert set(told.secret_env) == {"ARANGO_PASSWORD", "KAFKA_PASSWORD"}


def test_addresses_are_those_that_pods_are_told(settings):
    told = published(settings)
    assert {name: told.env[name] for name in PODS} == PODS
    assert told.env["METRICS_PORT"] == "8000"
    assert told.env["KAFKA_USER"] == "user-streamforge"


def test_a_file_is_a_key_of_its_secret(settings):
    files = dict([cluster._file(f"worker-kafka={settings.kafka.ca_path}")])
    told = published(settings, files=files)
    assert {key: text.get_secret_value() for key, text in told.files["worker-kafka"].items()} == {
        "ca.pem": "a certificate"
    }


def test_no_secret_is_in_its_repr(settings):
    shown = repr(published(settings, files={"worker-kafka": settings.kafka.ca_path}))
    assert not any(secret in shown for secret in ("hunter2", "hunter3", "a certificate"))


def test_a_file_that_is_not_there_is_named(settings):
    with pytest.raises(ConfigurationError, match=r"/nowhere/ca\.pem"):
        published(settings, files={"worker-kafka": Path("/nowhere/ca.pem")})


@pytest.mark.parametrize("wrong", ["ADDRESS", "=value", "--set"])
def test_a_variable_without_a_value_is_refused(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        cluster.main(["tell", "--installation", "abcd1234", f"--set={wrong}"])
    assert ended.value.code == 2
    assert "is not NAME=VALUE" in capsys.readouterr().err


def test_a_context_that_is_not_there_is_one_line_and_exit_78(tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level("ERROR")  # as the command itself has it
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    monkeypatch.setenv("KUBE_CONTEXT", "absent")
    assert cluster.main(["prepare"]) == 78
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "KUBECONFIG" in told.err


def test_a_cluster_on_another_machine_is_not_used_unless_it_is_named(tmp_path, monkeypatch, capsys):
    config = tmp_path / "config"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: prod\n"
        "clusters: [{name: prod, cluster: {server: 'https://198.51.100.1:6443'}}]\n"
        "users: [{name: me, user: {token: x}}]\n"
        "contexts: [{name: prod, context: {cluster: prod, user: me}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.delenv("KUBE_CONTEXT", raising=False)
    assert cluster.main(["prepare"]) == 78
    told = capsys.readouterr().err
    assert "leads to https://198.51.100.1:6443, not to this machine" in told
    assert "KUBE_CONTEXT" in told
