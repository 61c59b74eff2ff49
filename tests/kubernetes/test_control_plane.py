"""The test cluster keeps its promises: what the tests of the launcher build upon is a real Kubernetes."""

import os
import subprocess
import sys
import time
from contextlib import closing

import pytest

from streamforge_local.kubernetes.api import ApiError, KubeApi
from streamforge_local.kubernetes.control_plane import ControlPlane
from streamforge_local.kubernetes.kubeconfig import read_kubeconfig
from streamforge_local.paths import Home
from streamforge_local.ports import is_free
from streamforge_local.stack.leftovers import leftovers

WAIT_S = 30
ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces"


def job(name, *, backoff_limit=0, **annotations):
    """A Job whose pods do what the annotations say."""
    told = {f"streamforge.test/{key}": value for key, value in annotations.items()}
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "no.such/image:1"}]}
    template = {"metadata": {"annotations": told, "labels": {"app": name}}, "spec": spec}
    return {"metadata": {"name": name}, "spec": {"backoffLimit": backoff_limit, "template": template}}


def jobs(namespace, name=""):
    return f"/apis/batch/v1/namespaces/{namespace}/jobs{name and '/' + name}"


def until(api, path, is_so, **query):
    """The object when it has become so."""
    deadline = time.monotonic() + WAIT_S
    while not is_so(found := api.get(path, **query)):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def conditions(thing):
    return {c["type"]: c.get("reason") for c in thing["status"].get("conditions", ()) if c["status"] == "True"}


def ended(api, namespace, name):
    """The Job's last conditions."""
    done = until(api, jobs(namespace, name), lambda found: {"Complete", "Failed"} & set(conditions(found)))
    return conditions(done)


def pods(api, namespace, name, is_so):
    """The Job's pods when there are any and all are so."""
    path, label = f"/api/v1/namespaces/{namespace}/pods", f"app={name}"
    listed = until(api, path, lambda found: found["items"] and all(map(is_so, found["items"])), labelSelector=label)
    return listed["items"]


def container_state(pod):
    return pod["status"].get("containerStatuses", [{"state": {}}])[0]["state"]


def test_a_job_of_exit_code_0_completes(own_control_plane, namespace):
    api = own_control_plane.api
    api.post(jobs(namespace), job("good", exit="0"))
    assert "Complete" in ended(api, namespace, "good")
    (pod,) = pods(api, namespace, "good", lambda pod: pod["status"]["phase"] == "Succeeded")
    assert container_state(pod)["terminated"]["exitCode"] == 0
    assert pod["spec"]["nodeName"].startswith("fake-")


def test_a_job_of_exit_code_3_fails_when_its_tries_are_used_up(own_control_plane, namespace):
    api = own_control_plane.api
    # A second pod comes ten seconds after the first one's end: that is the Job controller's own delay.
    api.post(jobs(namespace), job("bad", backoff_limit=1, exit="3"))
    assert ended(api, namespace, "bad")["Failed"] == "BackoffLimitExceeded"
    tries = pods(api, namespace, "bad", lambda pod: pod["status"]["phase"] == "Failed")
    ends = [container_state(pod)["terminated"] for pod in tries]
    assert [(end["exitCode"], end["reason"]) for end in ends] == [(3, "Error")] * 2


def test_a_container_that_needs_too_much_memory_says_so(own_control_plane, namespace):
    api = own_control_plane.api
    api.post(jobs(namespace), job("greedy", exit="137", reason="OOMKilled"))
    assert "Failed" in ended(api, namespace, "greedy")
    (pod,) = pods(api, namespace, "greedy", container_state)
    assert container_state(pod)["terminated"]["reason"] == "OOMKilled"


