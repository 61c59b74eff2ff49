"""What the platform knows of a failure, or of what keeps a step, is in the document before anything is taken away."""

import pytest

from queue_manager import decisions, view
from queue_manager.controller.plan import HANGS
from streamforge_utils.contracts.reasons import REASONS

pytestmark = pytest.mark.looptime


async def loader(stage, queue_id):
    """The step as the API shows it."""
    return view.workflow(await stage.get(queue_id))["steps"][0]


async def test_last_lines_and_warnings_of_a_failure_are_shown_after_its_end(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",), backoff_limit=0))
        name = await stage.job(queue_id, "loader")
        for number in range(12):
            stage.launcher.say(name, f"line {number}")
        stage.launcher.complain(name, "BackOff: restarting it")
        stage.launcher.exit(name, 0, 3)
        document = await stage.until_state(queue_id, "failed")
    step = await loader(stage, queue_id)
    assert step["last_lines"] == [f"line {number}" for number in range(2, 12)]
    assert step["warnings"] == ["BackOff: restarting it"]
    assert step["last_exit"] == 3
    assert document.status.reason.message.endswith("its last line: line 11")


async def test_they_are_there_while_the_job_goes_on(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",), backoff_limit=2))
        name = await stage.job(queue_id, "loader")
        stage.launcher.say(name, "it broke")
        stage.launcher.exit(name, 0, 3)
        stage.launcher.complain(name, "FailedMount: no such volume")
        await stage.until(queue_id, lambda d: d.step("loader").warnings != ())
        step = await loader(stage, queue_id)
        assert (step["last_lines"], step["warnings"]) == (["it broke"], ["FailedMount: no such volume"])
        assert step["state"] == "starting"


async def test_a_retry_begins_without_the_warnings_of_before(stage, make_step):
    async with stage.running() as controller:
        queue_id = await stage.submit(make_step("loader", writes=("data",), backoff_limit=0))
        name = await stage.job(queue_id, "loader")
        stage.launcher.complain(name, "BackOff: restarting it")
        stage.launcher.exit(name, 0, 3)
        document = await stage.until_state(queue_id, "failed")
        await stage.store.update(decisions.ask_retry(document, now=stage.clock()))
        controller.nudge(queue_id)
        await stage.job(queue_id, "loader", launch=2)
        await stage.until(queue_id, lambda d: d.step("loader").warnings == ())


@pytest.mark.parametrize("code", ["node-lost", "sidecar-running"])
def test_reasons_of_a_step_that_has_started_are_of_the_list(code):
    assert code in HANGS
    assert code in REASONS


async def test_what_holds_a_step_that_runs_is_told_until_its_worker_starts_again(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)))
        name = await stage.job(queue_id, "loader")
        stage.say(queue_id, "loader", "started")
        await stage.until_state(queue_id, "running")
        stage.launcher.hang(name, "unschedulable", "of no concern to a worker that runs")
        stage.launcher.hang(name, "node-lost", "node n is not ready")
        document = await stage.until(queue_id, lambda d: d.step("loader").reason is not None)
        assert document.step("loader").reason.code == "node-lost"
        assert view.workflow(document)["reason"]["message"] == "node n is not ready"
        stage.launcher.hang(name, None)
        stage.say(queue_id, "loader", "started", run="run-2")
        await stage.until(queue_id, lambda d: d.step("loader").reason is None)
