"""What one odd message, one missing right or one unlucky moment must not do to everything else."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from queue_manager import decisions
from queue_manager.api.events import _stream
from queue_manager.controller.launch import Platform, job_spec
from streamforge_utils.errors import ConfigurationError, NotConnected, PermanentError

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("poison", [b'"payload":{"x":NaN}', b'"timestamp":1e999', b'"payload":{"x":-Infinity}'])
async def test_a_number_that_is_none_on_queue_events_does_not_stop_everything(stage, make_step, poison):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader"))
        await stage.job(queue_id, "loader")
        stage.broker.append(
            b'{"queue_id":"wf-x","producer":"p","target":"t","step":"s","run":"r","seq":1,"event":"error",'
            b'"installation":"' + stage.installation.encode() + b'",' + poison + b"}"
        )
        await stage.finish(queue_id, "loader")
        await stage.until_state(queue_id, "finished", timeout=40)


async def test_a_decision_too_large_for_kafka_does_not_stop_everything(stage, make_step):
    class Real(type(stage.broker)):
        async def publish(self, decisions):
            for decision in decisions:
                if len(decision.to_json()) > 5_000:
                    raise PermanentError("too large for queue-events", code="too-large")  # as TopicWriter.write
            await super().publish(decisions)

    stage.broker.__class__ = Real
    async with stage.running() as controller:
        await asyncio.sleep(2)
        await stage.submit(make_step("big"), controller=controller, request={"x": "x" * 6_000})
        other = await stage.submit(make_step("loader"), controller=controller)
        await stage.finish(other, "loader")
        await stage.until_state(other, "finished", timeout=40)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_start_deadline_is_kept_though_the_store_failed_once_between_two_probes(stage, make_step, fails):
    failing = {"until": 0.0}

    class Once(type(stage.store)):
        async def open_workflows(self):
            if stage.clock() < failing["until"]:
                raise NotConnected("one look timed out", code="store-unreachable")
            return await super().open_workflows()

    stage.store.__class__ = Once
    async with stage.running():
        await asyncio.sleep(5.1)
        queue_id = await stage.submit(make_step("loader", start_deadline_s=60))
        name = await stage.job(queue_id, "loader")
        await asyncio.sleep(10)
        # next resync fails once; meanwhile the platform says something about the Job
        failing["until"] = stage.clock() + 1.05 * fails
        while fails and stage.health.ready()[1]["conditions"]["store"]["ok"]:
            await asyncio.sleep(0.01)
        job = stage.launcher._jobs[name]
        job.reason, job.message = "image-pull", "still pulling"
        stage.launcher._settle(job)
        await stage.until_state(queue_id, "failed", timeout=300)


async def test_ended_workflows_whose_topics_cannot_be_released_take_no_place_after_a_restart(stage, make_step):
    class NoRight(type(stage.broker)):
        async def set_retention(self, topics, retention_ms):
            raise ConfigurationError("TopicAuthorizationFailed: give the user the right AlterConfigs")

    stage.broker.__class__ = NoRight
    async with stage.running(max_running=2):
        for _ in range(2):
            queue_id = await stage.submit(make_step("loader", writes=("data",)))
            await stage.finish(queue_id, "loader")
            await stage.until_state(queue_id, "finished")
        third = await stage.submit(make_step("loader", writes=("data",)))
        await stage.finish(third, "loader")
        await stage.until_state(third, "finished")  # the same reign: fine
    async with stage.running(max_running=2):
        await asyncio.sleep(5)
        fourth = await stage.submit(make_step("loader", writes=("data",)))
        await asyncio.wait_for(stage.job(fourth, "loader"), 120)


async def test_a_retried_workflow_keeps_its_topics_for_ever(stage, make_step):
    controllers = []
    done = []

    class Slow(type(stage.broker)):
        async def set_retention(self, topics, retention_ms):
            await super().set_retention(topics, retention_ms)
            if not done:  # the client saw `ended` on the event stream and asks for a retry, as scripts do
                done.append(1)
                now = stage.clock()
                await stage.store.change(topics[0].rsplit("-", 1)[0], lambda d: decisions.ask_retry(d, now=now))
                controllers[0].nudge(topics[0].rsplit("-", 1)[0])

    stage.broker.__class__ = Slow
    async with stage.running() as controller:
        controllers.append(controller)
        queue_id = await stage.submit(make_step("loader", writes=("data",), backoff_limit=0))
        name = await stage.job(queue_id, "loader")
        stage.say(queue_id, "loader", "started")
        stage.launcher.exit(name, 0, 1)
        await stage.job(queue_id, "loader", 2)
        stage.say(queue_id, "loader", "started", launch=2)
        document = await stage.until_state(queue_id, "running")
        await asyncio.sleep(5)
        assert document.status.topics == "kept"
        assert set(stage.broker.retention.values()) == {-1}


async def test_a_deletion_ends_while_other_workflows_go_on_talking(stage, make_step):
    class Slow(type(stage.store)):
        async def append_history(self, entries):
            await asyncio.sleep(0.05)
            await super().append_history(entries)

    stage.store.__class__ = Slow
    async with stage.running() as controller:
        gone = await stage.submit(make_step("loader"))
        await stage.finish(gone, "loader")
        await stage.until_state(gone, "finished")
        other = await stage.submit(make_step("sink"))
        await stage.job(other, "sink")
        stage.say(other, "sink", "started")

        async def talk():
            while True:
                stage.say(other, "sink", "pong")
                await asyncio.sleep(0.02)

        talking = asyncio.create_task(talk())
        try:
            now = stage.clock()
            await stage.store.change(gone, lambda d: decisions.ask_delete(d, purge=False, now=now))
            controller.nudge(gone)
            async with asyncio.timeout(20):
                while await stage.store.get(gone) is not None:
                    await asyncio.sleep(0.1)
        finally:
            talking.cancel()


async def test_a_figure_beyond_64_bits_does_not_stop_its_workflow(stage, make_step):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader"))
        await stage.job(queue_id, "loader")
        stage.say(queue_id, "loader", "started")
        await stage.until_state(queue_id, "running")
        stage.say(queue_id, "loader", "loading", lag=2**70)
        name = await stage.job(queue_id, "loader")
        stage.say(queue_id, "loader", "finished")
        stage.launcher.exit(name, 0, 0)
        await stage.until_state(queue_id, "finished", timeout=40)


async def test_a_job_of_another_workflow_that_has_the_name_is_not_asked_for_without_a_pause(stage, make_step):
    asked = []

    class Counting(type(stage.launcher)):
        async def create(self, spec):
            asked.append(spec.name)
            await asyncio.sleep(0.001)
            return await super().create(spec)

    stage.launcher.__class__ = Counting
    stage.launcher.available = False
    async with stage.running():
        await asyncio.sleep(1)
        queue_id = await stage.submit(make_step("loader"))
        document = await stage.until(queue_id, lambda d: d.step("loader").launch is not None)
        ours = job_spec(document, document.spec.step("loader"), document.step("loader").launch, Platform({}, {}))
        stage.launcher.available = True
        await stage.launcher.create(replace(ours, queue_id="wf-another", decision_id="another"))
        asked.clear()
        await asyncio.sleep(5)
        assert len(asked) < 20, len(asked)


async def test_stray_cancellations_leave_a_controller_that_works(stage, make_step):
    class Stray(type(stage.broker)):
        left = 2

        async def create_topics(self, topics):
            if self.left:
                self.left -= 1
                raise asyncio.CancelledError
            await super().create_topics(topics)

    stage.broker.__class__ = Stray
    async with stage.running(concurrency=2):
        ids = [await stage.submit(make_step("loader", writes=("data",))) for _ in range(3)]
        async with asyncio.timeout(120):
            for queue_id in ids:
                await stage.finish(queue_id, "loader")
                await stage.until_state(queue_id, "finished")


async def test_starts_that_fail_are_no_ends_of_a_worker(stage, make_step):
    stage.launcher._auto_start = False
    async with stage.running():
        queue_id = await stage.submit(make_step("loader", writes=("data",)))
        name = await stage.job(queue_id, "loader")
        job = stage.launcher._jobs[name]
        for count, pause in enumerate((0.1, 0.2, 0.4, 0.8, 1.6), start=1):  # Job.not_started, RestartPolicy.delay
            job.ordinals[0] = replace(job.ordinals[0], disruptions=count, reason="start-failed")
            job.reason, job.message = "start-failed", "the journal cannot be written"
            stage.launcher._settle(job)
            await asyncio.sleep(pause)
        stage.launcher._auto_start = True
        if name in stage.launcher._jobs:
            stage.launcher._settle(job)
        await asyncio.sleep(3)
        stage.say(queue_id, "loader", "started")
        assert (await stage.get(queue_id)).status.state != "failed", (await stage.get(queue_id)).status.reason


async def test_a_controller_that_is_cancelled_while_a_reign_fails_ends(stage, make_step):
    class Tail:
        def __init__(self, inner):
            self.inner = inner

        @property
        def positions(self):
            return self.inner.positions

        async def read(self, *, timeout_s):
            return await self.inner.read(timeout_s=timeout_s)

        async def close(self):
            await asyncio.sleep(2)  # stop_client: up to 2 * STOP_SECONDS and more, Kafka being away

    class Slow(type(stage.broker)):
        def tail(self, offsets):
            return Tail(super().tail(offsets))

    stage.broker.__class__ = Slow
    controller = stage.controller(lease_s=10)
    task = asyncio.create_task(controller.run())
    await asyncio.sleep(5)
    assert controller.is_leading
    lease = stage.store._lease  # another has taken it (this one was frozen for a while, say)
    stage.store._lease = type(lease)("another/1/x", lease.epoch + 1, stage.clock() + 8)
    while any(t.get_name() == "controller-renew" for t in asyncio.all_tasks()):
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)  # the reign is being unwound
    task.cancel()  # SIGTERM
    await asyncio.wait([task], timeout=60)
    ended, leads = task.done(), controller.is_leading
    for _ in range(20):
        if not task.done():
            task.cancel()
            await asyncio.sleep(0.5)
    assert ended, f"still there 60 s after it was told to end, leading: {leads}"


@pytest.mark.parametrize("is_between", [False, True])
async def test_the_stream_ends_though_the_end_came_between_its_two_reads(stage, make_step, is_between):
    async with stage.running():
        queue_id = await stage.submit(make_step("loader"))
        await stage.job(queue_id, "loader")
        stage.say(queue_id, "loader", "started")
        await stage.until_state(queue_id, "running")

        class Between:
            async def get(self, queue_id):
                return await stage.store.get(queue_id)

            async def history(self, queue_id, **more):
                nonlocal is_between
                if is_between:  # the request waits for a thread, or the server is slow: 0.3 s
                    is_between = False
                    await stage.finish(queue_id, "loader")
                    await asyncio.sleep(1)
                return await stage.store.history(queue_id, **more)

        async def pause(seconds):
            await asyncio.sleep(seconds)
            return True

        parts = SimpleNamespace(store=Between(), pause=pause, settings=SimpleNamespace(keep_alive_s=15.0, poll_s=0.5))
        document = await stage.get(queue_id)
        if not is_between:
            asyncio.get_running_loop().create_task(stage.finish(queue_id, "loader"))
        async with asyncio.timeout(120):
            async for _ in _stream(parts, document, None):
                pass
