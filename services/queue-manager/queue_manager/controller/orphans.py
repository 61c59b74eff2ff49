"""Jobs of this installation of which no workflow knows: left by a store that was lost or restored, or by hand.

They are told, and removed only when that is switched on: what nobody remembers may still be somebody's work.
"""

import asyncio
from collections.abc import Callable

import structlog

from queue_manager.controller.jobs import JobCache
from queue_manager.controller.lease import LeaseInDoubt, LeaseKeeper
from queue_manager.launcher.interface import LauncherError
from queue_manager.store.interface import WorkflowStore
from streamforge_utils.errors import ConfigurationError, TransientError

LOOK_S = 30.0
AT_ONCE = 500
"""Workflows that are asked about in one look: after a start every Job's is."""

_log = structlog.get_logger(component="controller")


class OrphanKeeper:
    """Looks every ``LOOK_S`` seconds; ``told`` is called with the number of orphans."""

    def __init__(
        self,
        jobs: JobCache,
        store: WorkflowStore,
        *,
        lease: LeaseKeeper,
        is_removing: bool,
        told: Callable[[int], object],
    ) -> None:
        self._jobs, self._store, self._lease = jobs, store, lease
        self._is_removing = is_removing
        self._told = told
        self._known: set[str] = set()
        """Workflows with Jobs, which the store has."""
        self._orphans: dict[str, str] = {}
        """Job -> the workflow that is not there."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except (TransientError, ConfigurationError, LauncherError, LeaseInDoubt) as error:
                _log.info("orphans_not_looked_for", reason=str(error) or type(error).__name__)

    async def _look(self) -> None:
        if not self._jobs.is_synced:
            return
        present = self._jobs.queue_ids()
        self._known &= present
        unknown = sorted(present - self._known)[:AT_ONCE]
        there = await self._store.known(unknown) if unknown else set()
        lost = set(unknown) - there
        self._known |= there
        found = {name: queue_id for queue_id in lost for name in self._jobs.of(queue_id)}
        for name in sorted(found.keys() - self._orphans.keys()):
            _log.warning("orphan_job", job=name, queue_id=found[name], removed=self._is_removing)
        self._orphans = found
        self._told(len(found))
        for name in found if self._is_removing else ():
            self._lease.check()
            await self._jobs.delete(name, grace_s=None)
