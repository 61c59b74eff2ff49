"""What an installation keeps in a namespace beside its Jobs, and the pod that tries it, on a real API server."""

import asyncio
import base64
import json
import time

import pytest
from pydantic import SecretStr

from queue_manager import cluster
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterError
from queue_manager.launcher.kubernetes.preflight import preflight, preflight_pod
from queue_manager.launcher.kubernetes.publication import Publication, open_jobs, owner_of, publish, withdraw
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from streamforge_local.kubernetes.kubeconfig import write_kubeconfig
from streamforge_utils.errors import ConfigurationError

OURS, THEIRS = "aaaa1111", "bbbb2222"


def told(installation=OURS, **env):
    return Publication(
        installation=installation,
        env={"KAFKA_BOOTSTRAP_SERVERS": "10.244.0.1:9092", **env},
        secret_env={"ARANGO_PASSWORD": SecretStr("hunter2")},
        files={"worker-kafka": {"ca.pem": SecretStr("a certificate")}},
    )


@pytest.fixture
def core(namespace):
    return f"/api/v1/namespaces/{namespace}"


@pytest.fixture
def settings(control_plane, namespace, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    return KubernetesSettings(namespace=namespace)


@pytest.fixture
async def api(settings):
    api = ClusterApi(settings)
    yield api
    await api.close()


def found(control_plane, path):
    """What a ConfigMap or Secret holds, and whose it is."""
    raw = control_plane.api.get(path)
    data = raw["data"]
    if raw["kind"] == "Secret":
        data = {key: base64.b64decode(value).decode() for key, value in data.items()}
    return data, raw["metadata"]["labels"]["installation"]


async def test_workers_find_addresses_passwords_and_files_where_their_jobs_look_for_them(
    control_plane, api, settings, core
):
    assert await owner_of(api, settings) is None
    await publish(api, settings, told())
    assert await owner_of(api, settings) == OURS
    env = {"KAFKA_BOOTSTRAP_SERVERS": "10.244.0.1:9092"}
    assert found(control_plane, f"{core}/configmaps/streamforge-worker") == (env, OURS)
    assert found(control_plane, f"{core}/secrets/streamforge-worker") == ({"ARANGO_PASSWORD": "hunter2"}, OURS)
    assert found(control_plane, f"{core}/secrets/worker-kafka") == ({"ca.pem": "a certificate"}, OURS)


async def test_what_is_published_again_is_what_counts(control_plane, api, settings, core):
    await publish(api, settings, told(OLD="1"))
    await publish(api, settings, told(NEW="2"))
    data, _ = found(control_plane, f"{core}/configmaps/streamforge-worker")
    assert data == {"KAFKA_BOOTSTRAP_SERVERS": "10.244.0.1:9092", "NEW": "2"}


@pytest.mark.parametrize(("labels", "whose"), [({"installation": THEIRS}, THEIRS), ({}, "somebody else")])
async def test_what_another_has_published_is_never_overwritten(control_plane, api, settings, core, labels, whose):
    body = {"metadata": {"name": "streamforge-worker", "labels": labels}, "data": {"A": "1"}}
    control_plane.api.post(f"{core}/configmaps", body)
    assert await owner_of(api, settings) == labels.get("installation", "")
    with pytest.raises(ConfigurationError, match=whose) as refused:
        await publish(api, settings, told())
    assert "KUBERNETES_NAMESPACE" in str(refused.value)
    assert control_plane.api.get(f"{core}/configmaps/streamforge-worker")["data"] == {"A": "1"}


async def test_a_namespace_is_made_when_it_is_not_there(control_plane, namespace, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    made = KubernetesSettings(namespace=f"{namespace}-new")
    api = ClusterApi(made)
    try:
        said = await cluster.prepare(api, made, cluster._parser().parse_args(["prepare"]))
        assert said["server"] == control_plane.url
        assert said["version"].startswith("v1.")
        assert (said["namespace"], said["owner"]) == (f"{namespace}-new", None)
        assert control_plane.api.get(f"/api/v1/namespaces/{namespace}-new")
        assert await cluster.prepare(api, made, cluster._parser().parse_args(["prepare"])) == said
        # its service account is not there yet: that must not be a pod's end
        await publish(api, made, told())
        await preflight(api, pod(made, exit=0))
    finally:
        await api.close()
        control_plane.remove_namespace(f"{namespace}-new")


async def test_only_what_is_ours_is_counted_and_removed(control_plane, api, settings, core, namespace):
    await publish(api, settings, told())
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    worker = {"containers": [{"name": "worker", "image": "x"}], "restartPolicy": "Never"}
    spec = {"suspend": True, "template": {"spec": worker}}
    for name, installation in (("one", OURS), ("two", OURS), ("other", THEIRS)):
        labels = {"app": "streamforge", "installation": installation}
        control_plane.api.post(jobs, {"metadata": {"name": name, "labels": labels}, "spec": spec})
    labels = {"app": "streamforge", "installation": THEIRS}
    control_plane.api.post(f"{core}/configmaps", {"metadata": {"name": "theirs", "labels": labels}})
    assert await open_jobs(api, settings, OURS) == 2

    assert await withdraw(api, settings, OURS) == 2
    deadline = time.monotonic() + 10
    while len(left := control_plane.api.get(jobs)["items"]) > 1 and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert [job["metadata"]["name"] for job in left] == ["other"]
    assert {item["metadata"]["name"] for item in control_plane.api.get(f"{core}/secrets")["items"]} == set()
    names = {item["metadata"]["name"] for item in control_plane.api.get(f"{core}/configmaps")["items"]}
    assert names - {"kube-root-ca.crt"} == {"theirs"}
    assert await withdraw(api, settings, OURS) == 0


# --- the pod that tries the addresses --------------------------------------------------------------------------------


def pod(settings, **play):
    annotations = {f"streamforge.test/{name}": str(value) for name, value in play.items()}
    played = settings.model_copy(update={"pod_template_patch": {"metadata": {"annotations": annotations}}})
    return preflight_pod(played, target="worker", image="worker:1", resources={}, installation=OURS)


@pytest.fixture
def nothing_left(control_plane, core):
    """No pod may be left, whatever came of it."""
    yield
    deadline = time.monotonic() + 10
    while (left := control_plane.api.get(f"{core}/pods")["items"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


@pytest.mark.usefixtures("own_control_plane", "nothing_left")
class TestThePodThatTriesTheAddresses:
    async def test_one_that_ends_well_is_all_that_is_asked(self, api, settings):
        await preflight(api, pod(settings, exit=0, run="1s"))

    async def test_one_that_ends_otherwise_is_told_with_its_exit(self, api, settings):
        with pytest.raises(ConfigurationError, match="the preflight pod ended with 127"):
            await preflight(api, pod(settings, exit=127))

    async def test_an_image_that_cannot_be_pulled_is_said_as_such(self, api, settings):
        begin = time.monotonic()
        with pytest.raises(ConfigurationError, match=r"the image worker:1 does not start: its image cannot be pulled"):
            await preflight(api, pod(settings, pending="ImagePullBackOff"))
        assert time.monotonic() - begin < 10

    async def test_one_for_which_no_node_has_room_is_waited_for_until_the_deadline(self, api, settings):
        wish = settings.model_copy(update={"node_selector": {"nowhere": "true"}})
        with pytest.raises(ConfigurationError, match="has not ended in time: no node takes it"):
            await preflight(api, pod(wish), deadline_s=3)

    async def test_one_that_goes_on_is_ended(self, api, settings):
        with pytest.raises(ConfigurationError, match="has not ended in time: it is running"):
            await preflight(api, pod(settings), deadline_s=2)

    async def test_one_that_is_deleted_from_outside_is_no_success(self, control_plane, api, settings, core):
        running = asyncio.create_task(preflight(api, pod(settings)))
        while not (pods := control_plane.api.get(f"{core}/pods")["items"]):
            await asyncio.sleep(0.05)
        control_plane.api.delete(f"{core}/pods/{pods[0]['metadata']['name']}")
        with pytest.raises((ConfigurationError, ClusterError), match=r"taken away|ended with 143|not found"):
            await running


async def test_without_the_right_to_make_pods_it_is_said_that_nothing_was_tried(
    control_plane, namespace, core, tmp_path, monkeypatch
):
    rules = [{"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["create", "get", "update"]}]
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    control_plane.api.post(f"{roles}/roles", {"metadata": {"name": "narrow"}, "rules": rules})
    access = control_plane.service_account(namespace, "narrow")
    subject = {"kind": "ServiceAccount", "name": "narrow", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "narrow"}
    binding = {"metadata": {"name": "narrow"}, "subjects": [subject], "roleRef": role}
    control_plane.api.post(f"{roles}/rolebindings", binding)
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "narrow", access)))
    monkeypatch.setenv("LAUNCHER", "kubernetes")
    targets = tmp_path / "targets" / "worker"
    targets.mkdir(parents=True)
    target = {"apiVersion": "streamforge/v1", "kind": "Target", "name": "worker", "description": "", "version": "1"}
    target |= {"image": "worker:1", "command": ["python"], "types": ["*"]}
    (targets / "target.yaml").write_text(json.dumps(target))
    monkeypatch.setenv("TARGETS_DIRS", str(targets.parent))

    settings = KubernetesSettings(namespace=namespace)
    api = ClusterApi(settings)
    try:
        given = ["tell", "--installation", OURS, "--set=KAFKA_BOOTSTRAP_SERVERS=10.244.0.1:9092"]
        said = await cluster.tell(api, settings, cluster._parser().parse_args(given))
    finally:
        await api.close()
    assert said["preflight"].startswith("whether pods reach kafka at 10.244.0.1:9092 and the store at")
    assert "was not tried" in said["preflight"]
    assert "cannot create resource" in said["preflight"]
    data, _ = found(control_plane, f"{core}/configmaps/streamforge-worker")
    assert data["KAFKA_BOOTSTRAP_SERVERS"] == "10.244.0.1:9092"
