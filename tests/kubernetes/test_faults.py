"""What becomes of a workflow when its pods, Jobs and nodes meet with a fault, and what its user is told of it.

The whole platform on a real control plane; kwok plays the pods, voices speak for them. STREAMFORGE_FAULT_TIMES names a
file for the seconds and the words.
"""

import asyncio
import json
import signal
import time
from contextlib import asynccontextmanager

import pytest
import yaml

from streamforge_local.kubernetes.control_plane import fake_node
from streamforge_local.kubernetes.kubeconfig import write_kubeconfig
from streamforge_local.paths import repository_root
from streamforge_local.scenario import until

TOLD_WITHIN_S = 10.0


@pytest.fixture
def brittle(tmp_path):
    """Settings under which a target `brittle` is known: no second try, and a short time to start and to stop."""
    folder = tmp_path / "targets" / "brittle"
    folder.mkdir(parents=True)
    target = yaml.safe_load((repository_root() / "services/dummy-service/target.yaml").read_text())
    limits = {"backoff_limit": 0, "start_deadline_s": 6, "grace_s": 3}
    (folder / "target.yaml").write_text(yaml.safe_dump({**target, "name": "brittle", **limits}))
    return {"TARGETS_DIRS": f"{repository_root() / 'services'}:{folder.parent}"}


def step_of(workflow):
    return workflow["steps"][0]


async def test_a_workflow_without_a_fault_is_finished(platform, told):
    scene = await platform(exit=0, run="1s")
    began = time.monotonic()
    workflow = await scene.ends(await scene.submit(replicas=2))
    told("none", began, workflow["state"])
    assert (step_of(workflow)["launch"], step_of(workflow)["restarts"]) == (1, 0)
    assert workflow["reason"] is None


WAITS = [
    ("image-pull", "ErrImagePull", 'rpc error: failed to resolve "no.such/image:1": not found'),
    ("image-pull", "ImagePullBackOff", 'Back-off pulling image "no.such/image:1"'),
    ("missing-secret", "CreateContainerConfigError", 'secret "streamforge-worker" not found'),
    ("missing-config", "CreateContainerConfigError", 'configmap "streamforge-worker" not found'),
    ("container-error", "CreateContainerError", "failed to reserve container name"),
]


@pytest.mark.parametrize(("code", "reason", "words"), WAITS, ids=[f"{code}-{reason}" for code, reason, _ in WAITS])
async def test_what_keeps_a_pod_from_starting_is_told_and_it_goes_on_when_that_is_mended(
    platform, told, code, reason, words
):
    scene = await platform(exit=0, run="1s", pending=reason, message=words)
    began = time.monotonic()
    queue_id = await scene.submit()
    shown = await scene.tells(queue_id, code, within_s=TOLD_WITHIN_S)
    told(reason, began, shown["message"], code=code)
    assert words in shown["message"]
    await scene.play(queue_id, pending=None)
    assert (await scene.ends(queue_id))["reason"] is None


async def test_a_pod_that_no_node_takes_is_told_and_starts_when_one_does(platform, told):
    scene = await platform(
        exit=0, run="1s", settings={"KUBERNETES_NODE_SELECTOR": json.dumps({"streamforge-worker": "true"})}
    )
    began = time.monotonic()
    queue_id = await scene.submit()
    shown = await scene.tells(queue_id, "unschedulable", within_s=TOLD_WITHIN_S)
    told("no node", began, shown["message"], code="unschedulable")
    assert "didn't match Pod's node affinity/selector" in shown["message"]
    labels = {"metadata": {"labels": {"streamforge-worker": "true"}}}
    await scene.call("patch", "/api/v1/nodes/fake-0", labels)
    try:
        await scene.ends(queue_id)
    finally:
        labels["metadata"]["labels"]["streamforge-worker"] = None
        await scene.call("patch", "/api/v1/nodes/fake-0", labels)


async def test_a_start_that_takes_too_long_is_given_up_and_its_job_goes(platform, told, brittle):
    scene = await platform(pending="ImagePullBackOff", message="no such tag", settings=brittle)
    began = time.monotonic()
    queue_id = await scene.submit("brittle")
    workflow = await scene.ends(queue_id, "failed")
    reason = step_of(workflow)["reason"]
    told("start deadline of 6 s", began, reason["message"], code=reason["code"])
    assert reason["code"] == "start-deadline"
    assert "no such tag" in reason["message"]
    assert (await scene.call("get", scene.jobs))["items"] == []


@asynccontextmanager
async def quota(scene, hard):
    """A quota of the namespace that is in force while the block lasts."""
    path = f"{scene.core}/resourcequotas"
    await scene.call("post", path, {"metadata": {"name": "none-left"}, "spec": {"hard": hard}})

    async def is_counted():
        return (await scene.call("get", f"{path}/none-left")).get("status", {}).get("hard")

    await until(is_counted, "the quota is in force", timeout_s=TOLD_WITHIN_S)
    yield
    await scene.call("delete", f"{path}/none-left")


