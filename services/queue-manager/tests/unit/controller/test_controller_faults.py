"""A workflow's life as the controller leads it, on doubles and in virtual time."""

import asyncio

import pytest
import structlog

pytestmark = pytest.mark.looptime


async def test_a_broker_that_is_away_is_waited_for_and_told(stage, make_step):
    stage.broker.is_away = True
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)))
        document = await stage.until(queue_id, lambda d: d.status.steps["loader"].reason is not None)
        assert document.status.steps["loader"].reason.code == "broker-unreachable"
        assert not stage.health.ready()[1]["conditions"]["kafka"]["ok"]
        await asyncio.sleep(300)
        assert stage.health.live()[0]
        stage.broker.is_away = False
        await stage.finish(queue_id, "loader")
        document = await stage.until_state(queue_id, "finished")
        assert document.status.steps["loader"].reason is None


async def test_a_launcher_that_is_away_is_waited_for_and_told(stage, make_step):
    stage.launcher.available = False
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)))
        document = await stage.until(queue_id, lambda d: d.status.steps["loader"].reason is not None)
        assert document.status.steps["loader"].reason.code == "launcher-unreachable"
        await asyncio.sleep(300)
        stage.launcher.available = True
        await stage.finish(queue_id, "loader")
        await stage.until_state(queue_id, "finished")
    assert len(stage.launcher.created) == 1


async def test_a_store_that_is_away_is_waited_for(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)))
        job = await stage.job(queue_id, "loader")
        stage.store.is_away = True
        stage.say(queue_id, "loader", "started")
        stage.say(queue_id, "loader", "finished", counters={"read": 3, "stored": 3})
        stage.launcher.exit(job, 0, 0)
        await asyncio.sleep(60)
        assert not stage.health.ready()[0]
        stage.store.is_away = False
        document = await stage.until_state(queue_id, "finished")
    assert document.status.steps["loader"].ordinals[0].counters.read == 3
    assert len(stage.launcher.created) == 1


async def test_a_controller_that_comes_back_goes_on_without_a_second_launch(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)), make_step("sink", reads=("data",)))
        await stage.job(queue_id, "loader")
        await stage.job(queue_id, "sink")
    await stage.finish(queue_id, "loader")
    async with stage.running():
        await stage.finish(queue_id, "sink")
        await stage.until_state(queue_id, "finished")
    assert len(stage.launcher.created) == 2


async def test_a_launch_that_was_recorded_and_not_created_is_created_after_a_restart(stage, make_step):
    async with stage.running():
        await asyncio.sleep(2)
        stage.launcher.available = False
        queue_id = await stage.submit(make_step("loader"))
        await stage.until(queue_id, lambda d: d.step("loader").launch is not None)
    stage.launcher.available = True
    async with stage.running():
        await stage.finish(queue_id, "loader")
        await stage.until_state(queue_id, "finished")
    assert [made.launch for made in stage.launcher.created] == [1]


async def test_two_controllers_launch_nothing_twice(stage, make_step):
    async with stage.running() as first, stage.running() as second:
        await asyncio.sleep(3)
        assert [first.is_leading, second.is_leading].count(True) == 1
        ids = [await stage.submit(make_step("loader")) for _ in range(10)]
        for queue_id in ids:
            await stage.finish(queue_id, "loader")
            await stage.until_state(queue_id, "finished")
    assert len(stage.launcher.created) == 10


async def test_the_other_controller_takes_over(stage, make_step):
    async with stage.running() as second:
        async with stage.running() as first:
            await asyncio.sleep(3)
            leaders = [controller for controller in (first, second) if controller.is_leading]
            queue_id = await stage.submit(make_step("loader"))
            await stage.job(queue_id, "loader")
        assert len(leaders) == 1
        await stage.finish(queue_id, "loader")
        await stage.until_state(queue_id, "finished", timeout=20)
    assert len(stage.launcher.created) == 1


