"""The manifest of a Job. `single.yaml` and `indexed.yaml` are whole ones, as the API server is sent them."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from queue_manager.launcher import JobSpec, Volume
from queue_manager.launcher.kubernetes.manifest import SecretRef, job_manifest
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from streamforge_utils.contracts import names

HERE = Path(__file__).parent
SHARED = frozenset({"KAFKA_BOOTSTRAP_SERVERS", "ARANGO_URL", "LOG_LEVEL", "KAFKA_CA_PATH", "METRICS_PORT"})
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")

HANDBOOK = """
apiVersion: batch/v1
kind: Job
metadata:
  name: job-arango-candles-btcusdt-abc123
  namespace: stf
  labels:
    app: streamforge
    queue_id: "wf-btcusdt-api_candles_1m-20240801-abc123"
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: arango-candles
          image: registry.example/streamforge/arango-candles:v0.1.5
          env:
            - name: QUEUE_ID
              value: "wf-btcusdt-api_candles_1m-20240801-abc123"
            - name: SYMBOL
              value: "BTCUSDT"
            - name: TYPE
              value: "api_candles_1m"
            - name: KAFKA_TOPIC
              value: "wf-btcusdt-api_candles_1m-20240801-abc123-data"
            - name: COLLECTION_NAME
              value: "btcusdt_api_candles_1m_2024_08_01"
      nodeSelector:
        streamforge-worker: "true"
  backoffLimit: 2
  ttlSecondsAfterFinished: 3600
