"""What a Job and its pods, as the API server writes them, mean to the controller."""

import pytest

from queue_manager.launcher.kubernetes.objects import Told, job_of, pod_of
from queue_manager.launcher.kubernetes.status import job_status
from streamforge_utils.contracts.reasons import REASONS

CREATED = "2026-08-01T00:00:00Z"
AT = 1785542400.0


def raw_job(*conditions, replicas=1, **status):
    spec = {"template": {"spec": {"containers": [{"name": "loader"}], "terminationGracePeriodSeconds": 20}}}
    if replicas > 1:
        spec |= {"completions": replicas, "completionMode": "Indexed"}
    made = [{"type": kind, "status": "True", "reason": reason, "message": text} for kind, reason, text in conditions]
    labels = {"queue_id": "wf-a", "step": "load", "target": "loader", "launch": "1"}
    meta = {"name": "job-a", "uid": "u", "labels": labels, "creationTimestamp": CREATED}
    return {"metadata": meta, "spec": spec, "status": {"conditions": made, **status}}


def raw_pod(name="p", *, phase="Pending", ordinal=0, state=None, created=CREATED, conditions=(), **meta):
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": created,
            "labels": {"target": "loader", "batch.kubernetes.io/job-name": "job-a"},
            "annotations": {"batch.kubernetes.io/job-completion-index": str(ordinal)},
            **meta,
        },
        "spec": {"containers": [{"name": "loader"}]},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "containerStatuses": [{"name": "sidecar", "state": {}}, {"name": "loader", "state": state or {}}],
        },
    }


def ended(code, reason="Error", message="", at="2026-08-01T00:00:10Z"):
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": CREATED,
            "finishedAt": at,
        }
    }


def running():
    return {"running": {"startedAt": "2026-08-01T00:00:05Z"}}


def waiting(reason, message=""):
    return {"waiting": {"reason": reason, "message": message}}


def over(name, code, **more):
    state = ended(code, **{key: more.pop(key) for key in ("reason", "at") if key in more})
    return raw_pod(name, phase="Succeeded" if code == 0 else "Failed", state=state, **more)


def status(job, *pods, told=None, now=AT + 20):
    return job_status(job_of(job), map(pod_of, pods), told=told, now=now)


def test_a_fresh_job_is_pending_and_carries_its_labels():
    found = status(raw_job())
    assert (found.name, found.condition, found.live, found.created_at) == ("job-a", None, 0, AT)
    assert found.labels["queue_id"] == "wf-a"
    assert [(o.ordinal, o.phase) for o in found.ordinals] == [(0, "pending")]


def test_a_running_pod_runs_since_its_own_container_started():
    found = status(raw_job(), raw_pod(phase="Running", state=running()))
    assert found.ordinals[0].phase == "running"
    assert found.ordinals[0].started_at == AT + 5
    assert found.live == 1
    assert found.reason is None


@pytest.mark.parametrize("kind", ["SuccessCriteriaMet", "Complete"])
def test_success_shows_at_the_earlier_condition(kind):
    found = status(raw_job((kind, "CompletionsReached", "")), over("p", 0))
    assert found.condition == "complete"
    assert found.ordinals[0].phase == "succeeded"
    assert found.ordinals[0].last_exit == 0


@pytest.mark.parametrize("kind", ["FailureTarget", "Failed"])
def test_failure_shows_at_the_earlier_condition(kind):
    pods = [over(str(n), 3, at=f"2026-08-01T00:0{n}:00Z") for n in (1, 2, 3)]
    found = status(raw_job((kind, "BackoffLimitExceeded", "3 pods failed")), *pods)
    assert (found.condition, found.reason, found.message) == ("failed", "backoff-limit-exceeded", "3 pods failed")
    only = found.ordinals[0]
    assert (only.phase, only.restarts, only.last_exit, only.last_exit_at) == ("failed", 3, 3, AT + 180)


