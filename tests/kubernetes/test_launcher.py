"""The launcher on a real API server: real Jobs, the real Job controller and scheduler; kwok plays the nodes."""

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from queue_manager.launcher.interface import JobExists, JobRefused, JobSpec, LauncherUnavailable
from queue_manager.launcher.kubernetes.launcher import KubernetesLauncher
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from streamforge_utils.contracts import names

TOLD_WITHIN_S = 10.0


def spec(name="job-a", **more):
    queue_id = "wf-btcusdt-api_candles_1m-20240801-abc123"
    values = {
        "name": name,
        "queue_id": queue_id,
        "step": "loader-candles",
        "target": "loader-candles",
        "launch": 1,
        "installation": "abcd1234",
        "decision_id": "01J4QZ",
        "command": ("python", "-m", "loader_candles"),
        "image": "loader-candles:1",
        "env": {"A": "1"},
        "secret_env": {"KAFKA_PASSWORD": SecretStr("hunter2")},
        "replicas": 1,
        "backoff_limit": 0,
        "grace_s": 30.0,
    }
    return JobSpec(**(values | more))


class Stage:
    """Launchers whose pods behave as annotations say, in one namespace, and what one of them watches."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace
        self.launchers = []
        self.seen = {}
        self.is_synced = asyncio.Event()
        self.gone = set()

    def launcher(self, *, settings=None, **play):
        annotations = {f"streamforge.test/{name}": str(value) for name, value in play.items()}
        patch = {"metadata": {"annotations": annotations}} if annotations else {}
        made = KubernetesSettings(
            namespace=self.namespace, config_map="", secret="", pod_template_patch=patch, **(settings or {})
        )
        self.launchers.append(KubernetesLauncher(made))
        return self.launchers[-1]

    async def create(self, job=None, *, settings=None, **play):
        return await self.launcher(settings=settings, **play).create(job or spec())

    @asynccontextmanager
    async def watching(self):
        async def watch():
            async with aclosing(self.launcher().watch()) as events:
                async for event in events:
                    if event.synced:
                        self.is_synced.set()
                    elif event.status is None:
                        self.seen.pop(event.name, None)
                        self.gone.add(event.name)
                    else:
                        self.seen[event.name] = event.status

        task = asyncio.create_task(watch())
        try:
            yield self
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def until(self, holds, name="job-a", *, within_s=TOLD_WITHIN_S):
        """The Job's status as the watch told it, as soon as it holds."""
        deadline = time.monotonic() + within_s
        while not ((status := self.seen.get(name)) and holds(status)):
            assert time.monotonic() < deadline, (status, self.gone)
            await asyncio.sleep(0.02)
        asked = await self.launchers[0].get(name)
        assert asked is None or asked.labels == status.labels
        return status

    async def call(self, method, path, *arguments):
        return await asyncio.to_thread(getattr(self.cluster.api, method), path, *arguments)

    @property
    def core(self):
        return f"/api/v1/namespaces/{self.namespace}"

    async def pod(self):
        """The only pod that is not over."""
        while True:
            pods = (await self.call("get", f"{self.core}/pods"))["items"]
            if found := [pod for pod in pods if pod["status"].get("phase") == "Running"]:
                return found[0]["metadata"]["name"]
            await asyncio.sleep(0.05)


