"""The cluster's patch for pod templates: merged as Kubernetes merges, refused where the platform stands."""

from copy import deepcopy

import pytest
import yaml

from queue_manager.launcher.kubernetes.patch import CONTRACT_ENV, apply_patch, check_patch
from streamforge_utils.errors import ConfigurationError

TEMPLATE = """
metadata: {annotations: {a: "1", b: "2"}}
spec:
  containers:
  - name: w
    image: i
    resources: {requests: {cpu: "1", memory: 1Gi}}
    env: [{name: A, value: "1"}, {name: B, value: "2"}, {name: C, value: "3"}]
    ports: [{containerPort: 8000, name: metrics}]
    volumeMounts: [{name: tmp, mountPath: /tmp}]
  tolerations: [{key: a, operator: Exists}]
  imagePullSecrets: [{name: one}]
  topologySpreadConstraints: [{topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]
  volumes: [{name: tmp, emptyDir: {sizeLimit: 1Gi}}]
"""
PATCH = """
metadata: {annotations: {b: null, c: "3"}}
spec:
  initContainers: [{name: s, image: x, restartPolicy: Always, command: null}]
  tolerations: [{key: b, operator: Exists}]
  imagePullSecrets: [{name: two}]
  topologySpreadConstraints:
  - {topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule}
  - {topologyKey: zone, whenUnsatisfiable: DoNotSchedule, maxSkew: 2}
  volumes: [{name: z, emptyDir: {}}, {name: tmp, emptyDir: {sizeLimit: 2Gi}}, {name: x, emptyDir: {}}]
  containers:
  - name: w
    resources: {requests: {cpu: "2"}}
    env: [{name: Z, value: z}, {name: C, value: "33"}, {name: X, value: x}, {name: A, value: "11"}]
    ports: [{containerPort: 8000, protocol: TCP}, {containerPort: 9000}]
    volumeMounts: [{name: z, mountPath: /z}]
"""
# what `kubectl patch --local --type strategic` (1.32) makes of the two, in a Pod
MERGED = """
metadata: {annotations: {a: "1", c: "3"}}
spec:
  initContainers: [{name: s, image: x, restartPolicy: Always}]
  containers:
  - name: w
    image: i
    resources: {requests: {cpu: "2", memory: 1Gi}}
    env:
    - {name: Z, value: z}
    - {name: B, value: "2"}
    - {name: C, value: "33"}
    - {name: X, value: x}
    - {name: A, value: "11"}
    ports: [{containerPort: 8000, name: metrics, protocol: TCP}, {containerPort: 9000}]
    volumeMounts: [{name: z, mountPath: /z}, {name: tmp, mountPath: /tmp}]
  tolerations: [{key: b, operator: Exists}]
  imagePullSecrets: [{name: two}, {name: one}]
  topologySpreadConstraints:
  - {topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}
  - {topologyKey: zone, whenUnsatisfiable: DoNotSchedule, maxSkew: 2}
  volumes: [{name: z, emptyDir: {}}, {name: tmp, emptyDir: {sizeLimit: 2Gi}}, {name: x, emptyDir: {}}]
"""


def test_it_merges_as_kubernetes_does():
    assert apply_patch(yaml.safe_load(TEMPLATE), yaml.safe_load(PATCH)) == yaml.safe_load(MERGED)


def test_null_deletes_a_field_a_map_and_a_list():
    patch = {
        "metadata": {"annotations": None},
        "spec": {
            "topologySpreadConstraints": None,
            "tolerations": None,
            "volumes": [{"name": "tmp", "emptyDir": None}],
        },
    }
    merged = apply_patch(yaml.safe_load(TEMPLATE), patch)
    assert merged["metadata"] == {}
    assert not {"topologySpreadConstraints", "tolerations"} & set(merged["spec"])
    assert merged["spec"]["volumes"] == [{"name": "tmp"}]