def test_a_failed_pod_of_a_job_that_still_retries_is_no_failure():
    found = status(raw_job(failed=1), over("1", 1), raw_pod("2", created="2026-08-01T00:01:00Z"))
    assert found.condition is None
    assert (found.ordinals[0].phase, found.ordinals[0].restarts) == ("pending", 1)


@pytest.mark.parametrize("code", [75, 143])
def test_exits_that_mean_again_do_not_count(code):
    only = status(raw_job(), over("1", code)).ordinals[0]
    assert (only.restarts, only.disruptions, only.last_exit) == (0, 1, code)


def test_a_pod_that_was_taken_away_does_not_count():
    taken = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}
    only = status(raw_job(), over("1", 137, conditions=[taken])).ordinals[0]
    assert (only.restarts, only.disruptions, only.reason) == (0, 1, "disrupted")


def test_memory_is_named():
    pods = [over(str(n), 137, reason="OOMKilled", at=f"2026-08-01T00:0{n}:00Z") for n in (1, 2, 3)]
    found = status(raw_job(("Failed", "BackoffLimitExceeded", "x")), *pods)
    assert (found.reason, found.ordinals[0].reason) == ("oom-killed", "oom-killed")


def test_78_is_told_with_the_workers_last_words():
    words = [raw_pod(phase="Failed", state=ended(78, message="line 3 is no candle"))]
    found = status(raw_job(("FailureTarget", "PodFailurePolicy", "rule 2")), *words)
    assert found.reason == "exit-78"
    assert "line 3 is no candle" in found.message


def test_an_indexed_job_has_an_ordinal_for_each_index():
    job = raw_job(replicas=4, completedIndexes="0,2-3")
    found = status(job, over("a", 0), raw_pod("b", phase="Running", state=running(), ordinal=1))
    assert [o.phase for o in found.ordinals] == ["succeeded", "running", "succeeded", "succeeded"]
    assert found.live == 1


def test_a_job_that_is_asked_to_go_says_so():
    job = raw_job()
    job["metadata"]["deletionTimestamp"] = CREATED
    assert status(job).deleting


def test_deletion_is_when_it_was_asked_for_not_when_the_grace_is_over():
    pod = pod_of(raw_pod(deletionTimestamp="2026-08-01T00:00:30Z", deletionGracePeriodSeconds=30))
    assert (pod.deleted_at, pod.kill_at) == (AT, AT + 30)
    assert (pod_of(raw_pod()).deleted_at, pod_of(raw_pod()).kill_at) == (None, None)


UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: cpu"}


@pytest.mark.parametrize(
    ("pod", "code", "words"),
    [
        (raw_pod(conditions=[UNSCHEDULED]), "unschedulable", "0/3 nodes: cpu"),
        (raw_pod(state=waiting("ErrImagePull", "no such tag")), "image-pull", "no such tag"),
        (raw_pod(state=waiting("ImagePullBackOff", "Back-off")), "image-pull", "Back-off"),
        (raw_pod(state=waiting("InvalidImageName", "bad")), "image-pull", "InvalidImageName"),
        (raw_pod(state=waiting("CreateContainerConfigError", 'secret "x" not found')), "missing-secret", '"x"'),
        (
            raw_pod(state=waiting("CreateContainerConfigError", "couldn't find key k in Secret a/b")),
            "missing-secret",
            "k",
        ),
        (raw_pod(state=waiting("CreateContainerConfigError", 'configmap "y" not found')), "missing-config", '"y"'),
        (raw_pod(state=waiting("RunContainerError", "exec: no such file")), "container-error", "no such file"),
        (raw_pod(state=waiting("SomethingNew", "words")), "not-started", "SomethingNew: words"),
    ],
)
def test_why_it_is_pending_is_said_with_the_clusters_words(pod, code, words):
    found = status(raw_job(), pod)
    assert found.reason == found.ordinals[0].reason == code
    assert words in found.message
    assert code in REASONS
    assert found.ordinals[0].phase == "pending"


@pytest.mark.parametrize("reason", ["", "ContainerCreating", "PodInitializing"])
def test_a_pod_on_its_way_has_no_reason(reason):
    assert status(raw_job(), raw_pod(state=waiting(reason))).reason is None