@pytest.mark.parametrize(("told", "phase", "code"), [({}, "Failed", 143), ({"stop-exit": "0"}, "Succeeded", 0)])
def test_a_pod_runs_until_it_is_deleted_and_ends_before_it_goes(own_control_plane, namespace, told, phase, code):
    api, path = own_control_plane.api, f"/api/v1/namespaces/{namespace}/pods"
    api.post(jobs(namespace), job("stream", **told))
    (pod,) = pods(api, namespace, "stream", lambda pod: pod["status"]["phase"] == "Running")
    assert "running" in container_state(pod)
    since = pod["metadata"]["resourceVersion"]
    api.delete(f"{path}/{pod['metadata']['name']}")
    with closing(api.watch(path, resourceVersion=since, labelSelector="app=stream")) as events:
        last = next(event["object"] for event in events if event["type"] == "DELETED")
    assert (last["status"]["phase"], container_state(last)["terminated"]["exitCode"]) == (phase, code)


def test_the_deletion_of_a_job_takes_its_pods(own_control_plane, namespace):
    api = own_control_plane.api
    api.post(jobs(namespace), job("stream"))
    pods(api, namespace, "stream", lambda pod: pod["status"]["phase"] == "Running")
    api.delete(jobs(namespace, "stream"), propagationPolicy="Background")
    path = f"/api/v1/namespaces/{namespace}/pods"
    until(api, path, lambda found: not found["items"], labelSelector="app=stream")


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"])
def test_a_pod_that_cannot_start_waits_with_its_reason_until_it_can(own_control_plane, namespace, reason):
    api = own_control_plane.api
    api.post(jobs(namespace), job("stuck", exit="0", pending=reason, message="it is not there"))
    (pod,) = pods(api, namespace, "stuck", container_state)
    assert container_state(pod) == {"waiting": {"reason": reason, "message": "it is not there"}}
    time.sleep(0.5)
    (pod,) = pods(api, namespace, "stuck", container_state)
    assert (pod["status"]["phase"], container_state(pod)["waiting"]["reason"]) == ("Pending", reason)
    assert conditions(api.get(jobs(namespace, "stuck"))) == {}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"
    api.patch(path, {"metadata": {"annotations": {"streamforge.test/pending": None}}})
    assert "Complete" in ended(api, namespace, "stuck")


def test_a_user_of_a_certificate_may_do_what_roles_grant_and_no_more(own_control_plane, namespace):
    access = own_control_plane.user("someone", groups=["readers"])
    kubeconfig = own_control_plane.user_kubeconfig(access, namespace=namespace)
    with KubeApi(read_kubeconfig(kubeconfig)) as api:
        refused(api, namespace, "someone")
        grant(own_control_plane.api, namespace, {"kind": "Group", "name": "readers"})
        until_allowed(api, namespace)
        with pytest.raises(ApiError) as error:
            api.post(jobs(namespace), job("mine"))
        assert (error.value.status, error.value.reason) == (403, "Forbidden")


def test_a_service_account_may_do_what_roles_grant(control_plane, namespace):
    with KubeApi(control_plane.service_account(namespace, "robot")) as api:
        refused(api, namespace, f"system:serviceaccount:{namespace}:robot")
        grant(control_plane.api, namespace, {"kind": "ServiceAccount", "name": "robot", "namespace": namespace})
        until_allowed(api, namespace)


def refused(api, namespace, user):
    with pytest.raises(ApiError) as error:
        api.get(jobs(namespace))
    assert (error.value.status, error.value.reason) == (403, "Forbidden")
    assert user in str(error.value)


