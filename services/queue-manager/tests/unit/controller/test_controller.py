"""A workflow's life as the controller leads it, on doubles and in virtual time."""

import asyncio

import pytest

from queue_manager import decisions
from queue_manager.launcher.memory import MemoryLauncher

pytestmark = pytest.mark.looptime


async def ask(stage, controller, queue_id, change):
    await stage.store.change(queue_id, change)
    controller.nudge(queue_id)


def idle_ends(document):
    ordinals = document.step("loader").ordinals
    return ordinals[0].idle_ends if 0 in ordinals else 0


def drained(stage, launch):
    return [c for c in stage.broker.commands if c.command == "drain" and c.payload["launch"] == launch]


async def test_a_workflow_of_one_step_finishes_with_few_writes(stage, make_step):
    async with stage.running() as controller:
        await asyncio.sleep(2)
        queue_id = await stage.submit(make_step("loader", writes=("data",)), controller=controller)
        await stage.finish(queue_id, "loader", counters={"read": 5, "stored": 5, "written": 5})
        document = await stage.until_state(queue_id, "finished")
        await stage.until(queue_id, lambda d: not d.is_open)
    assert document.status.steps["loader"].end.state == "finished"
    assert document.status.steps["loader"].ordinals[0].counters.read == 5
    assert stage.store.writes <= 5
    assert [d.decision for d in stage.broker.decisions] == ["accepted", "launched", "ended", "ended"]


async def test_topics_are_kept_while_the_workflow_lives_and_for_the_retention_afterwards(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)), retention_ms=1000)
        await stage.job(queue_id, "loader")
        assert stage.broker.retention == {f"{queue_id}-data": -1, f"{queue_id}-dead-letter": -1}
        await stage.finish(queue_id, "loader")
        await stage.until(queue_id, lambda d: d.status.topics == "released")
    assert stage.broker.retention == {f"{queue_id}-data": 1000, f"{queue_id}-dead-letter": 1000}


async def test_a_reader_is_drained_to_the_ends_taken_after_its_writers_were_fenced(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(
            make_step("loader", writes=("data",)), make_step("sink", reads=("data",), replicas=2)
        )
        sink = await stage.job(queue_id, "sink")
        for ordinal in (0, 1):
            stage.say(queue_id, "sink", "started", ordinal=ordinal)
        await stage.until_state(queue_id, "running")
        assert not stage.broker.commands
        stage.broker.ends = {(f"{queue_id}-data", 0): 7, (f"{queue_id}-data", 1): 9}
        await stage.finish(queue_id, "loader")
        await stage.until(queue_id, lambda d: stage.broker.commands)
        assert stage.broker.fenced == [f"{queue_id}-loader-1-0"]
        drain = stage.broker.commands[0]
        assert (drain.command, drain.step) == ("drain", "sink")
        assert drain.payload == {"drain_id": 1, "launch": 1, "ends": {f"{queue_id}-data": {"0": 7, "1": 9}}}
        for ordinal in (0, 1):
            stage.say(queue_id, "sink", "finished", ordinal=ordinal)
            stage.launcher.exit(sink, ordinal, 0)
        await stage.until_state(queue_id, "finished")
    assert len(stage.broker.commands) == 1


async def test_a_reader_that_vanished_is_launched_again_and_drained_again(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)), make_step("sink", reads=("data",)))
        await stage.finish(queue_id, "loader")
        job = await stage.job(queue_id, "sink")
        stage.say(queue_id, "sink", "started")
        await stage.until(queue_id, lambda d: len(stage.broker.commands) == 1)
        stage.launcher.vanish(job)
        await stage.until(queue_id, lambda d: drained(stage, launch=2))
        await stage.finish(queue_id, "sink", launch=2)
        await stage.until_state(queue_id, "finished")
        assert [c.payload["drain_id"] for c in stage.broker.commands] == [1, 2]
    second = stage.launcher.created[-1]
    assert second.launch == 2
    assert second.env["FORMER"] == "[[1,1]]"
    assert second.name.endswith("-2")


async def test_stop_sends_stop_and_ends_interrupted(stage, make_step):
    async with stage.running() as controller:
        queue_id = await stage.submit(make_step("loader", writes=("data",)))
        job = await stage.job(queue_id, "loader")
        stage.say(queue_id, "loader", "started")
        await stage.until_state(queue_id, "running")
        await ask(stage, controller, queue_id, lambda d: decisions.ask_stop(d, drain=False, now=stage.clock()))
        await stage.until(queue_id, lambda d: stage.broker.commands)
        assert stage.broker.commands[0].command == "stop"
        stage.say(queue_id, "loader", "interrupted")
        stage.launcher.exit(job, 0, 0)
        document = await stage.until_state(queue_id, "interrupted")
    assert document.status.reason.code == "stopped"