async def test_a_job_of_the_same_name_that_is_not_ours_is_left_alone(stage, make_step):
    stage.launcher.available = False
    async with stage.running():
        await asyncio.sleep(1)
        queue_id = await stage.submit(make_step("loader"))
        document = await stage.until(queue_id, lambda d: d.step("loader").launch is not None)
        from dataclasses import replace

        from queue_manager.controller.launch import Platform, job_spec

        launch = document.step("loader").launch
        ours = job_spec(document, document.spec.step("loader"), launch, Platform({}, {}))
        stage.launcher.available = True
        await stage.launcher.create(replace(ours, decision_id="another"))
        await stage.finish(queue_id, "loader", launch=2)
        await stage.until_state(queue_id, "finished")
    assert [made.launch for made in stage.launcher.created] == [1, 2]


async def test_a_refused_job_fails_its_step(stage, make_step):
    from queue_manager.launcher.interface import JobRefused

    stage.launcher.refusal = JobRefused("invalid", "no such command")
    async with stage.running():
        queue_id = await stage.submit(make_step("loader"))
        document = await stage.until_state(queue_id, "failed")
    assert document.status.reason.code == "job-refused"
    assert "no such command" in document.status.reason.message


async def test_bad_messages_on_queue_events_are_skipped(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader"))
        for value in (b"", b"{", b"null", b"[]", b'{"event": "started"}', b'{"decision": "x"}', b"\xff"):
            stage.broker.append(value)
        await stage.finish(queue_id, "loader")
        await stage.until_state(queue_id, "finished")


async def test_progress_is_folded_in_few_writes_and_a_stall_is_seen(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("sink"))
        await stage.job(queue_id, "sink")
        stage.say(queue_id, "sink", "started")
        await stage.until_state(queue_id, "running")
        before = stage.store.writes
        for count in range(20):
            stage.say(queue_id, "sink", "loading", counters={"read": count, "stored": count}, lag=10)
        document = await stage.until(queue_id, lambda d: d.status.steps["sink"].ordinals[0].counters.read == 19)
        assert stage.store.writes - before <= 2
        assert not document.status.steps["sink"].is_stalled
        await stage.until(queue_id, lambda d: d.status.steps["sink"].is_stalled, timeout=90)
        stage.say(queue_id, "sink", "loading", counters={"read": 30, "stored": 30}, lag=5)
        await stage.until(queue_id, lambda d: not d.status.steps["sink"].is_stalled, timeout=10)


async def test_a_launcher_that_never_answered_is_told(stage, make_step):
    class Silent(type(stage.launcher)):
        async def watch(self):
            await asyncio.sleep(20)
            async for event in super().watch():
                yield event

    stage.launcher.__class__ = Silent
    stage.launcher.available = False
    async with stage.running():
        queue_id = await stage.submit(make_step("loader"))
        document = await stage.until(queue_id, lambda d: d.step("loader").reason is not None)
        assert document.step("loader").reason.code == "launcher-unreachable"
        stage.launcher.available = True
        await stage.finish(queue_id, "loader")
        await stage.until_state(queue_id, "finished")


async def test_a_job_that_ends_before_its_creation_is_answered_is_not_taken_for_a_running_one(stage, make_step):
    class Late(type(stage.launcher)):
        async def create(self, spec):
            status = await super().create(spec)
            stage.say(spec.queue_id, spec.step, "started")
            stage.say(spec.queue_id, spec.step, "finished", counters={})
            self.exit(spec.name, 0, 0)
            await asyncio.sleep(1)
            return status

    stage.launcher.__class__ = Late
    async with stage.running():
        queue_id = await stage.submit(make_step("loader"))
        await stage.until_state(queue_id, "finished", timeout=30)


async def test_a_fault_of_ours_ends_a_reign_and_not_the_controller(stage, make_step):
    class Faulty(type(stage.broker)):
        faults = 3

        async def publish(self, decisions):
            if self.faults:
                self.faults -= 1
                raise ZeroDivisionError
            await super().publish(decisions)

    stage.broker.__class__ = Faulty
    with structlog.testing.capture_logs() as told:
        async with stage.running():
            queue_id = await stage.submit(make_step("loader"))
            await stage.finish(queue_id, "loader")
            await stage.until(queue_id, lambda d: d.status.state == "finished" and not d.is_open)
    assert len(stage.launcher.created) == 1
    assert sum(line["event"] == "reign_failed" for line in told) == 3
