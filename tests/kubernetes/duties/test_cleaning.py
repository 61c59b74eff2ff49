"""What keeps a Job from its end is taken away, and what is known of a failure is told with it, on a real API server.

Where a kubelet would speak, the test writes the pod's status itself.
"""

import asyncio
from datetime import UTC, datetime

import pytest

from queue_manager.launcher.kubernetes.janitor import Patience

SIDECAR = {"initContainers": [{"name": "proxy", "image": "no.such/proxy:1", "restartPolicy": "Always"}]}


def stamp():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def container(name, state):
    return {"name": name, "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}


async def play(stage, pod, *, code, phase="Running", message="", sidecar=True):
    """As a kubelet would say it: the worker has ended, its sidecar has not."""
    at, begun = stamp(), pod["status"].get("startTime", stamp())
    ended = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": begun, "finishedAt": at}
    worker = container("loader-candles", {"terminated": {**ended, "message": message}})
    status = {"phase": phase, "containerStatuses": [worker]}
    if sidecar:
        status["initContainerStatuses"] = [container("proxy", {"running": {"startedAt": begun}})]
    await stage.call("patch", f"{stage.core}/pods/{pod['metadata']['name']}/status", {"status": status})


# -- a sidecar that outlives its worker ----------------------------------------------------------------------------


async def test_a_worker_that_failed_beside_its_sidecar_fails_its_job(stage, own_control_plane):
    # kwok, asked to end the pod, writes for all containers what the worker's end was
    await stage.create(pod=SIDECAR, stop_exit=3)
    await play(stage, await stage.running_pod(), code=3, message="it broke")
    hung = await stage.until(lambda s: s.reason == "sidecar-running")
    assert (hung.condition, hung.live) == (None, 0)
    assert "ended with 3, but proxy goes on" in hung.message
    assert hung.ordinals[0].last_lines == ("it broke",)
    ended = await stage.until(lambda s: s.condition is not None)
    assert (ended.condition, ended.reason, ended.ordinals[0].restarts) == ("failed", "backoff-limit-exceeded", 1)


async def test_a_worker_that_succeeded_beside_its_sidecar_completes_its_job(stage, own_control_plane):
    await stage.create(pod=SIDECAR, stop_exit=0)
    await play(stage, await stage.running_pod(), code=0)
    hung = await stage.until(lambda s: s.reason == "sidecar-running")
    assert (hung.live, hung.ordinals[0].phase) == (0, "succeeded")
    done = await stage.until(lambda s: s.condition is not None)
    assert (done.condition, done.deleting, done.live) == ("complete", True, 0)
    await stage.until_gone()
    assert await stage.pods(lambda pod: "deletionTimestamp" not in pod["metadata"]) == []


async def test_a_job_stays_while_another_replica_works(stage, own_control_plane):
    await stage.create(stage.spec(replicas=2), pod=SIDECAR)
    first = await stage.running_pod(0)
    await stage.running_pod(1)
    await play(stage, first, code=0)
    hung = await stage.until(lambda s: s.reason == "sidecar-running")
    assert (hung.live, [o.phase for o in hung.ordinals]) == (1, ["succeeded", "running"])
    await asyncio.sleep(5 * stage.patience.look_s)
    assert "deletionTimestamp" not in (await stage.call("get", f"{stage.jobs}/job-a"))["metadata"]
    assert len(await stage.pods()) == 2


async def test_a_sidecar_that_ends_in_its_time_is_left_alone(stage, own_control_plane):
    await stage.create(pod=SIDECAR)
    pod = await stage.running_pod()
    await play(stage, pod, code=0)
    await play(stage, pod, code=0, phase="Succeeded", sidecar=False)
    await stage.until(lambda s: s.condition == "complete")
    assert all(status.reason is None for status in stage.told["job-a"])


# -- a node that is lost -------------------------------------------------------------------------------------------


@pytest.fixture
async def quiet_node(stage, own_control_plane):
    """A node that nobody plays: it says nothing by itself, and only this test's pods go there."""
    name = f"quiet-{stage.namespace}"
    await add_node(stage, name)
    yield name
    await stage.call("delete", f"/api/v1/nodes/{name}")


async def add_node(stage, name):
    labels = {"quiet": stage.namespace, "kubernetes.io/hostname": name}
    await stage.call("post", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}, "status": room()})
    await ready(stage, name, "True")