@pytest.mark.parametrize(
    ("hard", "code"), [({"count/jobs.batch": "0"}, "quota-exceeded"), ({"pods": "0"}, "pod-refused")]
)
async def test_a_used_up_quota_is_told_and_the_workflow_starts_when_there_is_room(platform, told, hard, code):
    scene = await platform(exit=0, run="1s")
    async with quota(scene, hard):
        began = time.monotonic()
        queue_id = await scene.submit()
        shown = await scene.tells(queue_id, code, within_s=TOLD_WITHIN_S)
        told(f"quota {hard}", began, shown["message"], code=code)
        assert "exceeded quota: none-left" in shown["message"]
    assert step_of(await scene.ends(queue_id, within_s=70))["launch"] == 1


async def test_a_service_account_that_is_not_there_is_told(platform, told):
    scene = await platform(exit=0, run="1s", settings={"KUBERNETES_SERVICE_ACCOUNT": "nobody"})
    began = time.monotonic()
    queue_id = await scene.submit()
    shown = await scene.tells(queue_id, "pod-refused", within_s=TOLD_WITHIN_S)
    told("service account", began, shown["message"], code="pod-refused")
    assert 'serviceaccount "nobody" not found' in shown["message"]
    await scene.call("post", f"{scene.core}/serviceaccounts", {"metadata": {"name": "nobody"}})
    await scene.ends(queue_id, within_s=70)


RIGHTS = {
    ("batch", "jobs"): ["create", "get", "list", "watch", "delete"],
    ("", "pods"): ["get", "list", "watch", "delete"],
    ("", "pods/log"): ["get"],
    ("", "events"): ["list"],
    ("coordination.k8s.io", "leases"): ["get", "create", "update"],
}


async def test_a_missing_right_is_told_and_the_workflow_starts_when_it_is_given(
    platform, own_control_plane, namespace, told, tmp_path
):
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rules = [{"apiGroups": [group], "resources": [name], "verbs": verbs} for (group, name), verbs in RIGHTS.items()]
    jobs = {**rules[0], "verbs": [verb for verb in rules[0]["verbs"] if verb != "create"]}
    role = {"metadata": {"name": "launcher"}, "rules": [jobs, *rules[1:]]}
    subject = {"kind": "ServiceAccount", "name": "launcher", "namespace": namespace}
    to = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "launcher"}
    api = own_control_plane.api
    await asyncio.to_thread(api.post, f"{roles}/roles", role)
    binding = {"metadata": {"name": "launcher"}, "roleRef": to, "subjects": [subject]}
    await asyncio.to_thread(api.post, f"{roles}/rolebindings", binding)
    access = await asyncio.to_thread(own_control_plane.service_account, namespace, "launcher")
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", access)
    scene = await platform(exit=0, run="1s", settings={"KUBECONFIG": str(kubeconfig)})
    began = time.monotonic()
    queue_id = await scene.submit()
    shown = await scene.tells(queue_id, "not-authorized", within_s=TOLD_WITHIN_S)
    told("verb create of jobs", began, shown["message"], code="not-authorized")
    assert "jobs" in shown["message"]
    assert "create" in shown["message"]
    await scene.call("patch", f"{roles}/roles/launcher", {"rules": rules})
    await scene.ends(queue_id)


ENDS = [
    ({"exit": 137, "reason": "OOMKilled"}, "oom-killed", "needed more memory than its limit"),
    ({"exit": 3}, "backoff-limit-exceeded", "exit 3"),
    ({"exit": 78}, "exit-78", "can never work"),
]


@pytest.mark.parametrize(("play", "code", "words"), ENDS, ids=[code for _, code, _ in ENDS])
async def test_why_a_worker_ended_is_told(platform, told, brittle, play, code, words):
    scene = await platform(**play, run="1s", settings=brittle)
    queue_id = await scene.submit("brittle")
    began = time.monotonic()
    workflow = await scene.ends(queue_id, "failed")
    reason = step_of(workflow)["reason"]
    told(code, began + 1, reason["message"], code=reason["code"])
    assert reason["code"] == code
    assert words in reason["message"]
    assert step_of(workflow)["last_exit"] == play["exit"]


async def _evict(scene, pod):
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": scene.namespace}}
    await scene.call("post", f"{scene.core}/pods/{pod}/eviction", eviction)


async def _delete(scene, pod):
    await scene.call("delete", f"{scene.core}/pods/{pod}")


async def _delete_at_once(scene, pod):
    await scene.call("delete", f"{scene.core}/pods/{pod}", {"gracePeriodSeconds": 0})


