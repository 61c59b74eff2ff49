"""The launcher on a real API server: real Jobs, the real Job controller and scheduler; kwok plays the nodes."""

import asyncio
import time
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from queue_manager.launcher.interface import JobExists, JobRefused, LauncherUnavailable
from streamforge_utils.contracts import names

TOLD_WITHIN_S = 10.0


async def test_an_empty_namespace_is_in_step_at_once(stage):
    async with asyncio.timeout(TOLD_WITHIN_S), stage.watching(stage.launcher()):
        assert stage.told == {}


async def test_a_job_runs_and_completes(stage):
    made = await stage.create(exit=0, run="1s")
    assert (made.name, made.condition, made.live) == ("job-a", None, 0)
    assert made.labels == stage.spec().labels
    running = await stage.runs()
    assert running.live == 1
    assert running.ordinals[0].started_at == pytest.approx(time.time(), abs=5)
    ended = await stage.ended()
    assert (ended.condition, ended.reason, ended.labels) == ("complete", None, stage.spec().labels)
    assert (ended.ordinals[0].phase, ended.ordinals[0].last_exit) == ("succeeded", 0)
    assert await stage.launchers[0].get("job-a") == ended


async def test_no_secret_is_in_the_job(stage):
    await stage.create(stage.spec(secret_env={"KAFKA_PASSWORD": SecretStr("hunter2")}))
    raw = await stage.call("get", f"{stage.jobs}/job-a")
    assert "hunter2" not in str(raw)


async def test_each_replica_is_an_ordinal(stage):
    await stage.create(stage.spec(replicas=3), exit=0, run="1s")
    ended = await stage.ended()
    assert [(o.ordinal, o.phase, o.last_exit) for o in ended.ordinals] == [(n, "succeeded", 0) for n in range(3)]


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_job_fails_when_its_limit_is_used_up(stage, replicas):
    await stage.create(stage.spec(replicas=replicas), exit=3)
    ended = await stage.ended()
    assert (ended.condition, ended.reason) == ("failed", "backoff-limit-exceeded")
    assert (ended.ordinals[0].phase, ended.ordinals[0].restarts, ended.ordinals[0].last_exit) == ("failed", 1, 3)


@pytest.mark.parametrize("replicas", [1, 2])
async def test_78_fails_it_at_once_whatever_its_limit(stage, replicas):
    await stage.create(stage.spec(replicas=replicas, backoff_limit=5), exit=78)
    ended = await stage.ended()
    assert (ended.condition, ended.reason) == ("failed", "exit-78")


@pytest.mark.parametrize("code", [75, 143])
async def test_an_end_that_means_again_is_not_counted(stage, code):
    await stage.create(stage.spec(backoff_limit=0), exit=code)
    status = await stage.until(lambda s: s.ordinals[0].disruptions >= 1)
    assert (status.condition, status.ordinals[0].restarts) == (None, 0)


async def test_too_much_memory_is_named(stage):
    await stage.create(exit=137, reason="OOMKilled")
    ended = await stage.ended()
    assert (ended.condition, ended.reason, ended.ordinals[0].reason) == ("failed", "oom-killed", "oom-killed")


async def test_a_taken_name_is_told_with_the_job_that_has_it(stage):
    await stage.create()
    with pytest.raises(JobExists) as taken:
        await stage.create(stage.spec(decision_id="01OTHER", launch=3))
    assert taken.value.status.labels == stage.spec().labels


async def test_a_deleted_job_is_in_sight_until_its_pods_are_gone(stage):
    await stage.create()
    await stage.until(lambda s: s.live == 1)
    await stage.launchers[0].delete("job-a")
    await stage.until_gone()
    assert await stage.launchers[0].get("job-a") is None
    await stage.launchers[0].delete("job-a")


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
async def test_an_image_that_is_not_there_is_told(stage, reason):
    await stage.create(pending=reason, message="no such tag")
    status = await stage.until(lambda s: s.reason is not None, within_s=TOLD_WITHIN_S)
    assert (status.reason, status.condition) == ("image-pull", None)
    assert "no such tag" in status.message