def room():
    free = {"cpu": "10", "memory": "10Gi", "pods": "10"}
    return {"capacity": free, "allocatable": free}


async def ready(stage, node, status):
    condition = {"type": "Ready", "status": status, "reason": "Test", "message": "the kubelet is silent"}
    times = {"lastHeartbeatTime": stamp(), "lastTransitionTime": stamp()}
    await stage.call("patch", f"/api/v1/nodes/{node}/status", {"status": {**room(), "conditions": [condition | times]}})


async def running_pod(stage, node, *, but=None):
    """A pod on the node that runs, as its kubelet would say it; another one than that of this uid."""

    def is_it(pod):
        return pod["spec"].get("nodeName") == node and pod["metadata"]["uid"] != but

    (pod,) = await stage.sooner_or_later(lambda: stage.pods(is_it))
    state = {"running": {"startedAt": stamp()}}
    status = {"phase": "Running", "startTime": stamp(), "containerStatuses": [container("loader-candles", state)]}
    await stage.call("patch", f"{stage.core}/pods/{pod['metadata']['name']}/status", {"status": status})
    return pod


async def stranded_pod(stage, node):
    """A pod that runs on the node, and is asked to go."""
    tolerations = [{"operator": "Exists"}]
    settings = {"node_selector": {"quiet": stage.namespace}, "tolerations": tolerations}
    await stage.create(stage.spec(grace_s=1.0), settings=settings)
    pod = await running_pod(stage, node)
    await stage.runs()
    await stage.call("delete", f"{stage.core}/pods/{pod['metadata']['name']}")
    return pod


async def test_a_pod_on_a_node_that_is_not_ready_is_told_and_replaced(stage, quiet_node):
    pod = await stranded_pod(stage, quiet_node)
    await ready(stage, quiet_node, "False")
    lost = await stage.until(lambda s: s.reason == "node-lost")
    assert (lost.condition, lost.live, lost.ordinals[0].reason) == (None, 1, "node-lost")
    assert f"node {quiet_node} is not ready since 20" in lost.message
    assert "the kubelet is silent" in lost.message
    given_up = await stage.until(lambda s: s.ordinals[0].disruptions == 1)
    assert (given_up.condition, given_up.ordinals[0].restarts) == (None, 0)

    async def is_replaced():
        return [p["metadata"]["uid"] == pod["metadata"]["uid"] for p in await stage.pods()] == [False]

    await stage.sooner_or_later(is_replaced, within_s=30)
    assert stage.told["job-a"][-1].ordinals[0].disruptions == 1


async def test_a_pod_on_a_node_that_is_gone_is_told_and_its_job_goes_on(stage, quiet_node):
    pod = await stranded_pod(stage, quiet_node)
    await stage.call("delete", f"/api/v1/nodes/{quiet_node}")
    lost = await stage.until(lambda s: s.reason == "node-lost")
    assert (lost.condition, lost.live, lost.ordinals[0].reason) == (None, 1, "node-lost")
    assert f"node {quiet_node} is gone; its pod {pod['metadata']['name']} should have ended at 20" in lost.message
    await completes_elsewhere(stage, quiet_node, pod)