def test_a_job_whose_pod_is_refused_says_what_the_cluster_said():
    found = status(raw_job(), told=Told("FailedCreate", "serviceaccount x not found"))
    assert found.reason == "pod-refused"
    assert "serviceaccount x not found" in found.message


LONG_AFTER = AT + 10 + 60


def beside(code, *, phase="Running", ordinal=0, name="p"):
    """A pod whose worker ended at AT + 10 and whose proxy goes on."""
    pod = raw_pod(name, phase=phase, state=ended(code, message="one\ntwo"), ordinal=ordinal)
    pod["status"]["initContainerStatuses"] = [{"name": "proxy", "state": running()}]
    return pod


def test_the_end_of_a_worker_beside_a_sidecar_counts_after_a_minute():
    waits = status(raw_job(), beside(0), now=LONG_AFTER - 1)
    assert (waits.live, waits.reason, waits.ordinals[0].phase) == (1, None, "running")
    over = status(raw_job(), beside(0), now=LONG_AFTER)
    assert (over.live, over.condition, over.ordinals[0].phase) == (0, None, "succeeded")
    assert over.reason == over.ordinals[0].reason == "sidecar-running"
    assert "ended with 0, but proxy goes on" in over.message
    assert over.reason in REASONS


@pytest.mark.parametrize(
    ("code", "restarts", "disruptions", "phase"), [(3, 1, 0, "pending"), (143, 0, 1, "pending"), (78, 0, 0, "failed")]
)
def test_a_fault_beside_a_sidecar_is_a_fault(code, restarts, disruptions, phase):
    only = status(raw_job(), beside(code), now=LONG_AFTER).ordinals[0]
    assert (only.restarts, only.disruptions, only.last_exit, only.phase) == (restarts, disruptions, code, phase)


@pytest.mark.parametrize("phase", ["Running", "Failed", "Succeeded"])
def test_a_job_that_goes_when_all_workers_have_succeeded_is_complete(phase):
    job = raw_job(replicas=2, completedIndexes="1")
    job["metadata"]["deletionTimestamp"] = CREATED
    found = status(job, beside(0, phase=phase), now=AT + 12)
    assert (found.condition, found.deleting, found.live) == ("complete", True, 0)


def test_a_job_that_goes_before_all_have_succeeded_has_no_condition():
    job = raw_job(replicas=2)
    job["metadata"]["deletionTimestamp"] = CREATED
    found = status(job, beside(0), raw_pod("q", phase="Running", state=running(), ordinal=1), now=LONG_AFTER)
    assert (found.condition, found.live) == (None, 1)


def test_a_pod_on_a_lost_node_says_so_and_is_a_disruption_once_it_is_failed():
    lost = {"type": "DisruptionTarget", "status": "True", "reason": "NodeLost", "message": "node n is gone"}
    waits = status(raw_job(), raw_pod(phase="Running", state=running(), conditions=[lost]))
    assert (waits.reason, waits.message, waits.ordinals[0].reason) == ("node-lost", "node n is gone", "node-lost")
    assert (waits.live, waits.ordinals[0].phase) == (1, "running")
    over = status(raw_job(), raw_pod(phase="Failed", state=running(), conditions=[lost])).ordinals[0]
    assert (over.reason, over.disruptions, over.restarts) == ("node-lost", 1, 0)
    assert "node-lost" in REASONS


def test_the_last_lines_of_a_fault_are_kept_and_of_a_success_none():
    words = "\n".join(f"line {number}" for number in range(20)) + "\n\n"
    failed = raw_pod("1", phase="Failed", state=ended(3, message=words))
    assert status(raw_job(), failed).ordinals[0].last_lines == tuple(f"line {number}" for number in range(10, 20))
    done = raw_pod("2", phase="Succeeded", state=ended(0, message="written by itself", at="2026-08-01T00:00:11Z"))
    assert status(raw_job(), failed, done).ordinals[0].last_lines == ()
