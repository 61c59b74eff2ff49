"""Sidecars and last words with a real kubelet: what it writes into a pod's status, and what the Job makes of it."""

import copy

import pytest

from queue_manager.launcher.kubernetes.manifest import job_manifest
from queue_manager.launcher.kubernetes.settings import KubernetesSettings

WITHIN_S = 40.0
# of one stream: two of them reach the log in any order
LOUD = "import sys; print('one', file=sys.stderr); print(file=sys.stderr); sys.exit('the second and last')"


@pytest.fixture
def stage(node_stage):
    """Its pods are real."""
    return node_stage


def program(stage, code):
    # a sidecar that does not listen is killed soon
    return stage.program(code, grace_s=1.0)


async def beside_a_sidecar(stage, code):
    """A Job whose pods got a container from somebody who knows nothing of native sidecars."""
    settings = KubernetesSettings(namespace=stage.namespace, config_map="", secret="")
    job = job_manifest(program(stage, code), settings)
    containers = job["spec"]["template"]["spec"]["containers"]
    proxy = copy.deepcopy(containers[0]) | {
        "name": "proxy",
        "command": ["python", "-c", "import time; time.sleep(600)"],
    }
    containers.append({key: value for key, value in proxy.items() if key != "ports"})
    await stage.call("post", stage.jobs, job)


async def test_the_last_lines_of_the_log_are_told_with_the_failure(stage):
    await stage.create(program(stage, LOUD))
    failed = await stage.until(lambda s: s.condition == "failed", within_s=WITHIN_S)
    assert failed.ordinals[0].last_exit == 1
    assert failed.ordinals[0].last_lines == ("one", "the second and last")


async def test_the_exit_of_a_worker_counts_though_its_sidecar_goes_on(stage):
    await beside_a_sidecar(stage, LOUD)
    hung = await stage.until(lambda s: s.reason == "sidecar-running", within_s=WITHIN_S)
    assert (hung.condition, hung.live, hung.ordinals[0].last_exit) == (None, 0, 1)
    assert "proxy goes on" in hung.message
    failed = await stage.until(lambda s: s.condition == "failed", within_s=WITHIN_S)
    assert (failed.reason, failed.ordinals[0].last_exit) == ("backoff-limit-exceeded", 1)


async def test_a_success_beside_a_sidecar_is_one_and_is_not_begun_again(stage):
    await beside_a_sidecar(stage, "print('done')")
    done = await stage.until(lambda s: s.condition is not None, within_s=WITHIN_S)
    assert (done.condition, done.live, done.ordinals[0].phase) == ("complete", 0, "succeeded")
    await stage.until_gone()
    conditions = {status.condition for status in stage.told["job-a"] if status is not None}
    assert conditions == {None, "complete"}
    assert await stage.pods() == []
