"""The cluster's settings, from the environment as a chart writes it."""

import json

import pytest
from pydantic import ValidationError

from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from streamforge_utils.errors import ConfigurationError
from streamforge_utils.settings import read_settings


def test_the_defaults_are_those_of_the_handbook_and_of_a_lost_node():
    given = KubernetesSettings()
    assert (given.namespace, given.ttl_s, given.context) == ("stf", 3600, None)
    assert (given.config_map, given.secret) == ("streamforge-worker", "streamforge-worker")
    assert given.tolerations == (
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
    )


def test_it_is_read_from_the_environment(monkeypatch):
    wanted = {
        "node_selector": {"streamforge-worker": "true"},
        "tolerations": [{"operator": "Exists"}],
        "image_pull_secrets": ["a", "b"],
        "secret_mounts": {"kafka-cluster-ca-cert": "/etc/kafka"},
        "safe_to_evict": {"loader-candles": True},
        "pod_template_patch": {"spec": {"runtimeClassName": "gvisor"}},
    }
    for name, value in wanted.items():
        monkeypatch.setenv(f"KUBERNETES_{name.upper()}", json.dumps(value))
    monkeypatch.setenv("KUBE_CONTEXT", "kind")
    monkeypatch.setenv("KUBERNETES_NAMESPACE", "other")
    given = read_settings(KubernetesSettings)
    assert (given.namespace, given.context) == ("other", "kind")
    assert {name: json.loads(json.dumps(getattr(given, name))) for name in wanted} == wanted


def test_an_empty_variable_is_an_unset_one_but_for_the_objects_that_may_be_absent(monkeypatch):
    for name in KubernetesSettings.model_fields:
        monkeypatch.setenv(f"KUBERNETES_{name.upper()}", "")
    monkeypatch.setenv("KUBE_CONTEXT", "")
    given = KubernetesSettings()
    assert (given.config_map, given.secret, given.log_archive) == ("", "", "")
    monkeypatch.undo()
    assert given == KubernetesSettings(config_map="", secret="", log_archive="")


def test_logs_are_kept_in_a_folder_or_a_bucket(monkeypatch):
    for place in ("logs", "/var/lib/logs", "s3://bucket", "s3://my.bucket-1/a/b"):
        monkeypatch.setenv("KUBERNETES_LOG_ARCHIVE", place)
        assert KubernetesSettings().log_archive == place
    monkeypatch.setenv("KUBERNETES_LOG_MAX_BYTES", "10GiB")
    monkeypatch.setenv("KUBERNETES_LOG_POD_MAX_BYTES", "100000")
    given = KubernetesSettings()
    assert (given.log_max_bytes, given.log_pod_max_bytes, given.log_days) == (10 * 1024**3, 100_000, 7.0)


def test_what_a_kubelet_sets_in_every_pod_changes_nothing(monkeypatch):
    monkeypatch.setenv("KUBERNETES_PORT", "tcp://10.96.0.1:443")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert read_settings(KubernetesSettings) == KubernetesSettings()
    assert not {"port", "service_host", "service_port"} & set(KubernetesSettings.model_fields)


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("NAMESPACE", "Not_A_Name", "NAMESPACE"),
        ("CONFIG_MAP", "x y", "CONFIG_MAP"),
        ("NODE_SELECTOR", "{", "NODE_SELECTOR: Value error"),
        ("NODE_SELECTOR", "[]", "NODE_SELECTOR"),
        ("IMAGE_PULL_SECRETS", '["Not_A_Name"]', "IMAGE_PULL_SECRETS.0"),
        ("IMAGE_PREFIX", "https://x", "IMAGE_PREFIX"),
        ("RUN_AS_USER", "0", "RUN_AS_USER"),
        ("TMP_SIZE", "lots", "TMP_SIZE"),
        ("SECRET_MOUNTS", '{"x": "etc"}', "SECRET_MOUNTS: Value error, 'etc' is no absolute path"),
        ("SECRET_MOUNTS", '{"x": "/etc/x", "y": "/etc/x"}', "SECRET_MOUNTS: Value error, each Secret needs a folder"),
        ("SECRET_MOUNTS", '{"x": "/tmp"}', "/tmp is taken"),
        ("SAFE_TO_EVICT", '{"x": "perhaps"}', "SAFE_TO_EVICT.X"),
        (
            "POD_TEMPLATE_PATCH",
            '{"spec": {"hostPID": true}}',
            "POD_TEMPLATE_PATCH: .*spec.hostPID: workers share nothing",
        ),
    ],
)
def test_a_wrong_one_is_named_at_the_start(monkeypatch, variable, value, fault):
    monkeypatch.setenv(f"KUBERNETES_{variable}", value)
    with pytest.raises(ConfigurationError, match=fault):
        read_settings(KubernetesSettings)


def test_they_never_change():
    with pytest.raises(ValidationError, match="frozen"):
        KubernetesSettings().namespace = "x"
