"""What the two watches tell, gathered: each Job once, and pods that are gone still counted."""

import asyncio

import pytest

from queue_manager.launcher.interface import JobRefused, LauncherUnavailable
from queue_manager.launcher.kubernetes.api import ClusterAway, ClusterError
from queue_manager.launcher.kubernetes.complaints import Complaints
from queue_manager.launcher.kubernetes.janitor import Janitor, Patience
from queue_manager.launcher.kubernetes.objects import Told, job_of, pod_of
from queue_manager.launcher.kubernetes.refusals import refusal
from queue_manager.launcher.kubernetes.view import View
from streamforge_utils.contracts.reasons import REASONS

CREATED = "2026-08-01T00:00:00Z"


def raw_job(name="job-a", **status):
    spec = {"template": {"spec": {"containers": [{"name": "loader"}]}}}
    return {"metadata": {"name": name, "uid": name, "creationTimestamp": CREATED}, "spec": spec, "status": status}


def raw_pod(name="pod-a", phase="Running", job="job-a", **meta):
    labels = {"batch.kubernetes.io/job-name": job}
    return {
        "metadata": {"name": name, "uid": name, "creationTimestamp": CREATED, "labels": labels, **meta},
        "spec": {"containers": [{"name": "loader"}]},
        "status": {"phase": phase},
    }


@pytest.fixture
def view():
    view = View()
    view.jobs_told().listed([job_of(raw_job())])
    view.pods_told().listed([pod_of(raw_pod())])
    view.take()
    return view


def test_it_is_in_step_when_both_lists_were_complete():
    view = View()
    assert view.syncs == 0
    view.jobs_told().listed([job_of(raw_job())])
    assert view.syncs == 0
    view.pods_told().listed([])
    assert view.syncs == 1
    assert view.take() == ["job-a"]


async def test_a_job_that_changes_often_is_looked_at_once(view):
    for _ in range(10):
        view.jobs_told().changed(raw_job(), is_gone=False)
        view.pods_told().changed(raw_pod(), is_gone=False)
    async with asyncio.timeout(1):
        await view.moved()
    assert view.take() == ["job-a"]
    assert view.take() == []


def test_a_list_that_says_nothing_new_touches_nothing(view):
    view.jobs_told().listed([job_of(raw_job())])
    view.pods_told().listed([pod_of(raw_pod())])
    assert view.take() == []
    assert view.syncs == 2


def test_what_the_watch_told_while_a_list_came_holds(view):
    view.jobs_told().changed(raw_job("job-new"), is_gone=False)
    view.pods_told().changed(raw_pod("pod-new", job="job-new"), is_gone=False)
    view.jobs_told().listed([job_of(raw_job()), job_of(raw_job("job-over"))], but={"job-new", "job-over"})
    view.pods_told().listed([pod_of(raw_pod()), pod_of(raw_pod("pod-over"))], but={"pod-new", "pod-over"})
    assert sorted(view.jobs) == ["job-a", "job-new"]
    assert {name: sorted(pods) for name, pods in view.pods.items()} == {"job-a": ["pod-a"], "job-new": ["pod-new"]}
    assert view.past == {}


def test_what_is_not_listed_any_more_is_gone(view):
    view.jobs_told().listed([])
    assert view.take() == ["job-a"]
    assert view.status("job-a") is None


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_pod_that_was_deleted_is_a_disruption_for_as_long_as_its_job_is_there(view, is_listed):
    told = view.pods_told()
    told.listed([]) if is_listed else told.changed(raw_pod(), is_gone=True)
    assert view.take() == ["job-a"]
    only = view.status("job-a").ordinals[0]
    assert (only.disruptions, only.restarts, only.phase) == (1, 0, "pending")
    view.jobs_told().changed(raw_job(), is_gone=True)
    assert view.past == {}
    assert view.pods == {}


def test_a_pod_that_ended_and_went_with_its_job_leaves_nothing(view):
    view.jobs_told().changed(raw_job(), is_gone=True)
    view.pods_told().changed(raw_pod(phase="Succeeded"), is_gone=True)
    assert (view.jobs, view.pods, view.past) == ({}, {}, {})


def test_a_pod_whose_node_is_lost_is_lost_while_it_is_there_and_afterwards(view):
    view.lost["pod-a"] = Told("NodeLost", "node n is gone")
    assert (view.status("job-a").reason, view.status("job-a").live) == ("node-lost", 1)
    view.pods_told().changed(raw_pod(), is_gone=True)
    view.lost.clear()
    only = view.status("job-a").ordinals[0]
    assert (only.reason, only.disruptions) == ("node-lost", 1)


def test_complaints_are_kept_for_as_long_as_their_job_is_there(view):
    view.warnings["job-a"] = ("BackOff: again",)
    assert view.status("job-a").warnings == ("BackOff: again",)
    view.jobs_told().listed([])
    assert view.warnings == {}


async def test_where_nothing_is_wrong_nobody_is_asked(view):
    class Silent:
        namespace = "stf"  # any call is a fault

    await Janitor(Silent(), view, Patience()).look()
    await Complaints(Silent(), view).gather(["job-a", "job-gone"])
    assert view.take() == []


QUOTA = 'jobs.batch "a" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: 1, limited: 1'
RIGHTS = 'jobs.batch is forbidden: User "x" cannot create resource "jobs" in API group "batch"'
POLICY = """jobs.batch "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: it cannot be"""
WEBHOOK = 'admission webhook "policy.example" denied the request: no'


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (ClusterAway(0, "Unreachable", "no answer"), LauncherUnavailable, "launcher-unreachable"),
        (ClusterAway(429, "TooManyRequests", "later", 2.0), LauncherUnavailable, "launcher-unreachable"),
        (ClusterError(403, "Forbidden", QUOTA), LauncherUnavailable, "quota-exceeded"),
        (ClusterError(403, "Forbidden", RIGHTS), LauncherUnavailable, "not-authorized"),
        (ClusterError(404, "NotFound", 'namespaces "stf" not found'), LauncherUnavailable, "launcher-unreachable"),
        (ClusterError(409, "Conflict", "the object has been modified"), LauncherUnavailable, "launcher-unreachable"),
        (ClusterError(405, "MethodNotAllowed", "no"), LauncherUnavailable, "launcher-unreachable"),
        (ClusterError(422, "Invalid", "spec.x: Invalid value"), JobRefused, "invalid"),
        (ClusterError(400, "BadRequest", WEBHOOK), JobRefused, "admission-refused"),
        (ClusterError(403, "Forbidden", WEBHOOK), JobRefused, "admission-refused"),
        (ClusterError(409, "Conflict", WEBHOOK), JobRefused, "admission-refused"),
        (ClusterError(422, "Invalid", POLICY), JobRefused, "admission-refused"),
        (ClusterError(403, "Forbidden", POLICY), JobRefused, "admission-refused"),
    ],
)
def test_a_refused_call_is_made_again_or_never(error, kind, code):
    found = refusal(error)
    assert type(found) is kind
    assert found.code == code
    assert str(error) in str(found)
    assert kind is JobRefused or code in REASONS