@pytest.mark.parametrize("take", [_evict, _delete, _delete_at_once])
async def test_a_pod_that_is_taken_away_is_made_again_and_the_workflow_is_finished(platform, told, brittle, take):
    """With no second try left: what the cluster does to a pod is not counted against its worker."""
    scene = await platform(exit=0, run="6s", settings=brittle)
    queue_id = await scene.submit("brittle")
    await scene.runs(queue_id)
    (pod,) = await scene.pods(queue_id)
    began = time.monotonic()
    await take(scene, pod["metadata"]["name"])
    workflow = await scene.ends(queue_id, within_s=60)
    told(take.__name__.strip("_"), began, f"finished, {step_of(workflow)['restarts']} restarts")
    assert (step_of(workflow)["launch"], step_of(workflow)["restarts"]) == (1, 0)
    assert scene.voices.said["started"] == 2


async def test_a_job_deleted_from_outside_is_launched_again(platform, told):
    scene = await platform(exit=0, run="4s")
    queue_id = await scene.submit()
    job = step_of(await scene.runs(queue_id))["job"]
    began = time.monotonic()
    await scene.call("delete", f"{scene.jobs}/{job}", {"propagationPolicy": "Background"})
    shown = await scene.until(queue_id, lambda w: step_of(w)["launch"] == 2, within_s=30)
    former = step_of(shown)["launches"][0]
    told("Job deleted", began, former["outcome"])
    assert "Job" in former["outcome"]
    workflow = await scene.ends(queue_id)
    assert [launch["number"] for launch in step_of(workflow)["launches"]] == [1, 2]


async def test_the_pods_of_a_node_that_is_gone_run_elsewhere(platform, told, brittle):
    scene = await platform(settings=brittle)
    queue_id = await scene.submit("brittle")
    await scene.runs(queue_id)
    (pod,) = await scene.pods(queue_id)
    node = pod["spec"]["nodeName"]
    began = time.monotonic()
    await scene.call("delete", f"/api/v1/nodes/{node}")

    async def runs_elsewhere():
        return [one for one in await scene.pods(queue_id) if one["spec"].get("nodeName") not in (None, node)]

    try:
        await until(runs_elsewhere, "its pod runs on another node", timeout_s=90)
        told("node deleted", began, "running, 0 restarts")
    finally:
        await scene.call("post", "/api/v1/nodes", fake_node(node))
    await scene.play(queue_id, exit=0, run="1s")
    workflow = await scene.ends(queue_id)
    assert (step_of(workflow)["launch"], step_of(workflow)["restarts"]) == (1, 0)
    assert scene.voices.said["started"] == 2


async def test_a_workflow_that_cannot_start_can_be_stopped_and_nothing_of_it_is_left(platform, told, brittle):
    scene = await platform(pending="ImagePullBackOff", message="no such tag", settings=brittle)
    queue_id = await scene.submit()
    await scene.tells(queue_id, "image-pull", within_s=TOLD_WITHIN_S)
    began = time.monotonic()
    (await scene.api.post(f"/api/v1/workflows/{queue_id}/stop")).raise_for_status()
    workflow = await scene.ends(queue_id, "interrupted", within_s=10)  # its grace is 30 s
    told("stop while its pod is pending", began, workflow["reason"]["message"], code=workflow["reason"]["code"])
    assert await scene.pods(queue_id) == []


async def test_a_job_that_went_by_its_time_to_live_before_anybody_looked_was_finished_all_the_same(platform, told):
    scene = await platform(exit=0, run="3s", settings={"KUBERNETES_TTL_S": "1"})
    queue_id = await scene.submit()
    await scene.runs(queue_id)
    scene.manager.send_signal(signal.SIGSTOP)

    async def is_gone():
        return not (await scene.call("get", scene.jobs))["items"]

    await until(is_gone, "the Job is gone", timeout_s=30)
    began = time.monotonic()
    scene.manager.send_signal(signal.SIGCONT)
    workflow = await scene.ends(queue_id)
    told("Job gone by its time to live, unseen", began, "finished")
    assert [launch["number"] for launch in step_of(workflow)["launches"]] == [1]


async def test_ten_workflows_are_watched_by_as_many_connections_as_one(platform, own_control_plane):
    """One observer for all: a watch for each run would be the end of the API server."""

    async def watches():
        metrics = await asyncio.to_thread(own_control_plane.api.http.get, "/metrics")
        lines = [line for line in metrics.text.splitlines() if line.startswith("apiserver_longrunning_requests{")]
        ours = [line for line in lines if 'scope="namespace"' in line and 'verb="WATCH"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in ours)

    scene = await platform()
    await scene.runs(await scene.submit())
    before = await watches()
    assert before >= 2
    for queue_id in [await scene.submit() for _ in range(9)]:
        await scene.runs(queue_id)
    assert await watches() == before
