"""What keeps a Job from its end is taken away, and what is known of a failure is told with it, on a real API server.

Where a kubelet would speak, the test writes the pod's status itself.
"""

import asyncio
from datetime import UTC, datetime

import pytest

# -- a sidecar that outlives its worker ----------------------------------------------------------------------------


async def test_a_worker_that_failed_beside_its_sidecar_fails_its_job(stage, own_control_plane):
    # kwok, asked to end the pod, writes for all containers what the worker's end was
    await stage.create(sidecar=True, stop_exit=3)
    await stage.play(await stage.running_pod(), code=3, message="it broke")
    hung = await stage.until(lambda s: s.reason == "sidecar-running")
    assert (hung.condition, hung.live) == (None, 0)
    assert "ended with 3, but proxy goes on" in hung.message
    assert hung.ordinals[0].last_lines == ("it broke",)
    ended = await stage.until(lambda s: s.condition is not None)
    assert (ended.condition, ended.reason, ended.ordinals[0].restarts) == ("failed", "backoff-limit-exceeded", 1)


async def test_a_worker_that_succeeded_beside_its_sidecar_completes_its_job(stage, own_control_plane):
    await stage.create(sidecar=True, stop_exit=0)
    await stage.play(await stage.running_pod(), code=0)
    hung = await stage.until(lambda s: s.reason == "sidecar-running")
    assert (hung.live, hung.ordinals[0].phase) == (0, "succeeded")
    done = await stage.until(lambda s: s.condition is not None)
    assert (done.condition, done.deleting, done.live) == ("complete", True, 0)
    await stage.until_gone()
    assert await stage.pods(lambda pod: "deletionTimestamp" not in pod["metadata"]) == []


async def test_a_job_stays_while_another_replica_works(stage, own_control_plane):
    await stage.create(stage.spec(replicas=2), sidecar=True)
    first = await stage.running_pod(0)
    await stage.running_pod(1)
    await stage.play(first, code=0)
    hung = await stage.until(lambda s: s.reason == "sidecar-running")
    assert (hung.live, [o.phase for o in hung.ordinals]) == (1, ["succeeded", "running"])
    await asyncio.sleep(5 * stage.patience.look_s)
    assert "deletionTimestamp" not in (await stage.call("get", f"{stage.jobs}/job-a"))["metadata"]
    assert len(await stage.pods()) == 2


async def test_a_sidecar_that_ends_in_its_time_is_left_alone(stage, own_control_plane):
    await stage.create(sidecar=True)
    pod = await stage.running_pod()
    await stage.play(pod, code=0)
    await stage.play(pod, code=0, phase="Succeeded", sidecar=False)
    await stage.until(lambda s: s.condition == "complete")
    assert all(status.reason is None for status in stage.told["job-a"])


# -- a node that is lost -------------------------------------------------------------------------------------------


@pytest.fixture
async def quiet_node(stage, own_control_plane):
    """A node that nobody plays: it says nothing by itself, and only this test's pods go there."""
    name = f"quiet-{stage.namespace}"
    labels = {"quiet": stage.namespace, "kubernetes.io/hostname": name}
    await stage.call("post", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}, "status": room()})
    await ready(stage, name, "True")
    yield name
    await stage.call("delete", f"/api/v1/nodes/{name}")


def stamp():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def room():
    free = {"cpu": "10", "memory": "10Gi", "pods": "10"}
    return {"capacity": free, "allocatable": free}


async def ready(stage, node, status):
    condition = {"type": "Ready", "status": status, "reason": "Test", "message": "the kubelet is silent"}
    times = {"lastHeartbeatTime": stamp(), "lastTransitionTime": stamp()}
    await stage.call("patch", f"/api/v1/nodes/{node}/status", {"status": {**room(), "conditions": [condition | times]}})


async def stranded_pod(stage, node):
    """A pod that runs on the node, and is asked to go."""
    tolerations = [{"operator": "Exists"}]
    await stage.create(settings={"node_selector": {"quiet": stage.namespace}, "tolerations": tolerations})
    (pod,) = await stage.sooner_or_later(lambda: stage.pods(lambda pod: pod["spec"].get("nodeName") == node))
    path = f"{stage.core}/pods/{pod['metadata']['name']}"
    state = {"running": {"startedAt": stamp()}}
    status = {"phase": "Running", "startTime": stamp(), "containerStatuses": [stage.container("loader", state)]}
    await stage.call("patch", f"{path}/status", {"status": status})
    await stage.until(lambda s: s.ordinals[0].phase == "running")
    await stage.call("delete", path)
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


async def test_a_pod_that_does_not_go_on_a_node_that_is_ready_is_left_alone(stage, quiet_node):
    pod = await stranded_pod(stage, quiet_node)
    for _ in range(4):
        await ready(stage, quiet_node, "True")
        await asyncio.sleep(1)
    assert all(status.reason is None for status in stage.told["job-a"][-3:])
    assert [p["metadata"]["uid"] for p in await stage.pods()] == [pod["metadata"]["uid"]]


# -- what is known of a failure ------------------------------------------------------------------------------------


async def test_last_lines_and_warnings_are_told_with_the_failure(stage, own_control_plane):
    await stage.create()
    words = "\n".join(f"line {number}" for number in range(30))
    pod = await stage.running_pod()
    for text in ("liveness failed", "liveness failed", "evicted soon"):
        await stage.warn(pod, "Unhealthy", text)
    await stage.play(pod, code=3, phase="Failed", message=words, sidecar=False)
    failed = await stage.until(lambda s: s.condition == "failed")
    assert failed.ordinals[0].last_lines == tuple(f"line {number}" for number in range(20, 30))
    assert set(failed.warnings) >= {"Unhealthy: liveness failed", "Unhealthy: evicted soon"}
    assert len(failed.warnings) == len(set(failed.warnings))


async def test_what_keeps_a_pod_is_told_with_the_clusters_warnings(stage):
    await stage.create(settings={"node_selector": {"streamforge-worker": "true"}})
    status = await stage.until(lambda s: s.reason == "unschedulable" and s.warnings)
    assert status.warnings[0].startswith("FailedScheduling: ")


async def test_a_missing_service_account_refuses_the_pod(stage):
    await stage.create(settings={"service_account": "nobody"})
    status = await stage.until(lambda s: s.reason is not None)
    assert status.reason == "pod-refused"
    assert 'serviceaccount "nobody" not found' in status.message
    assert status.warnings[0].startswith("FailedCreate: ")