def test_neither_side_is_changed_or_shared():
    template, patch = yaml.safe_load(TEMPLATE), yaml.safe_load(PATCH)
    before = deepcopy((template, patch))
    merged = apply_patch(template, patch)
    merged["spec"]["tolerations"][0]["key"] = "changed"
    merged["spec"]["volumes"][0]["emptyDir"]["changed"] = True
    merged["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "changed"
    assert (template, patch) == before


def test_an_empty_patch_is_none():
    assert apply_patch(yaml.safe_load(TEMPLATE), {}) == yaml.safe_load(TEMPLATE)


def worker(**more):
    return {"spec": {"containers": [{"name": "w", **more}]}}


def sidecar(**more):
    return {"spec": {"initContainers": [{"name": "s", "image": "x", "restartPolicy": "Always", **more}]}}


def test_what_serves_the_cluster_is_taken():
    check_patch(yaml.safe_load(PATCH), targets={"w", "other"})
    check_patch(
        {
            "metadata": {"annotations": {"env": "x"}},
            "spec": {
                "affinity": {"podAntiAffinity": {}},
                "runtimeClassName": "gvisor",
                "dnsConfig": {"options": []},
                "initContainers": None,
            },
        }
    )
    check_patch(sidecar(command=["x"], args=["y"], env=[{"name": "QUEUE_ID", "value": "1"}], lifecycle={}))
    check_patch({})


REFUSED = [
    ({"metadata": {"labels": {"team": "x"}}}, "metadata.labels: a Job and its pods are found"),
    ({"metadata": {"name": "x"}}, "metadata.name: pods are named by their Job"),
    ({"metadata": {"generateName": "x"}}, "metadata.generateName: "),
    ({"metadata": {"namespace": "x"}}, "metadata.namespace: KUBERNETES_NAMESPACE"),
    ({"metadata": {"finalizers": ["x"]}}, "metadata.finalizers: only annotations"),
    ({"metadata": {"annotations": {"queue_id": "x"}}}, "metadata.annotations.queue_id: it names the launch"),
    ({"metadata": {"annotations": None}}, "metadata.annotations: must be an object"),
    ({"spec": {"restartPolicy": "OnFailure"}}, "spec.restartPolicy: retries have one owner"),
    ({"spec": {"terminationGracePeriodSeconds": 1}}, "spec.terminationGracePeriodSeconds: the grace is the target's"),
    ({"spec": {"activeDeadlineSeconds": 1}}, "spec.activeDeadlineSeconds: a live step"),
    ({"spec": {"securityContext": {"runAsUser": 0}}}, "spec.securityContext: "),
    ({"spec": {"securityContext": None}}, "spec.securityContext: "),
    ({"spec": {"serviceAccountName": "admin"}}, "spec.serviceAccountName: "),
    ({"spec": {"serviceAccount": "admin"}}, "spec.serviceAccount: "),
    ({"spec": {"automountServiceAccountToken": True}}, "spec.automountServiceAccountToken: "),
    ({"spec": {"hostNetwork": True}}, "spec.hostNetwork: "),
    ({"spec": {"hostPID": True}}, "spec.hostPID: "),
    ({"spec": {"hostIPC": True}}, "spec.hostIPC: "),
    ({"spec": {"shareProcessNamespace": True}}, "spec.shareProcessNamespace: "),
    ({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}, "spec.volumes[v].hostPath: "),
    (worker(image="x"), "spec.containers[w].image: the workflow pins it"),
    (worker(command=["sh"]), "spec.containers[w].command: "),
    (worker(args=["x"]), "spec.containers[w].args: "),
    (worker(workingDir="/x"), "spec.containers[w].workingDir: "),
    (worker(envFrom=[]), "spec.containers[w].envFrom: "),
    (worker(lifecycle={"stopSignal": "SIGKILL"}), "spec.containers[w].lifecycle: "),
    (worker(securityContext={"privileged": True}), "spec.containers[w].securityContext: "),
    (worker(ports=[{"containerPort": 1, "hostPort": 1}]), "spec.containers[w].ports[1].hostPort: "),
    (worker(env=[{"name": "QUEUE_ID", "value": "x"}]), "spec.containers[w].env[QUEUE_ID]: the platform sets it"),
    (worker(env=[{"name": "KAFKA_PASSWORD", "value": "x"}]), "spec.containers[w].env[KAFKA_PASSWORD]: "),
    (worker(env=[{"name": "API_TOKEN", "value": "x"}]), "spec.containers[w].env[API_TOKEN]: "),
    ({"spec": {"containers": [{"name": "sidecar"}]}}, "a sidecar goes into initContainers with restartPolicy Always"),
    (sidecar(restartPolicy="Never"), "spec.initContainers[s].restartPolicy: must be Always"),
    (
        {"spec": {"initContainers": [{"name": "s", "image": "x"}]}},
        "spec.initContainers[s].restartPolicy: must be Always",
    ),
    (sidecar(name="w"), "spec.initContainers[w]: a target is called so"),
    (sidecar(securityContext={}), "spec.initContainers[s].securityContext: "),
    (sidecar(ports=[{"containerPort": 1, "hostPort": 1}]), "spec.initContainers[s].ports[1].hostPort: "),
    ({"spec": {"$patch": "replace"}}, "spec.$patch: directives are not supported"),
    ({"spec": {"tolerations": [{"$patch": "replace"}]}}, "spec.tolerations[0].$patch: directives"),
    ({"status": {}}, "status: a pod template has metadata and spec"),
    ({"spec": None}, "spec: must be an object"),
    ({"metadata": []}, "metadata: must be an object"),
    ({"spec": {"containers": None}}, "spec.containers: must be a list"),
    ({"spec": {"containers": {}}}, "spec.containers: must be a list"),
    ({"spec": {"volumes": None}}, "spec.volumes: must be a list"),
    ({"spec": {"containers": [{}]}}, "spec.containers[0]: must be an object with name"),
    ({"spec": {"containers": ["w"]}}, "spec.containers[0]: must be an object with name"),
    ({"spec": {"containers": [{"name": "w"}, {"name": "w"}]}}, "spec.containers[w]: is there twice"),
    (worker(env=None), "spec.containers[w].env: must be a list"),
    (worker(env=[{"value": "x"}]), "spec.containers[w].env[0]: must be an object with name"),
]


@pytest.mark.parametrize(("patch", "fault"), REFUSED, ids=[fault for _, fault in REFUSED])
def test_what_the_platform_stands_on_is_refused(patch, fault):
    with pytest.raises(ConfigurationError) as refused:
        check_patch(patch, targets={"w"}, reserved={"API_TOKEN"})
    assert fault in refused.value.message


def test_without_the_targets_only_the_image_shows_an_added_container():
    check_patch({"spec": {"containers": [{"name": "anything", "tty": True}]}})
    with pytest.raises(ConfigurationError, match="no container is added here"):
        check_patch({"spec": {"containers": [{"name": "anything", "image": "x"}]}})


def test_all_faults_are_told_at_once():
    patch = {"metadata": {"labels": {}}, "spec": {"hostPID": True, "containers": [{"name": "w", "args": []}]}}
    with pytest.raises(ConfigurationError) as refused:
        check_patch(patch)
    assert all(path in refused.value.message for path in ("metadata.labels", "spec.hostPID", "spec.containers[w].args"))


def test_the_contracts_variables_are_known():
    assert {"QUEUE_ID", "ORDINAL", "STREAMS", "KAFKA_TOPIC", "KAFKA_CA_PATH", "ARANGO_PASSWORD"} <= CONTRACT_ENV
    assert {"METRICS_PORT", "METRICS_HOST", "HOME", "TELEMETRY_PRODUCER_ID", "PARAMS"} <= CONTRACT_ENV
    assert not {"KAFKA", "ARANGO"} & CONTRACT_ENV