def grant(admin, namespace, subject):
    rule = {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list"]}
    admin.post(f"{ROLES}/{namespace}/roles", {"metadata": {"name": "look"}, "rules": [rule]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"}
    binding = {"metadata": {"name": "look"}, "roleRef": role, "subjects": [subject]}
    admin.post(f"{ROLES}/{namespace}/rolebindings", binding)


def until_allowed(api, namespace):
    """A right is there a moment after its binding."""
    deadline = time.monotonic() + WAIT_S
    while (status := api.http.get(jobs(namespace)).status_code) != 200:
        assert (status, time.monotonic() < deadline) == (403, True)
        time.sleep(0.02)


def test_a_field_that_does_not_exist_is_refused_when_strictness_is_asked_for(control_plane, namespace):
    wrong = {"metadata": {"name": "wrong"}, "spec": {**job("wrong")["spec"], "backofLimit": 1}}
    with pytest.raises(ApiError, match=r'unknown field "spec\.backofLimit"') as error:
        control_plane.api.post(jobs(namespace), wrong, fieldValidation="Strict")
    assert error.value.status == 400


def test_a_watch_tells_what_happens(own_control_plane, namespace):
    api = own_control_plane.api
    version = api.get(jobs(namespace))["metadata"]["resourceVersion"]
    api.post(jobs(namespace), job("seen", exit="0"))
    with closing(api.watch(jobs(namespace), resourceVersion=version)) as events:
        first = next(events)
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "seen")
        assert any("Complete" in conditions(event["object"]) for event in events)


def test_a_watch_ends_when_its_time_is_over(control_plane, namespace):
    begin = time.monotonic()
    assert list(control_plane.api.watch(jobs(namespace), timeout_s=1)) == []
    assert 0.5 < time.monotonic() - begin < 10


def test_a_killed_api_server_comes_back_with_its_objects_and_forgets_old_versions(own_control_plane, namespace):
    cluster = own_control_plane
    cluster.api.post(jobs(namespace), job("stays"))
    cluster.api.post(jobs(namespace), job("ends", exit="0", run="1s"))
    created = cluster.api.get(jobs(namespace, "stays"))["metadata"]["uid"]
    restart(cluster.apiserver, cluster)
    assert cluster.api.get(jobs(namespace, "stays"))["metadata"]["uid"] == created
    with closing(cluster.api.watch(jobs(namespace), resourceVersion=1)) as events:
        event = next(events)
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert "Complete" in ended(cluster.api, namespace, "ends")


@pytest.mark.parametrize("name", ["etcd", "controllers", "scheduler", "kwok"])
def test_after_the_death_of_any_other_server_jobs_go_on(own_control_plane, namespace, name):
    api = own_control_plane.api
    api.post(jobs(namespace), job("before", exit="0"))
    assert "Complete" in ended(api, namespace, "before")
    restart(getattr(own_control_plane, name), own_control_plane)
    assert "Complete" in conditions(api.get(jobs(namespace, "before")))
    api.post(jobs(namespace), job("after", exit="0"))
    assert "Complete" in ended(api, namespace, "after")


def restart(process, cluster):
    """kill -9 and a start: another process on the same port."""
    before = process.pid
    process.kill()
    assert not process.is_running
    process.start()
    cluster.wait_ready()
    assert process.pid != before


def test_a_paused_scheduler_schedules_when_it_resumes(own_control_plane, namespace):
    api = own_control_plane.api
    own_control_plane.scheduler.pause()
    try:
        api.post(jobs(namespace), job("late", exit="0"))
        pods(api, namespace, "late", lambda pod: pod["status"]["phase"] == "Pending")
        time.sleep(0.5)
        assert conditions(api.get(jobs(namespace, "late"))) == {}
    finally:
        own_control_plane.scheduler.resume()
    assert "Complete" in ended(api, namespace, "late")


def test_nothing_but_logs_is_left_of_a_closed_cluster(tmp_path):
    home = Home.at(tmp_path / "cluster")
    with closing(ControlPlane(home.root)) as cluster:
        cluster.start()
        cluster.wait_ready()
        ports = [port for process in (cluster.etcd, cluster.apiserver) for port in process.part.ports]
        assert len(leftovers(home)) == 4
        assert not any(map(is_free, ports))
    assert leftovers(home) == []
    assert all(map(is_free, ports))
    assert [path.name for path in home.root.iterdir()] == ["log"]
    cluster.close()


START_AND_WAIT = """
import sys, time
from pathlib import Path
from streamforge_local.kubernetes.control_plane import ControlPlane
cluster = ControlPlane(Path(sys.argv[1]))
cluster.start()
print("started", flush=True)
time.sleep(600)
"""


def test_a_cluster_dies_with_those_who_started_it(tmp_path):
    home = Home.at(tmp_path / "cluster")
    command = [sys.executable, "-c", START_AND_WAIT, str(home.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as tests:
        assert tests.stdout.readline() == b"started\n"
        assert len(leftovers(home)) == 4
        tests.kill()
    deadline = time.monotonic() + WAIT_S
    while left := leftovers(home):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