@pytest.mark.parametrize("patience", [Patience(look_s=600.0)], ids=["nobody-looks"])
async def test_a_job_goes_on_when_the_cluster_takes_the_pod_of_a_node_that_is_gone_away_itself(stage, quiet_node):
    """Its collector does so when it has missed the node for 40 s."""
    pod = await stranded_pod(stage, quiet_node)
    await stage.call("delete", f"/api/v1/nodes/{quiet_node}")
    await completes_elsewhere(stage, quiet_node, pod)
    assert all(status.reason != "node-lost" for status in stage.told["job-a"])


async def completes_elsewhere(stage, node, pod):
    """The loss of the pod is not counted; another one, on a node that comes, completes its Job."""
    given_up = await stage.until(lambda s: s.ordinals[0].disruptions == 1, within_s=90)
    assert (given_up.condition, given_up.ordinals[0].restarts) == (None, 0)
    await add_node(stage, node)
    other = await running_pod(stage, node, but=pod["metadata"]["uid"])
    await play(stage, other, code=0, phase="Succeeded", sidecar=False)
    done = await stage.ended()
    assert (done.condition, done.ordinals[0].disruptions, done.ordinals[0].restarts) == ("complete", 1, 0)


async def test_a_pod_that_does_not_go_on_a_node_that_is_ready_is_left_alone(stage, quiet_node):
    pod = await stranded_pod(stage, quiet_node)
    for _ in range(4):
        await ready(stage, quiet_node, "True")
        await asyncio.sleep(1)
    assert all(status.reason is None for status in stage.told["job-a"][-3:])
    assert [p["metadata"]["uid"] for p in await stage.pods()] == [pod["metadata"]["uid"]]


# -- what is known of a failure ------------------------------------------------------------------------------------


async def warn(stage, pod, reason, message):
    """An event such as a kubelet writes."""
    meta = pod["metadata"]
    concerned = {"kind": "Pod", "namespace": stage.namespace, "name": meta["name"], "uid": meta["uid"]}
    event = {"type": "Warning", "reason": reason, "message": message, "lastTimestamp": stamp()}
    named = {"generateName": "test-", "namespace": stage.namespace}
    await stage.call("post", f"{stage.core}/events", {"metadata": named, "involvedObject": concerned, **event})


async def test_last_lines_and_warnings_are_told_with_the_failure(stage, own_control_plane):
    await stage.create()
    words = "\n".join(f"line {number}" for number in range(30))
    pod = await stage.running_pod()
    for text in ("liveness failed", "liveness failed", "evicted soon"):
        await warn(stage, pod, "Unhealthy", text)
    await play(stage, pod, code=3, phase="Failed", message=words, sidecar=False)
    failed = await stage.until(lambda s: s.condition == "failed")
    assert failed.ordinals[0].last_lines == tuple(f"line {number}" for number in range(20, 30))
    assert set(failed.warnings) >= {"Unhealthy: liveness failed", "Unhealthy: evicted soon"}
    assert len(failed.warnings) == len(set(failed.warnings))


async def test_what_keeps_a_pod_is_told_with_the_clusters_warnings(stage):
    await stage.create(settings={"node_selector": {"streamforge-worker": "true"}})
    status = await stage.until(lambda s: s.reason == "unschedulable" and s.warnings)
    assert status.warnings[0].startswith("FailedScheduling: ")


async def test_a_warning_that_is_written_after_what_it_explains_is_told_too(stage, own_control_plane):
    await stage.create(pending="ImagePullBackOff", message="no such tag")
    await stage.until(lambda s: s.reason == "image-pull")
    (pod,) = await stage.pods()
    await warn(stage, pod, "Failed", "no such tag")
    status = await stage.until(lambda s: s.warnings, within_s=10)
    assert (status.reason, status.warnings) == ("image-pull", ("Failed: no such tag",))


async def test_a_missing_service_account_refuses_the_pod(stage):
    await stage.create(settings={"service_account": "nobody"})
    status = await stage.until(lambda s: s.reason is not None)
    assert status.reason == "pod-refused"
    assert 'serviceaccount "nobody" not found' in status.message
    assert status.warnings[0].startswith("FailedCreate: ")
