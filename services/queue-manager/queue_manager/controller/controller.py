"""The reconcile loop: reads what should be (documents) and what is (Jobs, events) and does the next step.

One controller of an installation acts at a time (a lease in the store); every write is compare-and-set, so two that
both believe they may act launch nothing twice. Nothing is retried anywhere else, and no failure ends the loop.
"""

import asyncio
import math
import random
from dataclasses import dataclass

import structlog

from queue_manager.controller.actions import Actions
from queue_manager.controller.event_reader import EventReader
from queue_manager.controller.jobs import JobCache
from queue_manager.controller.lease import LeaseInDoubt, LeaseKeeper, LeaseLost, StoreElection
from queue_manager.controller.loading import under_way
from queue_manager.controller.orphans import OrphanKeeper
from queue_manager.controller.outbox import Outbox
from queue_manager.controller.plan import Plan, World, make_plan
from queue_manager.controller.ports import Ports
from queue_manager.controller.reign import Reign
from queue_manager.controller.shared import is_told_to_end, never_cancelled
from queue_manager.controller.waiting import note_waiting
from queue_manager.controller.watch import AWAY, Watch
from queue_manager.controller.work_queue import WorkQueue
from queue_manager.fold import fold, mark_stalled
from queue_manager.launcher.interface import LauncherError, LauncherUnavailable
from queue_manager.model import WorkflowDocument
from queue_manager.store.interface import Stale
from streamforge_utils.errors import ConfigurationError, StreamForgeError, TransientError
from streamforge_utils.observability.health import Health

MAX_ROUNDS = 20
"""Plans carried out for one workflow before others have their turn."""
FIRST_LOOK_S = 1.0
"""Between two looks while the list of Jobs is not complete: when it is, all workflows are looked at anyway."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0
RESYNC_REST, LONGEST_RESYNC_S = 9, 10.0
"""After a look at all workflows nine times as long a rest: of thousands each is a load that others wait for."""
STALLED_S = 120.0
"""A controller that does not come round for so long is not alive: every call it makes has a shorter deadline."""

_log = structlog.get_logger(component="controller")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much, and how often."""

    max_running: int = 32
    concurrency: int = 8
    lease_s: float = 10.0
    resync_s: float = 1.0
    removes_orphans: bool = False
    """Whether Jobs of which no workflow knows are ended, not only told."""


