"""Does what a plan says, with Kafka, the launcher and the store. It decides nothing and retries nothing.

A change gives a new document, which the caller stores; an effect acts on what is stored.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from ulid import ULID

from queue_manager import decisions
from queue_manager.controller.broker import FOR_EVER, Partition
from queue_manager.controller.event_reader import EventReader
from queue_manager.controller.jobs import JobCache
from queue_manager.controller.judgement import Evidence, Verdict, all_started, judge
from queue_manager.controller.launch import digest, job_name, job_spec
from queue_manager.controller.lease import LeaseKeeper
from queue_manager.controller.plan import Action, pending_reason, sent_key
from queue_manager.controller.ports import Ports
from queue_manager.controller.shared import SharedCall
from queue_manager.controller.watch import Watch
from queue_manager.fold import fold
from queue_manager.launcher.interface import JobRefused, OrdinalStatus
from queue_manager.model import (
    DrainRecord,
    Launch,
    Ordinal,
    Reason,
    StepEnd,
    StepSpec,
    WorkflowDocument,
)
from streamforge_utils.contracts import names
from streamforge_utils.contracts.commands import Command, CommandName, Drain
from streamforge_utils.errors import ConfigurationError
from streamforge_utils.kafka.admin import TopicSpec

_log = structlog.get_logger(component="controller")


class Actions:
    """The doing half of the controller, for one reign."""

    def __init__(self, ports: Ports, *, jobs: JobCache, events: EventReader, watch: Watch, lease: LeaseKeeper) -> None:
        self._ports = ports
        self._lease = lease
        self._jobs = jobs
        self._events = events
        self._broker = ports.broker
        self._control_ends = SharedCall[None, dict[int, int]](lambda _: ports.broker.control_ends())
        self._make_topics = SharedCall[TopicSpec, None](ports.broker.create_topics)
        self.sent: dict[str, set[str]] = {}
        """queue_id -> commands that were sent (``sent_key``)."""
        self._watch = watch

    async def close(self) -> None:
        """End the calls under way."""
        await asyncio.gather(self._control_ends.close(), self._make_topics.close())

    # -- changes -----------------------------------------------------------------------------------------------------

    async def change(self, document: WorkflowDocument, actions: Sequence[Action]) -> WorkflowDocument:
        """The document after all changes; when a launch is judged first of all that, for it may alter the others."""
        judged = [action for action in actions if action.name == "judge"]
        if judged:
            return await self._judge_all(document, judged)
        launches = [action.step for action in actions if action.name == "launch"]
        for action in actions:
            if action.name != "launch":
                document = await self._change_one(document, action)
        return await self._launch(document, launches) if launches else document

    async def _change_one(self, document: WorkflowDocument, action: Action) -> WorkflowDocument:
        now = self._ports.clock()
        match action.name:
            case "observe":
                return await self._observe(document, action)
            case "fix-drain":
                return await self._fix_drain(document, document.spec.step(action.step))
            case "drop":
                return self._drop(document, action)
            case "stop":
                assert action.reason is not None
                return decisions.stop(document, action.reason, now=now)
            case "supersede":
                return decisions.launch_again(document, action.step, "its Job's name was taken", now=now)
            case "release":
                return await self._release(document)
        raise AssertionError(f"{action.name} is no change")

    async def _launch(self, document: WorkflowDocument, steps: Sequence[str]) -> WorkflowDocument:
        """Topics and the ends of queue-control first, then the record: nothing sent after it is missed."""
        specs = [document.spec.step(name) for name in steps]
        _, ends, *baselines = await asyncio.gather(
            self._keep_topics(document), self._control_ends(), *(self._baseline(document, spec) for spec in specs)
        )
        for spec, committed in zip(specs, baselines, strict=True):
            number = max((made.number for made in document.step(spec.name).launches), default=0) + 1
            record = Launch(
                number=number,
                attempt=document.status.attempt,
                job=job_name(document, spec, number),
                decision_id=str(ULID()),
                replicas=spec.replicas,
                control_offsets=ends,
                digest=digest(document, spec),
                recorded_at=self._ports.clock(),
                committed=committed,
                epoch=self._lease.epoch,
            )
            document = decisions.launch(document, spec.name, record)
        return document

    async def _keep_topics(self, document: WorkflowDocument) -> None:
        status = document.status
        # a retry may have come while the end before it was releasing them
        is_first = not any(made.attempt == status.attempt for step in status.steps.values() for made in step.launches)
        is_again = status.attempt > 1 and is_first
        if status.topics == "kept" and not is_again:
            return
        keep, replication = {"retention.ms": str(FOR_EVER)}, self._ports.replication
        partitions = {stream.topic: stream.partitions for stream in document.spec.streams.values()}
        topics = [TopicSpec(name, partitions.get(name, 1), replication, keep) for name in _topics(document)]
        if topics:
            await self._make_topics(topics)
        if status.topics == "released" or is_again:
            await self._broker.set_retention(_topics(document), FOR_EVER)

    async def _baseline(self, document: WorkflowDocument, step: StepSpec) -> dict[str, int]:
        """What the step committed so far; nobody asks for a step that never ran."""
        return await self._committed(document, step) if document.step(step.name).launches else {}

    async def _committed(self, document: WorkflowDocument, step: StepSpec) -> dict[str, int]:
        partitions = [partition for ordinal in range(step.replicas) for partition in _owned(document, step, ordinal)]
        group = names.group(document.queue_id, step.name)
        found = await self._broker.committed(group, partitions)
        return {f"{topic}/{number}": offset for (topic, number), offset in found.items()}

    async def _judge_all(self, document: WorkflowDocument, actions: Sequence[Action]) -> WorkflowDocument:
        await self._events.caught_up()
        document = fold(document, self._events.take(document.queue_id))
        for action in actions:
            document = await self._judge(document, action)
        return document

    async def _judge(self, document: WorkflowDocument, action: Action) -> WorkflowDocument:
        spec = document.spec.step(action.step)
        job = action.job
        launch = document.step(action.step).live_launch(document.status.attempt)
        if launch is None:
            return document
        if job is not None:
            document = await self._observe(document, action)
        if job is not None and job.deleting and job.condition is None:
            job = None
        is_failed = job is not None and job.condition == "failed"
        evidence = Evidence(
            job=job,
            progressed=await self._progressed(document, spec, launch) if is_failed else frozenset(),
            stopping=document.status.stopping,
            is_late=action.is_late and not all_started(document.step(action.step), launch),
        )
        verdict = judge(spec, launch, document.step(action.step), evidence)
        return self._enact(document, action.step, launch, verdict)

    def _enact(self, document: WorkflowDocument, step: str, launch: Launch, verdict: Verdict) -> WorkflowDocument:
        now = self._ports.clock()
        if verdict.outcome == "again":
            why = verdict.reason.message if verdict.reason else "it came to nothing final"
            return decisions.launch_again(document, step, why, now=now)
        end = StepEnd(
            attempt=document.status.attempt,
            launch=launch.number,
            state=verdict.outcome,
            reason=verdict.reason,
            at=now,
            is_partial=verdict.is_partial,
        )
        _log.info("step_ended", queue_id=document.queue_id, step=step, state=end.state)
        return decisions.end_step(document, step, end, now=now)

    async def _progressed(self, document: WorkflowDocument, step: StepSpec, launch: Launch) -> frozenset[int]:
        """The ordinals that committed something in this launch."""
        committed = await self._committed(document, step)
        return frozenset(
            ordinal
            for ordinal in range(launch.replicas)
            if _advanced(document, step, ordinal, before=launch.committed, now=committed)
        )

    async def _observe(self, document: WorkflowDocument, action: Action) -> WorkflowDocument:
        """Ends that the platform counted, and why it does not start."""
        assert action.job is not None
        spec = document.spec.step(action.step)
        known = document.step(action.step).ordinals
        has_idle_ends = any(
            o.disruptions > (known[o.ordinal].disruptions if o.ordinal in known else 0) for o in action.job.ordinals
        )
        committed = await self._committed(document, spec) if has_idle_ends else {}
        changed = document.copied()
        step = changed.step(action.step)
        launch = step.live_launch(changed.status.attempt)
        if launch is None:
            return document
        for status in action.job.ordinals:
            ordinal = step.ordinals.setdefault(status.ordinal, Ordinal())
            before = ordinal.idle_committed or launch.committed
            self._count_idle_ends(
                ordinal,
                status,
                committed,
                is_ahead=_advanced(changed, spec, status.ordinal, before=before, now=committed),
            )
            ordinal.restarts, ordinal.disruptions = status.restarts, status.disruptions
            ordinal.last_exit, ordinal.last_lines = status.last_exit, status.last_lines
        step.reason = pending_reason(step, launch, action.job) or step.reason
        step.warnings = action.job.warnings or step.warnings
        return changed

    def _count_idle_ends(
        self, ordinal: Ordinal, status: OrdinalStatus, committed: Mapping[str, int], *, is_ahead: bool
    ) -> None:
        """Uncounted ends in a row without a commit between; those while the broker was away do not count."""
        if status.restarts > ordinal.restarts:
            ordinal.idle_ends = 0
        more = status.disruptions - ordinal.disruptions
        if more <= 0:
            return
        if is_ahead:
            ordinal.idle_ends = 0
        if status.reason == "start-failed":  # of the machine: there was no process that could have committed
            return
        if status.last_exit_at is None or status.last_exit_at >= self._watch.since("kafka"):
            ordinal.idle_ends += more
        ordinal.idle_committed = dict(committed)

    async def _fix_drain(self, document: WorkflowDocument, step: StepSpec) -> WorkflowDocument:
        """The ends of all that the step reads, after every former writer was fenced."""
        ids = [
            names.transactional_id(document.queue_id, writer.name, launch.number, ordinal)
            for writer in document.spec.upstream(step)
            for launch in document.step(writer.name).launches
            for ordinal in range(launch.replicas)
        ]
        await self._broker.fence(ids)
        streams = [document.spec.streams[name] for name in dict.fromkeys(step.reads.values())]
        found = await self._broker.end_offsets((s.topic, number) for s in streams for number in range(s.partitions))
        ends: dict[str, dict[int, int]] = {}
        for (topic, number), offset in found.items():
            ends.setdefault(topic, {})[number] = offset
        former = [made.drain.drain_id for made in document.step(step.name).launches if made.drain]
        record = DrainRecord(drain_id=max(former, default=0) + 1, ends=ends)
        return decisions.drain(document, step.name, record, now=self._ports.clock())

    def _drop(self, document: WorkflowDocument, action: Action) -> WorkflowDocument:
        """A step that does not run and will not: what a stopped writer wrote so far is a partial whole."""
        stopping = document.status.stopping
        last = document.step(action.step).launch
        has_run = last is not None and last.attempt == document.status.attempt
        is_partial = bool(stopping and stopping.drain and has_run and not document.spec.step(action.step).reads)
        end = StepEnd(
            attempt=document.status.attempt,
            launch=last.number if last else 0,
            state="finished" if is_partial else "interrupted",
            reason=action.reason,
            at=self._ports.clock(),
            is_partial=is_partial,
        )
        return decisions.end_step(document, action.step, end, now=end.at)

    async def _release(self, document: WorkflowDocument) -> WorkflowDocument:
        if topics := _topics(document):
            await self._broker.set_retention(topics, document.spec.retention_ms)
        changed = document.copied()
        changed.status.topics = "released"
        return changed

    # -- effects -----------------------------------------------------------------------------------------------------

    async def act(self, document: WorkflowDocument, actions: Sequence[Action]) -> WorkflowDocument:
        """Do them; the document is another one only when the platform refused a Job for good."""
        do: dict[str, Callable[[WorkflowDocument, Action], Awaitable[None]]] = {
            "send-stop": self._send_stop,
            "send-drain": self._send_drain,
            "end-job": self._end_job,
            "remove": self._remove,
        }
        refusals = await asyncio.gather(*(self._create(document, a) for a in actions if a.name == "create"))
        for action in actions:
            if action.name != "create":
                self._lease.check()
                await do[action.name](document, action)
        for step, reason in (refusal for refusal in refusals if refusal is not None):
            launch = document.step(step).live_launch(document.status.attempt)
            if launch is not None:
                document = self._enact(document, step, launch, Verdict("failed", reason))
        return document

    async def _create(self, document: WorkflowDocument, action: Action) -> tuple[str, Reason] | None:
        spec = document.spec.step(action.step)
        launch = document.step(action.step).launch
        assert launch is not None
        self._lease.check()
        try:
            await self._jobs.create(job_spec(document, spec, launch, self._ports.platform))
        except JobRefused as refused:
            return action.step, Reason(code="job-refused", message=f"{refused.code}: {refused}")
        except ConfigurationError as error:
            return action.step, Reason(code=error.code, message=error.message)
        return None

    async def _send_stop(self, document: WorkflowDocument, action: Action) -> None:
        stopping = document.status.stopping
        payload = {"drain": stopping.drain} if stopping else {}
        await self._send(document, action.step, "stop", payload)

    async def _send_drain(self, document: WorkflowDocument, action: Action) -> None:
        launch = document.step(action.step).launch
        assert launch is not None
        assert launch.drain is not None
        drain = Drain(drain_id=launch.drain.drain_id, launch=launch.number, ends=launch.drain.ends)
        await self._send(document, action.step, "drain", drain.model_dump(mode="json"))

    async def _send(self, document: WorkflowDocument, step: str, name: CommandName, payload: dict[str, Any]) -> None:
        launch = document.step(step).launch
        assert launch is not None
        command = Command(
            command=name,
            queue_id=document.queue_id,
            step=step,
            installation=document.spec.installation,
            sent_at=self._ports.clock(),
            payload=payload,
        )
        await self._broker.send([command])
        self.sent.setdefault(document.queue_id, set()).add(sent_key(launch, name))

    async def _end_job(self, _: WorkflowDocument, action: Action) -> None:
        job = action.job
        assert job is not None
        await self._jobs.delete(job.name, grace_s=action.grace_s)

    async def _remove(self, document: WorkflowDocument, _: Action) -> None:
        """All that is left of a workflow, the document last: a crash in between begins again."""
        spec, store = document.spec, self._ports.store
        if spec.delete is not None and spec.delete.purge:
            await store.purge(spec.collection, document.queue_id)
        await self._broker.delete_groups(names.group(document.queue_id, step.name) for step in spec.steps)
        await self._broker.delete_topics(_topics(document))
        await self._broker.publish([decisions.deleted(document, now=self._ports.clock())])
        await self._events.caught_up()
        await self._events.kept()
        await store.remove(document.queue_id)
        _log.info("workflow_deleted", queue_id=document.queue_id)


def _topics(document: WorkflowDocument) -> list[str]:
    """Its streams and dead letters; without streams there is no commit, so no record can be refused for good."""
    if not document.spec.streams:
        return []
    return [*(stream.topic for stream in document.spec.streams.values()), document.spec.dead_letter_topic]


def _owned(document: WorkflowDocument, step: StepSpec, ordinal: int) -> list[Partition]:
    """Under which partitions an ordinal's commits are found in the group of its step (commit.md, 3 and 4)."""
    if step.reads:
        streams = [document.spec.streams[name] for name in dict.fromkeys(step.reads.values())]
        return [(s.topic, number) for s in streams for number in range(ordinal, s.partitions, step.replicas)]
    first = next(iter(step.writes.values()), None)
    return [] if first is None else [(document.spec.streams[first].topic, ordinal)]


def _advanced(
    document: WorkflowDocument, step: StepSpec, ordinal: int, *, before: Mapping[str, int], now: Mapping[str, int]
) -> bool:
    keys = [f"{topic}/{number}" for topic, number in _owned(document, step, ordinal)]
    return any(now.get(key, -1) > before.get(key, -1) for key in keys)