@pytest.fixture
async def stage(control_plane, namespace, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    stage = Stage(control_plane, namespace)
    async with stage.watching():
        yield stage
    for launcher in stage.launchers:
        await launcher.close()


def is_over(status):
    return status.condition is not None and status.live == 0


async def test_an_empty_namespace_is_in_step_at_once(stage):
    async with asyncio.timeout(TOLD_WITHIN_S):
        await stage.is_synced.wait()
    assert stage.seen == {}


async def test_a_job_runs_and_completes(stage):
    made = await stage.create(exit=0, run="1s")
    assert (made.name, made.condition, made.live) == ("job-a", None, 0)
    assert made.labels == spec().labels
    running = await stage.until(lambda s: s.live == 1 and s.ordinals[0].phase == "running")
    assert running.ordinals[0].started_at == pytest.approx(time.time(), abs=5)
    ended = await stage.until(is_over)
    assert (ended.condition, ended.reason, ended.labels) == ("complete", None, spec().labels)
    assert (ended.ordinals[0].phase, ended.ordinals[0].last_exit) == ("succeeded", 0)


async def test_no_secret_is_in_the_job(stage):
    await stage.create()
    raw = await stage.call("get", f"/apis/batch/v1/namespaces/{stage.namespace}/jobs/job-a")
    assert "hunter2" not in str(raw)


async def test_each_replica_is_an_ordinal(stage):
    await stage.create(spec(replicas=3), exit=0, run="1s")
    ended = await stage.until(is_over)
    assert [(o.ordinal, o.phase, o.last_exit) for o in ended.ordinals] == [(n, "succeeded", 0) for n in range(3)]


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_job_fails_when_its_limit_is_used_up(stage, replicas):
    await stage.create(spec(replicas=replicas), exit=3)
    ended = await stage.until(is_over)
    assert (ended.condition, ended.reason) == ("failed", "backoff-limit-exceeded")
    assert (ended.ordinals[0].phase, ended.ordinals[0].restarts, ended.ordinals[0].last_exit) == ("failed", 1, 3)


@pytest.mark.parametrize("replicas", [1, 2])
async def test_78_fails_it_at_once_whatever_its_limit(stage, replicas):
    await stage.create(spec(replicas=replicas, backoff_limit=5), exit=78)
    ended = await stage.until(is_over)
    assert (ended.condition, ended.reason) == ("failed", "exit-78")


@pytest.mark.parametrize("code", [75, 143])
async def test_an_end_that_means_again_is_not_counted(stage, code):
    await stage.create(spec(backoff_limit=0), exit=code)
    status = await stage.until(lambda s: s.ordinals[0].disruptions >= 1)
    assert (status.condition, status.ordinals[0].restarts) == (None, 0)


async def test_too_much_memory_is_named(stage):
    await stage.create(exit=137, reason="OOMKilled")
    ended = await stage.until(is_over)
    assert (ended.condition, ended.reason, ended.ordinals[0].reason) == ("failed", "oom-killed", "oom-killed")


async def test_a_taken_name_is_told_with_the_job_that_has_it(stage):
    await stage.create()
    with pytest.raises(JobExists) as taken:
        await stage.create(spec(decision_id="01OTHER", launch=2))
    assert taken.value.status.labels == spec().labels


async def test_a_deleted_job_is_in_sight_until_its_pods_are_gone(stage):
    await stage.create()
    await stage.until(lambda s: s.live == 1)
    await stage.launchers[0].delete("job-a")
    async with asyncio.timeout(TOLD_WITHIN_S):
        while "job-a" not in stage.gone:
            await asyncio.sleep(0.02)
    assert await stage.launchers[0].get("job-a") is None
    await stage.launchers[0].delete("job-a")


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
async def test_an_image_that_is_not_there_is_told(stage, reason):
    await stage.create(pending=reason, message="no such tag")
    status = await stage.until(lambda s: s.reason is not None)
    assert (status.reason, status.condition) == ("image-pull", None)
    assert "no such tag" in status.message


async def test_a_job_that_no_node_takes_says_so_in_the_schedulers_words(stage):
    await stage.create(settings={"node_selector": {"streamforge-worker": "true"}})
    status = await stage.until(lambda s: s.reason is not None)
    assert status.reason == "unschedulable"
    assert "didn't match Pod's node affinity/selector" in status.message


async def test_a_used_up_quota_of_jobs_means_later(stage):
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    await stage.call("post", f"{stage.core}/resourcequotas", {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    await _until_quota(stage)
    with pytest.raises(LauncherUnavailable, match="exceeded quota") as refused:
        await stage.create()
    assert refused.value.code == "quota-exceeded"


async def test_a_pod_that_is_refused_is_told(stage):
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}
    await stage.call("post", f"{stage.core}/resourcequotas", {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    await _until_quota(stage)
    await stage.create()
    status = await stage.until(lambda s: s.reason is not None, within_s=15)
    assert status.reason == "pod-refused"
    assert "exceeded quota" in status.message


async def _until_quota(stage):
    async with asyncio.timeout(TOLD_WITHIN_S):
        while True:
            quota = await stage.call("get", f"{stage.core}/resourcequotas/q")
            if quota.get("status", {}).get("hard"):
                return
            await asyncio.sleep(0.1)


async def test_an_eviction_is_a_disruption_and_the_job_goes_on(stage):
    await stage.create(spec(backoff_limit=0))
    await stage.until(lambda s: s.live == 1 and s.ordinals[0].phase == "running")
    pod = await stage.pod()
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": stage.namespace}}
    await stage.call("post", f"{stage.core}/pods/{pod}/eviction", eviction)
    status = await stage.until(lambda s: s.ordinals[0].disruptions == 1 and s.live == 1, within_s=30)
    assert (status.condition, status.ordinals[0].restarts) == (None, 0)


async def test_a_pod_deleted_from_outside_is_made_again(stage):
    await stage.create(spec(backoff_limit=2))
    await stage.until(lambda s: s.live == 1 and s.ordinals[0].phase == "running")
    pod = await stage.pod()
    await stage.call("delete", f"{stage.core}/pods/{pod}")
    status = await stage.until(lambda s: s.ordinals[0].disruptions == 1 and s.live == 1, within_s=30)
    assert status.condition is None


async def test_a_job_that_the_api_server_finds_wrong_is_refused(stage):
    with pytest.raises(JobRefused) as refused:
        await stage.create(spec(name="Not-A-Name"))
    assert refused.value.code == "invalid"


async def test_a_missing_right_is_named(stage, own_control_plane, monkeypatch):
    access = own_control_plane.user("nobody")
    monkeypatch.setenv("KUBECONFIG", str(own_control_plane.user_kubeconfig(access)))
    with pytest.raises(LauncherUnavailable, match='cannot create resource "jobs"') as refused:
        await stage.create()
    assert refused.value.code == "not-authorized"


async def test_a_namespace_that_is_not_there_is_named(control_plane, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    launcher = KubernetesLauncher(KubernetesSettings(namespace="nowhere"))
    with pytest.raises(LauncherUnavailable, match="KUBERNETES_NAMESPACE"):
        await launcher.create(spec())
    await launcher.close()


@pytest.mark.parametrize("server", ["apiserver", "etcd"])
async def test_what_happens_while_a_server_is_away_is_told_when_it_is_back(stage, own_control_plane, server):
    await stage.create(exit=0, run="4s")
    await stage.create(spec(name="job-b"))
    await stage.until(lambda s: s.live == 1, "job-b")
    process = getattr(own_control_plane, server)
    process.kill()
    with pytest.raises(LauncherUnavailable):
        await stage.launchers[0].delete("job-b")
    await asyncio.to_thread(process.start)
    await asyncio.to_thread(own_control_plane.wait_ready)
    await stage.launchers[0].delete("job-b")
    assert (await stage.until(is_over, within_s=40)).condition == "complete"
    async with asyncio.timeout(20):
        while "job-b" not in stage.gone:
            await asyncio.sleep(0.05)


async def test_names_at_their_limits_are_taken(stage):
    queue_id = names.queue_id("x" * 40, "api_candles_1m", datetime.now(UTC), "abc123")
    name = names.job("s" * 63, "y" * 63, "abc123", 99)
    await stage.create(spec(name=name, queue_id=queue_id, step="s" * 32, replicas=2), exit=0)
    assert (await stage.until(is_over, name)).condition == "complete"