"""


def settings(**given):
    return KubernetesSettings(
        **{"node_selector": {"streamforge-worker": "true"}, "image_prefix": "registry.example"} | given
    )


def launched(*, step="arango-candles", symbol="BTCUSDT", short="abc123", launch=1, replicas=1, **more):
    day = datetime(2024, 8, 1, tzinfo=UTC)
    queue_id = names.queue_id(symbol, "api_candles_1m", day, short)
    values = {
        "name": names.job(step, symbol, short, launch),
        "queue_id": queue_id,
        "step": step,
        "target": step,
        "launch": launch,
        "installation": "0123abcd",
        "decision_id": "01J4A8Z3M4N5P6Q7R8S9T0V1W2",
        "command": ("python", "-m", "arango_candles"),
        "image": "streamforge/arango-candles:v0.1.5",
        "env": {
            "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093",
            "ARANGO_URL": "http://arango:8529",
            "METRICS_PORT": "0",
            "LOG_LEVEL": "INFO",
            "KAFKA_CA_PATH": "/etc/kafka/ca.crt",
            "QUEUE_ID": queue_id,
            "SYMBOL": symbol,
            "TYPE": "api_candles_1m",
            "KAFKA_TOPIC": names.stream_topic(queue_id),
            "COLLECTION_NAME": names.collection(symbol, "api_candles_1m", None, day),
            "PARAMS": '{"note":"$(HOME) costs 5 $$"}',
        },
        "secret_env": {"ARANGO_PASSWORD": SecretStr("hunter2"), "API_TOKEN": SecretStr("hunter3")},
        "replicas": replicas,
        "backoff_limit": 2,
        "grace_s": 30.5,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    }
    return JobSpec(**(values | more))


def container(manifest):
    (found,) = manifest["spec"]["template"]["spec"]["containers"]
    return found


def pod(manifest):
    return manifest["spec"]["template"]["spec"]


def env(manifest):
    entries = container(manifest)["env"]
    found = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}
    assert len(found) == len(entries), "a variable is there twice"
    return found


def missing(wanted, found, path=""):
    """Paths of `wanted` that `found` has not, or has with another value; lists of named things by their names."""
    if isinstance(wanted, dict):
        return [
            fault
            for key, value in wanted.items()
            for fault in (missing(value, found[key], f"{path}.{key}") if key in found else [f"{path}.{key}"])
        ]
    if isinstance(wanted, list):
        by_name = {thing["name"]: thing for thing in found}
        return missing({thing["name"]: thing for thing in wanted}, by_name, path)
    return [] if wanted == found else [path]


def test_every_field_of_the_handbooks_example_is_there_with_its_value():
    made = job_manifest(launched(), settings(), shared=SHARED)
    assert missing(yaml.safe_load(HANDBOOK), made) == []


def test_the_comparison_with_the_handbook_finds_what_differs():
    assert missing({"a": [{"name": "x", "value": "1"}], "b": 1}, {"a": [{"name": "x", "value": "2"}]}) == [
        ".a.x.value",
        ".b",
    ]


def test_a_single_replica_is_a_plain_job():
    made = job_manifest(launched(), settings(), shared=SHARED)
    assert made == yaml.safe_load((HERE / "single.yaml").read_text())


def test_several_replicas_are_an_indexed_job():
    spec = launched(launch=2, replicas=3, image="localhost:5000/arango-candles@sha256:" + "0" * 64)
    refs = {"API_TOKEN": SecretRef("candles-api", "token")}
    given = settings(
        config_map="",
        priority_class="workers",
        image_pull_secrets=["registry"],
        secret_mounts={"kafka-cluster-ca-cert": "/etc/kafka"},
        safe_to_evict={"arango-candles": True},
        service_account="worker",
        pod_template_patch={
            "spec": {"containers": [{"name": "arango-candles", "env": [{"name": "HTTPS_PROXY", "value": "http://p"}]}]}
        },
    )
    made = job_manifest(spec, given, secret_refs=refs, shared=SHARED)
    assert made == yaml.safe_load((HERE / "indexed.yaml").read_text())


def test_a_retry_has_one_owner():
    single = job_manifest(launched(backoff_limit=5), settings())["spec"]
    indexed = job_manifest(launched(backoff_limit=5, replicas=2), settings())["spec"]
    assert single["backoffLimit"] == 5
    assert not {"backoffLimitPerIndex", "maxFailedIndexes", "completionMode"} & set(single)
    assert (indexed["backoffLimitPerIndex"], indexed["maxFailedIndexes"]) == (5, 0)
    assert "backoffLimit" not in indexed
    for made in (single, indexed):
        assert made["template"]["spec"]["restartPolicy"] == "Never"
        assert made["podReplacementPolicy"] == "Failed"
        assert "activeDeadlineSeconds" not in json.dumps(made)


def test_a_disruption_is_looked_at_before_the_exit_code():
    rules = job_manifest(launched(), settings())["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "Ignore", "FailJob"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert [rule["onExitCodes"]["values"] for rule in rules[1:]] == [[75, 143], [78]]
    assert {rule["onExitCodes"]["containerName"] for rule in rules[1:]} == {"arango-candles"}


def test_no_value_of_a_secret_is_in_the_manifest():
    for refs in ({}, {"API_TOKEN": SecretRef("candles-api", "token")}):
        text = json.dumps(job_manifest(launched(), settings(), secret_refs=refs))
        assert "hunter" not in text
        assert "*****" not in text


def test_secrets_come_by_reference():
    made = job_manifest(launched(), settings(), secret_refs={"API_TOKEN": SecretRef("candles-api", "token")})
    assert env(made)["API_TOKEN"] == {"secretKeyRef": {"name": "candles-api", "key": "token"}}
    assert "ARANGO_PASSWORD" not in env(made)
    assert {"secretRef": {"name": "streamforge-worker"}} in container(made)["envFrom"]


def test_what_the_config_map_provides_is_not_written_into_the_job():
    assert not {"KAFKA_BOOTSTRAP_SERVERS", "KAFKA_CA_PATH"} & set(
        env(job_manifest(launched(), settings(), shared=SHARED))
    )
    without = job_manifest(launched(), settings(config_map="", secret=""), shared=SHARED)
    assert env(without)["KAFKA_BOOTSTRAP_SERVERS"] == "kafka:9093"
    assert "envFrom" not in container(without)


def test_a_worker_in_a_pod_listens_on_its_fixed_port_for_everyone():
    made = job_manifest(launched(), settings(), shared=SHARED)
    assert (env(made)["METRICS_HOST"], env(made)["METRICS_PORT"]) == ("0.0.0.0", "8000")
    assert container(made)["ports"] == [{"name": "metrics", "containerPort": 8000, "protocol": "TCP"}]


def test_the_ordinal_is_the_index():
    assert env(job_manifest(launched(), settings()))["ORDINAL"] == "0"
    assert env(job_manifest(launched(replicas=2), settings()))["ORDINAL"] == {
        "fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}
    }


@pytest.mark.parametrize(
    ("image", "prefix", "becomes"),
    [
        ("streamforge/x:1", "", "streamforge/x:1"),
        ("streamforge/x:1", "registry.example", "registry.example/streamforge/x:1"),
        ("x", "registry.example/team/", "registry.example/team/x"),
        ("x:1@sha256:00", "r.io", "r.io/x:1@sha256:00"),
        ("registry.example:5000/a/x:1", "r.io", "registry.example:5000/a/x:1"),
        ("localhost/x", "r.io", "localhost/x"),
        ("registry:5000/x", "r.io", "registry:5000/x"),
    ],
)
def test_an_image_without_a_registry_gets_the_clusters(image, prefix, becomes):
    assert container(job_manifest(launched(image=image), settings(image_prefix=prefix)))["image"] == becomes


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("r.io:5000/a/x:v1.2_3", "v1.2_3"),
        ("a/x:1@sha256:00", "1"),
        ("a/x@sha256:00", None),
        ("r.io:5000/x", None),
        ("x:" + "1" * 64, None),
        ("x:1-", None),
    ],
)
def test_the_version_is_told_if_it_can_be_a_label(image, version):
    made = job_manifest(launched(image=image), settings())
    assert made["metadata"]["labels"].get("app.kubernetes.io/version") == version


@pytest.mark.parametrize(("grace_s", "seconds"), [(30.0, 30), (30.01, 31), (0.2, 1)])
def test_the_grace_is_never_shortened(grace_s, seconds):
    assert pod(job_manifest(launched(grace_s=grace_s), settings()))["terminationGracePeriodSeconds"] == seconds


def test_a_pod_can_write_to_its_sized_tmp_alone():
    made = job_manifest(launched(), settings(tmp_size="64Mi"))
    assert pod(made)["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    assert container(made)["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert container(made)["securityContext"]["readOnlyRootFilesystem"] is True
    assert env(made)["HOME"] == "/tmp"


def test_empty_settings_leave_their_fields_out():
    made = job_manifest(launched(resources={}), settings(node_selector={}, tolerations=[]))
    assert not {"nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets", "serviceAccountName"} & set(
        pod(made)
    )
    assert "resources" not in container(made)


def test_a_patch_reaches_only_the_container_of_its_target():
    mine, other = {"name": "arango-candles", "tty": True}, {"name": "loader-candles", "stdin": True}
    made = job_manifest(launched(), settings(pod_template_patch={"spec": {"containers": [other, mine]}}))
    assert (container(made)["tty"], "stdin" in container(made)) == (True, False)
    assert container(made)["image"] == "registry.example/streamforge/arango-candles:v0.1.5"


def test_a_sidecar_has_no_more_rights_than_the_worker():
    sidecar = {"name": "proxy", "image": "r.io/proxy:1", "restartPolicy": "Always", "command": ["proxy"]}
    made = job_manifest(launched(), settings(pod_template_patch={"spec": {"initContainers": [sidecar]}}))
    assert pod(made)["initContainers"] == [sidecar | {"securityContext": container(made)["securityContext"]}]


def test_nothing_of_a_manifest_is_shared_with_the_next():
    given = settings(pod_template_patch={"spec": {"affinity": {"nodeAffinity": {}}}})
    whole = json.dumps(job_manifest(launched(), given))
    made = job_manifest(launched(), given)
    for value in (pod(made)["nodeSelector"], pod(made)["tolerations"][0], pod(made)["affinity"]["nodeAffinity"]):
        value["changed"] = "x"
    assert json.dumps(job_manifest(launched(), given)) == whole


def expanded(text, variables):
    """What a kubelet makes of a value (Kubernetes, third_party/forked/golang/expansion)."""
    done, at = "", 0
    while at < len(text):
        if text[at] != "$" or at + 1 == len(text):
            done, at = done + text[at], at + 1
        elif text[at + 1] == "(" and (end := text.find(")", at)) > 0:
            name = text[at + 2 : end]
            done, at = done + variables.get(name, f"$({name})"), end + 1
        else:
            done, at = done + ("$" if text[at + 1] == "$" else text[at : at + 2]), at + 2
    return done


@given(st.text(alphabet="$()aHOME{}\\", max_size=40))
def test_a_value_arrives_as_it_is_whatever_kubernetes_expands(text):
    spec = launched(env={"PARAMS": text}, command=("x", text))
    made = job_manifest(spec, settings())
    variables = {"a": "expanded", "HOME": "/tmp", "": "empty"}
    assert expanded(env(made)["PARAMS"], variables) == text
    assert expanded(container(made)["command"][1], variables) == text


@given(
    step=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True),
    symbol=st.text(min_size=1, max_size=80),
    short=st.text(alphabet=names.ALPHABET, min_size=6, max_size=6),
    launch=st.integers(1, 100_000),
    replicas=st.integers(1, 16),
)
def test_names_and_labels_are_valid_at_their_limits(step, symbol, short, launch, replicas):
    assert names.is_step(step)
    made = job_manifest(
        launched(step=step, symbol=symbol, short=short, launch=launch, replicas=replicas),
        settings(secret_mounts={"s": "/s"}),
    )
    assert DNS_LABEL.match(f"{made['metadata']['name']}-{replicas - 1}")
    for named in (container(made), *pod(made)["volumes"]):
        assert DNS_LABEL.match(named["name"])
    (spread,) = pod(made)["topologySpreadConstraints"]
    own, pods = made["metadata"]["labels"], made["spec"]["template"]["metadata"]["labels"]
    for labels in (own, pods, spread["labelSelector"]["matchLabels"]):
        assert [key for key in labels if not LABEL_KEY.match(key)] == []
        assert [value for value in labels.values() if not LABEL_VALUE.match(value)] == []
        assert labels.items() <= pods.items()
    assert launched(step=step, symbol=symbol, short=short, launch=launch).labels.items() <= own.items()


def test_a_targets_volumes_are_mounted():
    volumes = (
        Volume(claim="candles", config_map=None, mount="/data", read_only=True),
        Volume(claim=None, config_map="symbols", mount="/etc/symbols", read_only=True),
    )
    pod = job_manifest(launched(volumes=volumes), settings())["spec"]["template"]["spec"]
    assert pod["volumes"][1:] == [
        {"name": "volume-0", "persistentVolumeClaim": {"claimName": "candles", "readOnly": True}},
        {"name": "volume-1", "configMap": {"name": "symbols"}},
    ]
    assert pod["containers"][0]["volumeMounts"][1:] == [
        {"name": "volume-0", "mountPath": "/data", "readOnly": True},
        {"name": "volume-1", "mountPath": "/etc/symbols", "readOnly": True},
    ]