async def test_a_worker_that_does_not_stop_is_ended_by_force_after_its_grace(stage, make_step):
    async with stage.running() as controller:
        queue_id = await stage.submit(make_step("loader", writes=("data",), grace_s=30.0))
        job = await stage.job(queue_id, "loader")
        stage.say(queue_id, "loader", "started")
        await stage.until_state(queue_id, "running")
        await ask(stage, controller, queue_id, lambda d: decisions.ask_stop(d, drain=False, now=stage.clock()))
        await asyncio.sleep(29)
        assert stage.launcher.deleted == []
        document = await stage.until_state(queue_id, "interrupted")
    assert stage.launcher.deleted == [job]
    assert document.status.reason.code == "forced"


async def test_what_cannot_begin_is_stopped_at_once_without_its_grace(stage, make_step):
    stage.launcher = MemoryLauncher(auto_start=False, clock=stage.clock)
    async with stage.running() as controller:
        queue_id = await stage.submit(make_step("loader", writes=("data",), grace_s=30.0))
        job = await stage.job(queue_id, "loader")
        stage.launcher.hang(job, "unschedulable", "no node takes it")
        asked = stage.clock()
        await ask(stage, controller, queue_id, lambda d: decisions.ask_stop(d, drain=False, now=asked))
        document = await stage.until_state(queue_id, "interrupted")
    assert stage.clock() - asked < 5
    assert stage.launcher.deleted == [job]
    assert document.status.reason.code == "stopped"


async def test_stop_with_drain_stops_the_writers_and_lets_the_readers_finish(stage, make_step):
    async with stage.running() as controller:
        queue_id = await stage.submit(make_step("loader", writes=("data",)), make_step("sink", reads=("data",)))
        loader, sink = await stage.job(queue_id, "loader"), await stage.job(queue_id, "sink")
        for name in ("loader", "sink"):
            stage.say(queue_id, name, "started")
        await ask(stage, controller, queue_id, lambda d: decisions.ask_stop(d, drain=True, now=stage.clock()))
        await stage.until(queue_id, lambda d: stage.broker.commands)
        assert [(c.command, c.step) for c in stage.broker.commands] == [("stop", "loader")]
        stage.say(queue_id, "loader", "interrupted")
        stage.launcher.exit(loader, 0, 0)
        await stage.until(queue_id, lambda d: len(stage.broker.commands) == 2)
        assert stage.broker.commands[1].command == "drain"
        stage.say(queue_id, "sink", "finished")
        stage.launcher.exit(sink, 0, 0)
        document = await stage.until_state(queue_id, "finished")
        assert document.status.reason.code == "stopped-and-drained"
        assert document.status.steps["loader"].end.is_partial
        # a retry goes on where the writer was stopped, with everything downstream
        await ask(stage, controller, queue_id, lambda d: decisions.ask_retry(d, now=stage.clock()))
        await stage.finish(queue_id, "loader", launch=2)
        await stage.finish(queue_id, "sink", launch=2)
        document = await stage.until_state(queue_id, "finished")
    assert document.status.attempt == 2
    assert document.status.reason is None


async def test_a_failed_step_stops_the_others(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)), make_step("sink", reads=("data",)))
        loader, sink = await stage.job(queue_id, "loader"), await stage.job(queue_id, "sink")
        for name in ("loader", "sink"):
            stage.say(queue_id, name, "started")
        stage.say(queue_id, "loader", "error", reason={"code": "bad-input", "message": "line 7 of x.csv"})
        stage.launcher.exit(loader, 0, 78)
        await stage.until(queue_id, lambda d: stage.broker.commands)
        assert [(c.command, c.step) for c in stage.broker.commands] == [("stop", "sink")]
        stage.say(queue_id, "sink", "interrupted")
        stage.launcher.exit(sink, 0, 0)
        document = await stage.until_state(queue_id, "failed")
    assert document.status.reason.code == "bad-input"
    assert "line 7 of x.csv" in document.status.reason.message
    assert document.status.steps["sink"].end.reason.code == "other-step-failed"


async def test_with_on_failure_continue_the_readers_of_a_failed_writer_finish(stage, make_step):
    async with stage.running():
        steps = make_step("loader", writes=("data",)), make_step("sink", reads=("data",))
        queue_id = await stage.submit(*steps, on_failure="continue")
        stage.launcher.exit(await stage.job(queue_id, "loader"), 0, 78)
        await stage.until(queue_id, lambda d: stage.broker.commands)
        assert stage.broker.commands[0].command == "drain"
        await stage.finish(queue_id, "sink")
        document = await stage.until_state(queue_id, "failed")
    assert document.status.steps["sink"].end.state == "finished"


