"""Which pods have a log, when it is to be kept, and which of them are read where."""

import pytest

from queue_manager.launcher.kubernetes.archive import Kept
from queue_manager.launcher.kubernetes.keeper import header_of, is_due, source_of
from queue_manager.launcher.kubernetes.logs import Seen, lives_of
from queue_manager.launcher.kubernetes.objects import job_of, pod_of

CREATED = "2026-08-01T00:00:0{}Z"
RUNNING = {"running": {"startedAt": CREATED.format(5)}}
ENDED = {
    "terminated": {
        "exitCode": 137,
        "reason": "OOMKilled",
        "startedAt": CREATED.format(5),
        "finishedAt": CREATED.format(9),
    }
}


def raw_job(replicas=1, *, conditions=(), **meta):
    spec = {"completions": replicas, "template": {"spec": {"containers": [{"name": "loader"}]}}}
    status = {"conditions": [{"type": name, "status": "True"} for name in conditions]}
    return {
        "metadata": {"name": "job-a", "uid": "j", "creationTimestamp": CREATED.format(0), **meta},
        "spec": spec,
        "status": status,
    }


def raw_pod(uid="u1", state=None, *, ordinal=0, at=1, phase="Running", **meta):
    labels = {
        "batch.kubernetes.io/job-name": "job-a",
        "target": "loader",
        "step": "load",
        "launch": "2",
        "queue_id": "wf-1",
    }
    return {
        "metadata": {
            "name": f"pod-{uid}",
            "uid": uid,
            "creationTimestamp": CREATED.format(at),
            "labels": labels,
            "annotations": {"batch.kubernetes.io/job-completion-index": str(ordinal)},
            **meta,
        },
        "spec": {"containers": [{"name": "proxy"}, {"name": "loader"}], "nodeName": "node-1"},
        "status": {"phase": phase, "containerStatuses": [{"name": "loader", "state": state}] if state else []},
    }


def kept(uid, at=1, ordinal=0):
    return Kept(job="job-a", created_at=pod_of(raw_pod(at=at)).created_at, ordinal=ordinal, uid=uid)


DELETED = {"deletionTimestamp": CREATED.format(9), "deletionGracePeriodSeconds": 3}


@pytest.mark.parametrize(
    ("pod", "job", "wanted"),
    [
        (raw_pod(state=RUNNING), raw_job(), False),
        (raw_pod(state=RUNNING), None, False),
        (raw_pod(phase="Pending"), raw_job(), False),
        (raw_pod(phase="Pending"), raw_job(**DELETED), False),
        (raw_pod(phase="Pending", **DELETED), raw_job(), False),
        (raw_pod(state=RUNNING, **DELETED), raw_job(), True),
        (raw_pod(state=RUNNING), raw_job(**DELETED), True),
        (raw_pod(state=ENDED), raw_job(), True),
        (raw_pod(phase="Failed"), raw_job(), True),
        (raw_pod(state=ENDED, phase="Succeeded"), None, True),
    ],
)
def test_a_log_is_kept_of_what_has_ended_or_is_being_ended(pod, job, wanted):
    assert is_due(pod_of(pod), job_of(job) if job else None) is wanted


def test_the_header_says_what_the_pod_was():
    header = header_of(source_of(raw_pod(state=ENDED, ordinal=3)))
    wanted = {
        "queue_id": "wf-1",
        "step": "load",
        "launch": "2",
        "target": "loader",
        "container": "loader",
        "ordinal": 3,
    }
    assert {name: header[name] for name in wanted} == wanted
    assert (header["code"], header["reason"], header["node"], header["uid"]) == (137, "OOMKilled", "node-1", "u1")
    assert header["ended_at"] - header["started_at"] == 4.0


def test_each_pod_is_one_life_whether_it_is_there_or_kept_or_both():
    pods = [raw_pod("there", RUNNING, at=3), raw_pod("both", ENDED, at=2), raw_pod("waits", phase="Pending", at=4)]
    lives = lives_of(pods, [kept("both", 2), kept("gone", 1)])
    assert [(life.uid, life.source is not None, life.kept is not None, life.is_running) for life in lives] == [
        ("gone", False, True, False),
        ("both", True, True, False),
        ("there", True, False, True),
    ]
    there = lives[2].source
    assert (there.container, there.labels["step"], there.labels["launch"]) == ("loader", "load", "2")


def test_the_ordinals_are_those_of_the_job_and_of_what_was_kept():
    lives = lives_of([raw_pod("b", RUNNING, ordinal=1)], [kept("d", ordinal=3)])
    assert Seen(job_of(raw_job(2)), lives).ordinals == [0, 1, 3]
    assert Seen(None, lives).ordinals == [1, 3]
    assert [life.uid for life in Seen(None, lives).of(3)] == ["d"]


@pytest.mark.parametrize(("job", "wanted"), [(None, True), (raw_job(), False), (raw_job(conditions=["Failed"]), True)])
def test_nothing_more_will_run_when_the_job_is_over_or_gone(job, wanted):
    assert Seen(job_of(job) if job else None, []).is_final is wanted