class Controller:
    """``run`` until cancelled. ``submitted`` and ``nudge`` come from the API of the same process, if there is one."""

    def __init__(self, ports: Ports, *, limits: Limits, health: Health) -> None:
        self._ports = ports
        self._limits = limits
        self._health = health
        self._reign: Reign | None = None
        self._installation = ""
        self._watch = Watch(ports, health)
        election = ports.election or StoreElection(ports.store, ports.clock)
        self._lease = LeaseKeeper(election, self._watch, seconds=limits.lease_s)

    @property
    def is_leading(self) -> bool:
        """Whether this controller is the one that acts."""
        return self._reign is not None

    def submitted(self, document: WorkflowDocument) -> None:
        """A workflow was stored just now; saves the reading of it."""
        reign = self._reign
        if reign is None or not reign.is_loaded:
            return
        if not reign.has_waiting and len(reign.placed) < self._limits.max_running:
            reign.placed.add(document.queue_id)
            reign.documents.put(document)
            reign.documents.rest(document.queue_id)  # under load hundreds wait for their first look
            reign.work.add(document.queue_id)
        else:
            reign.has_waiting = True
            reign.outbox.offer(document)

    def nudge(self, queue_id: str) -> None:
        """Something was asked of a workflow."""
        if self._reign is not None:
            self._reign.documents.drop(queue_id)
            self._reign.work.add(queue_id)

    async def run(self) -> None:
        """Wait for the lease, act, give it back at the end."""
        await self._prepare()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.run(recovered=self._look_at_all), name="controller-watch")
            tasks.create_task(self._rule(), name="controller-rule")

    async def _prepare(self) -> None:
        pause = FIRST_RETRY_S
        while True:
            try:
                await self._ports.store.ensure()
                self._installation = await self._ports.store.installation()
            except (TransientError, ConfigurationError) as error:
                self._watch.tell("store", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_RETRY_S)
            else:
                self._watch.tell("store", None)
                return

    # -- the lease ---------------------------------------------------------------------------------------------------

    async def _rule(self) -> None:
        try:
            while True:
                if await self._lease.acquire():
                    await self._act_safely()
                self._health.beat("controller", within_s=STALLED_S)
                await self._lease.pause()
        finally:
            await asyncio.shield(self._lease.release())

    async def _act_safely(self) -> None:
        """A fault of ours ends a reign, never the controller.

        In a task of its own: a TaskGroup that fails forgets that it was cancelled, too.
        """
        acting = asyncio.create_task(self._act(), name="controller-reign")
        try:
            await asyncio.wait({acting})
        finally:
            acting.cancel()
            await asyncio.wait({acting})
            self._tell_end(acting)

    def _tell_end(self, acting: "asyncio.Task[None]") -> None:
        error = None if acting.cancelled() else acting.exception()
        if isinstance(error, BaseExceptionGroup) and error.subgroup(LeaseLost) is not None:
            _log.warning("lease_lost", owner=self._lease.owner)
        elif error is not None:
            _log.error("reign_failed", owner=self._lease.owner, exc_info=error)

    async def _act(self) -> None:
        reign = self._begin()
        self._reign = reign
        _log.info("leading", owner=self._lease.owner, epoch=self._lease.epoch)
        try:
            async with asyncio.TaskGroup() as tasks:
                lasting = {
                    "renew": self._lease.renew(),
                    "events": reign.events.run(),
                    "outbox": reign.outbox.run(),
                    "jobs": reign.jobs.follow(self._look_at_all),
                    "resync": self._resync(reign),
                    "orphans": self._orphans(reign.jobs).run(),
                    **{f"work-{number}": self._work(reign) for number in range(self._limits.concurrency)},
                }
                for name, work in lasting.items():
                    tasks.create_task(never_cancelled(work), name=f"controller-{name}")
        finally:
            self._reign = None
            reign.work.clear()
            await reign.actions.close()

    def _begin(self) -> Reign:
        work = WorkQueue()
        jobs = JobCache(self._ports.launcher, installation=self._installation, changed=work.add)
        events = EventReader(
            self._ports.broker,
            self._ports.store,
            installation=self._installation,
            wake=work.add_later,
            on_skip=self._ports.counts.skipped,
        )
        return Reign(
            work=work,
            jobs=jobs,
            events=events,
            outbox=Outbox(self._ports.broker, published=self._published),
            actions=Actions(self._ports, jobs=jobs, events=events, watch=self._watch, lease=self._lease),
        )

    def _orphans(self, jobs: JobCache) -> OrphanKeeper:
        is_removing = self._limits.removes_orphans
        return OrphanKeeper(
            jobs, self._ports.store, lease=self._lease, is_removing=is_removing, told=self._ports.counts.orphans
        )

    def _published(self, queue_id: str) -> None:
        """An ended workflow's outbox is cleared by a write of its own, any other's by its next one."""
        reign = self._reign
        if reign is not None and reign.documents.is_ended(queue_id):
            reign.work.add(queue_id)

    # -- looking for work --------------------------------------------------------------------------------------------

    async def _resync(self, reign: Reign) -> None:
        """What other replicas of the API accepted, what a crash left behind, who waits for a place."""
        while True:
            if reign.work.longest_s < STALLED_S:
                self._health.beat("controller", within_s=STALLED_S)
            began, took = asyncio.get_running_loop().time(), 0.0
            try:
                for found in await under_way(self._ports.store, reign):
                    if reign.documents.rev(found.queue_id) != found.rev:
                        reign.documents.drop(found.queue_id)
                        reign.work.add(found.queue_id)
                        if not reign.is_loaded:
                            reign.placed.add(found.queue_id)
                reign.is_loaded = True
                reign.has_waiting = True
                await self._admit(reign)
                took = asyncio.get_running_loop().time() - began
            except (TransientError, ConfigurationError) as error:
                self._watch.tell("store", error)
            for queue_id in reign.documents.stalling(self._ports.clock()):
                reign.work.add(queue_id)
            await asyncio.sleep(max(self._limits.resync_s, min(RESYNC_REST * took, LONGEST_RESYNC_S)))

    async def _admit(self, reign: Reign) -> None:
        """Give free places to those who wait longest."""
        free = self._limits.max_running - len(reign.placed)
        if not reign.is_loaded or free <= 0 or not reign.has_waiting:
            return
        reign.has_waiting = False
        waiting = await self._ports.store.waiting(self._limits.max_running + 1)
        new = [queue_id for queue_id in waiting if queue_id not in reign.placed]
        for queue_id in new[: self._limits.max_running - len(reign.placed)]:
            reign.placed.add(queue_id)
            reign.work.add(queue_id)
        reign.has_waiting = reign.has_waiting or len(new) > free

    async def _work(self, reign: Reign) -> None:
        while True:
            queue_id = await reign.work.take()
            try:
                await self._attempt(reign, queue_id)
            finally:
                reign.documents.rest(queue_id)
                reign.work.done(queue_id)

    async def _attempt(self, reign: Reign, queue_id: str) -> None:
        """Reconcile one workflow; whatever goes wrong, it comes again."""
        try:
            await self._reconcile(reign, queue_id)
        except LeaseInDoubt as error:
            reign.events.give_back(queue_id)
            if self._watch.since("launcher") == AWAY:
                await note_waiting(self._ports.store, reign, queue_id, LauncherUnavailable(str(error)))
            self._again_later(reign, queue_id)
        except Stale:
            reign.documents.drop(queue_id)
            reign.events.give_back(queue_id)
            reign.work.add_later(queue_id, random.uniform(0.001, 0.02))  # noqa: S311 - jitter
        except asyncio.CancelledError:
            reign.events.give_back(queue_id)
            if is_told_to_end():
                raise
            self._again_later(reign, queue_id)
        except (StreamForgeError, LauncherError, TimeoutError) as error:
            reign.events.give_back(queue_id)
            await note_waiting(self._ports.store, reign, queue_id, error)
            self._again_later(reign, queue_id)
        except Exception:
            reign.events.give_back(queue_id)
            _log.exception("reconcile_failed", queue_id=queue_id)
            reign.documents.drop(queue_id)
            self._again_later(reign, queue_id)
        else:
            reign.failures.pop(queue_id, None)

    def _again_later(self, reign: Reign, queue_id: str) -> None:
        count = reign.failures.get(queue_id, 0)
        reign.failures[queue_id] = count + 1
        reign.work.add_later(queue_id, min(FIRST_RETRY_S * 2 ** min(count, 10), LONGEST_RETRY_S))

    # -- one workflow ------------------------------------------------------------------------------------------------

    async def _reconcile(self, reign: Reign, queue_id: str) -> None:
        document = reign.documents.get(queue_id)
        if document is None and (document := await self._ports.store.get(queue_id)) is not None:
            reign.documents.put(document)
        if document is None:
            reign.events.take(queue_id)
            reign.events.done(queue_id)
            self._leave(reign, queue_id)
            await self._admit(reign)
            return
        reign.outbox.offer(document)
        if not reign.jobs.is_synced:  # until then a missing Job means nothing
            if self._watch.since("launcher") == AWAY:
                raise LauncherUnavailable("it has not told its Jobs yet")
            reign.work.add_later(queue_id, FIRST_LOOK_S)
            return
        if events := reign.events.take(queue_id):
            document = fold(document, events)
        await self._carry_out(reign, mark_stalled(document, self._ports.clock()) or document)

    async def _carry_out(self, reign: Reign, document: WorkflowDocument) -> None:
        """Plan after plan: changes gather up to one write, effects come after it."""
        queue_id = document.queue_id
        if document.is_ended:  # also while something that is left to do for it fails again and again
            reign.placed.discard(queue_id)
        has_room = self._has_room(reign, document)
        for _ in range(MAX_ROUNDS):
            plan = make_plan(document, reign.jobs.of(queue_id), self._world(reign, queue_id, has_room=has_room))
            if any(change.name == "release" for change in plan.changes):
                # an end is told at once; the rest is done with the write that clears its outbox
                document = await self._store(reign, document)
                if not reign.outbox.is_out(document):
                    break
            if _begins_a_job(plan) and not reign.work.is_due(queue_id):
                document = await self._store(reign, document)
                reign.work.put_off(queue_id)
                break
            if plan.changes:
                document = await reign.actions.change(document, plan.changes)
                continue
            document = await self._store(reign, document)
            if not plan.effects:
                break
            if any(effect.name == "remove" for effect in plan.effects):
                if not reign.outbox.is_out(document):  # nothing may be told of it after its end
                    break
                await reign.actions.act(document, plan.effects)
                self._leave(reign, queue_id)
                break
            document = await reign.actions.act(document, plan.effects)
        else:
            document = await self._store(reign, document)
            reign.work.add(queue_id)
        await self._settle(reign, document, plan.wake_at)

    async def _store(self, reign: Reign, document: WorkflowDocument) -> WorkflowDocument:
        """One write for all changes, if there are any; then the decisions in it go out."""
        queue_id = document.queue_id
        is_due = document.is_ended and reign.outbox.is_due(document)
        if document is reign.documents.get(queue_id) and not is_due:
            return document
        self._lease.check()
        changed = document.copied()
        reign.outbox.strip(changed)
        stored = await self._ports.store.update(changed)
        reign.documents.put(stored)
        reign.events.done(queue_id)
        reign.outbox.forget(stored)
        reign.outbox.offer(stored)
        return stored

    async def _settle(self, reign: Reign, document: WorkflowDocument, wake_at: float | None) -> None:
        """What is to be remembered until something happens."""
        queue_id = document.queue_id
        reign.events.done(queue_id)
        if document.is_ended:
            reign.placed.discard(queue_id)
        if document.is_waiting and queue_id not in reign.placed:
            reign.has_waiting = True
        if not document.is_open or (document.is_waiting and queue_id not in reign.placed):
            reign.documents.drop(queue_id)
            reign.actions.sent.pop(queue_id, None)
        elif wake_at is not None and not math.isinf(wake_at):
            reign.work.add_later(queue_id, wake_at - self._ports.clock())
        await self._admit(reign)

    def _leave(self, reign: Reign, queue_id: str) -> None:
        reign.documents.drop(queue_id)
        reign.placed.discard(queue_id)
        reign.actions.sent.pop(queue_id, None)

    def _has_room(self, reign: Reign, document: WorkflowDocument) -> bool:
        if document.status.has_place:
            reign.placed.add(document.queue_id)
        return document.queue_id in reign.placed

    def _world(self, reign: Reign, queue_id: str, *, has_room: bool) -> World:
        return World(
            now=self._ports.clock(),
            has_room=has_room,
            healthy_since=self._watch.healthy_since,
            sent=frozenset(reign.actions.sent.get(queue_id, ())),
        )

    def _look_at_all(self) -> None:
        """All parts answer again, so deadlines run on; or the list of Jobs is complete."""
        if self._reign is not None:
            for queue_id in self._reign.documents:
                self._reign.work.add(queue_id)


def _begins_a_job(plan: Plan) -> bool:
    return any(action.name in ("launch", "create") for action in (*plan.changes, *plan.effects))