async def test_a_used_up_backoff_is_final_without_progress_and_a_new_launch_with(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",), backoff_limit=0))
        stage.broker.offsets[f"{queue_id}-loader"] = {(f"{queue_id}-data", 0): 3}
        stage.launcher.exit(await stage.job(queue_id, "loader"), 0, 1)
        stage.launcher.exit(await stage.job(queue_id, "loader", 2), 0, 1)
        document = await stage.until_state(queue_id, "failed")
    assert document.status.steps["loader"].end.reason.code == "backoff-limit-exceeded"
    assert document.status.steps["loader"].restarts == 2


async def test_five_uncounted_ends_without_a_commit_are_no_progress(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)))
        job = await stage.job(queue_id, "loader")
        stage.say(queue_id, "loader", "started")
        for count in range(1, 5):
            stage.launcher.exit(job, 0, 75)
            await stage.until(queue_id, lambda d, n=count: idle_ends(d) == n)
        stage.broker.offsets[f"{queue_id}-loader"] = {(f"{queue_id}-data", 0): 3}
        for count in range(1, 5):
            stage.launcher.exit(job, 0, 75)
            await stage.until(queue_id, lambda d, n=count: idle_ends(d) == n)
        stage.launcher.exit(job, 0, 75)
        document = await stage.until_state(queue_id, "failed")
    assert document.status.reason.code == "no-progress"


async def test_a_step_that_does_not_start_in_time_fails_after_its_job_was_deleted(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",), start_deadline_s=60.0))
        job = await stage.job(queue_id, "loader")
        await asyncio.sleep(55)
        assert (await stage.get(queue_id)).status.state == "starting"
        document = await stage.until_state(queue_id, "failed", timeout=20)
    assert document.status.reason.code == "start-deadline"
    assert stage.launcher.deleted == [job]


async def test_a_run_that_is_too_long_is_stopped(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("live", max_run_s=100.0))
        job = await stage.job(queue_id, "live")
        stage.say(queue_id, "live", "started")
        await asyncio.sleep(95)
        assert not stage.broker.commands
        await stage.until(queue_id, lambda d: stage.broker.commands)
        stage.say(queue_id, "live", "interrupted")
        stage.launcher.exit(job, 0, 0)
        document = await stage.until_state(queue_id, "interrupted")
    assert document.status.reason.code == "max-run"


async def test_more_than_max_running_wait_their_turn_in_order(stage, make_step):
    async with stage.running(max_running=2) as controller:
        await asyncio.sleep(2)
        ids = [await stage.submit(make_step("loader"), controller=controller) for _ in range(5)]
        await asyncio.sleep(3)
        assert [made.queue_id for made in stage.launcher.created] == ids[:2]
        third = await stage.get(ids[2])
        assert third.is_waiting
        assert await stage.store.position(third) == 1
        await stage.finish(ids[1], "loader")
        await stage.job(ids[2], "loader")
        await ask(stage, controller, ids[4], lambda d: decisions.ask_stop(d, drain=False, now=stage.clock()))
        document = await stage.until_state(ids[4], "interrupted")
        assert document.status.reason.code == "stopped"
        for queue_id in (ids[0], ids[2], ids[3]):
            await stage.finish(queue_id, "loader")
            await stage.until_state(queue_id, "finished")
    assert [made.queue_id for made in stage.launcher.created] == ids[:4]


async def test_delete_removes_jobs_topics_and_document(stage, make_step):
    async with stage.running() as controller:
        queue_id = await stage.submit(make_step("loader", writes=("data",)))
        await stage.finish(queue_id, "loader")
        await stage.until_state(queue_id, "finished")
        await ask(stage, controller, queue_id, lambda d: decisions.ask_delete(d, purge=True, now=stage.clock()))
        async with asyncio.timeout(60):
            while await stage.store.get(queue_id) is not None:
                await asyncio.sleep(0.1)
        await asyncio.sleep(3)
        assert await stage.store.history(queue_id, limit=10) == []
    assert stage.store.purged == [("candles", queue_id)]
    assert stage.broker.topics == {}
    assert await stage.launcher.list() == []
    assert stage.broker.decisions[-1].decision == "deleted"


async def test_a_redrive_of_a_finished_workflow_reads_up_to_the_new_end(stage, make_step):
    async with stage.running() as controller:
        queue_id = await stage.submit(make_step("loader", writes=("data",)), make_step("sink", reads=("data",)))
        await stage.finish(queue_id, "loader")
        await stage.finish(queue_id, "sink")
        await stage.until_state(queue_id, "finished")
        stage.broker.ends = {(f"{queue_id}-data", 0): 42}
        await ask(
            stage,
            controller,
            queue_id,
            lambda d: decisions.ask_redrive(d, step="sink", records=2, now=stage.clock()),
        )
        await stage.job(queue_id, "sink", 2)
        stage.say(queue_id, "sink", "started", launch=2)
        await stage.until(
            queue_id, lambda d: stage.broker.commands and stage.broker.commands[-1].payload["launch"] == 2
        )
        assert stage.broker.commands[-1].payload["ends"] == {f"{queue_id}-data": {"0": 42}}
        stage.say(queue_id, "sink", "finished", launch=2)
        stage.launcher.exit(await stage.job(queue_id, "sink", 2), 0, 0)
        document = await stage.until_state(queue_id, "finished")
    assert document.status.attempt == 2
    assert len([made for made in stage.launcher.created if made.step == "loader"]) == 1
