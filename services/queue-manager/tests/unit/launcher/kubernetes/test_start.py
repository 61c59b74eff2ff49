"""What a queue-manager that is to run Jobs in a cluster refuses before it begins."""

import json

import pytest

from queue_manager.launcher.kubernetes.launcher import KubernetesLauncher
from queue_manager.launcher.kubernetes.lease import LeaseElection
from queue_manager.main import _launcher
from queue_manager.settings import QueueManagerSettings
from streamforge_utils.errors import ConfigurationError
from streamforge_utils.settings import read_settings

TARGET = """
apiVersion: streamforge/v1
kind: Target
name: loader
description: loads
version: "1"
image: loader:1
command: [loader]
types: ["*"]
secrets: [{env: API_TOKEN, secret: exchange, key: token}]
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    (tmp_path / "loader").mkdir()
    (tmp_path / "loader/target.yaml").write_text(TARGET)
    monkeypatch.setenv("LAUNCHER", "kubernetes")
    monkeypatch.setenv("TARGETS_DIRS", str(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    return read_settings(QueueManagerSettings)


def patched(monkeypatch, container):
    monkeypatch.setenv("KUBERNETES_POD_TEMPLATE_PATCH", json.dumps({"spec": {"containers": [container]}}))


def test_a_patch_for_a_target_is_taken(settings, monkeypatch):
    patched(monkeypatch, {"name": "loader", "env": [{"name": "TZ", "value": "UTC"}]})
    launcher, election = _launcher(settings)
    assert isinstance(launcher, KubernetesLauncher)
    assert isinstance(election, LeaseElection)


def test_a_patch_for_a_container_that_is_no_target_is_refused(settings, monkeypatch):
    patched(monkeypatch, {"name": "laoder", "env": [{"name": "TZ", "value": "UTC"}]})
    with pytest.raises(ConfigurationError, match=r"spec\.containers\[laoder\]: no target is called so"):
        _launcher(settings)


@pytest.mark.parametrize("variable", ["ARANGO_PASSWORD", "QUEUE_EVENTS_TOPIC", "API_TOKEN"])
def test_a_patch_of_a_variable_that_the_platform_or_a_target_sets_is_refused(settings, monkeypatch, variable):
    patched(monkeypatch, {"name": "loader", "env": [{"name": variable, "value": "x"}]})
    with pytest.raises(ConfigurationError, match=rf"env\[{variable}\]: the platform sets it"):
        _launcher(settings)