async def test_a_job_that_no_node_takes_says_so_in_the_schedulers_words(stage):
    await stage.create(settings={"node_selector": {"streamforge-worker": "true"}})
    status = await stage.until(lambda s: s.reason is not None, within_s=TOLD_WITHIN_S)
    assert status.reason == "unschedulable"
    assert "didn't match Pod's node affinity/selector" in status.message


async def test_a_used_up_quota_of_jobs_means_later(stage):
    await _allow(stage, {"count/jobs.batch": "0"})
    with pytest.raises(LauncherUnavailable, match="exceeded quota") as refused:
        await stage.create()
    assert refused.value.code == "quota-exceeded"


async def test_a_pod_that_is_refused_is_told(stage):
    await _allow(stage, {"pods": "0"})
    await stage.create()
    status = await stage.until(lambda s: s.reason is not None, within_s=15)
    assert status.reason == "pod-refused"
    assert "exceeded quota" in status.message


async def _allow(stage, hard):
    """A quota of the namespace, in force."""
    await stage.call("post", f"{stage.core}/resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": hard}})

    async def is_counted():
        return (await stage.call("get", f"{stage.core}/resourcequotas/q")).get("status", {}).get("hard")

    await stage.sooner_or_later(is_counted)


async def test_an_eviction_is_a_disruption_and_the_job_goes_on(stage):
    await stage.create(stage.spec(backoff_limit=0))
    await stage.runs()
    await stage.evict(await stage.running_pod())
    status = await stage.until(lambda s: s.ordinals[0].disruptions == 1 and s.live == 1)
    assert (status.condition, status.ordinals[0].restarts) == (None, 0)


async def test_a_pod_deleted_from_outside_is_made_again(stage):
    await stage.create(stage.spec(backoff_limit=2))
    await stage.runs()
    pod = await stage.running_pod()
    await stage.call("delete", f"{stage.core}/pods/{pod['metadata']['name']}")
    status = await stage.until(lambda s: s.ordinals[0].disruptions == 1 and s.live == 1)
    assert status.condition is None


async def test_a_job_that_the_api_server_finds_wrong_is_refused(stage):
    with pytest.raises(JobRefused) as refused:
        await stage.create(stage.spec(name="Not-A-Name"))
    assert refused.value.code == "invalid"


async def test_a_missing_right_is_named(stage, own_control_plane, monkeypatch):
    access = own_control_plane.user("nobody")
    monkeypatch.setenv("KUBECONFIG", str(own_control_plane.user_kubeconfig(access)))
    with pytest.raises(LauncherUnavailable, match='cannot create resource "jobs"') as refused:
        await stage.create()
    assert refused.value.code == "not-authorized"


async def test_a_namespace_that_is_not_there_is_named(stage):
    with pytest.raises(LauncherUnavailable, match="KUBERNETES_NAMESPACE"):
        await stage.create(settings={"namespace": "nowhere"})


@pytest.mark.parametrize("server", ["apiserver", "etcd"])
async def test_what_happens_while_a_server_is_away_is_told_when_it_is_back(stage, own_control_plane, server):
    await stage.create(exit=0, run="4s")
    await stage.create(stage.spec(name="job-b"))
    await stage.until(lambda s: s.live == 1, "job-b")
    process = getattr(own_control_plane, server)
    process.kill()
    with pytest.raises(LauncherUnavailable):
        await stage.launchers[0].delete("job-b")
    await asyncio.to_thread(process.start)
    await asyncio.to_thread(own_control_plane.wait_ready)
    await stage.launchers[0].delete("job-b")
    assert (await stage.ended(within_s=40)).condition == "complete"
    await stage.until_gone("job-b")


async def test_names_at_their_limits_are_taken(stage):
    queue_id = names.queue_id("x" * 40, "api_candles_1m", datetime.now(UTC), "abc123")
    name = names.job("s" * 63, "y" * 63, "abc123", 99)
    await stage.create(stage.spec(name=name, queue_id=queue_id, step="s" * 32, replicas=2), exit=0)
    assert (await stage.ended(name)).condition == "complete"
