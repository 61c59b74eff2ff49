"""Which controller acts: a lease that is prolonged while it is held and given back at the end.

It saves work; that nothing is done twice rests on compare-and-set, on fixed Job names and on deletes by uid. So a
controller that was frozen, or that cannot prolong its lease, does nothing more once it may no longer be its own.
"""

import asyncio
import math
from collections.abc import Callable

import structlog

from queue_manager.controller.ports import Election
from queue_manager.controller.watch import Watch
from queue_manager.launcher.interface import LauncherError
from queue_manager.owner import is_dead, new_owner
from queue_manager.store.interface import WorkflowStore
from streamforge_utils.errors import ConfigurationError, TransientError

RENEW_AFTER = 0.2
"""Part of the lease's time after which it is prolonged, or asked for."""
HELD_FOR = 0.7
"""Part of it for which its owner acts: with ten seconds these are the 10, 7 and 2 of Kubernetes' own controllers."""
RELEASE_S = 2.0

_AWAY = (TransientError, ConfigurationError, LauncherError)

_log = structlog.get_logger(component="controller")


class LeaseLost(Exception):
    """Another controller acts."""


class LeaseInDoubt(Exception):
    """It was not prolonged in time: another controller may act."""


class StoreElection:
    """A document of the store."""

    part = "store"

    def __init__(self, store: WorkflowStore, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock

    async def take(self, owner: str, *, seconds: float) -> int | None:
        """See Election."""
        lease = await self._store.acquire(owner, now=self._clock(), seconds=seconds, is_dead=is_dead)
        return None if lease is None else lease.epoch

    async def give_back(self, owner: str) -> None:
        """See Election."""
        await self._store.release(owner)


class LeaseKeeper:
    """One owner's side; ``seconds`` is how long others wait for one of which they cannot see whether it lives."""

    def __init__(self, election: Election, watch: Watch, *, seconds: float) -> None:
        self.owner = new_owner()
        self.epoch = 0
        """Of the lease that is or was held last."""
        self._election = election
        self._watch = watch
        self._seconds = seconds
        self._held_until = -math.inf

    async def acquire(self) -> bool:
        """Take or prolong it; False: another has it, or nobody answers."""
        try:
            return await self._try()
        except _AWAY as error:
            self._watch.tell(self._election.part, error)
            return False

    async def pause(self) -> None:
        """Until it is to be asked for again."""
        await asyncio.sleep(self._seconds * RENEW_AFTER)

    async def renew(self) -> None:
        """Prolong for ever; while nobody answers the lease is in doubt.

        Raises:
            LeaseLost: another has it.
        """
        while True:
            await self.pause()
            try:
                is_mine = await self._try()
            except _AWAY as error:
                self._watch.tell(self._election.part, error)
            else:
                if not is_mine:
                    raise LeaseLost

    def check(self) -> None:
        """To be called before anything is done.

        Raises:
            LeaseInDoubt: it was not prolonged in time.
        """
        if asyncio.get_running_loop().time() >= self._held_until:
            raise LeaseInDoubt("nothing is begun until it is certain again who acts")

    async def release(self) -> None:
        """Let another act at once; where nobody answers it has to wait."""
        self._held_until = -math.inf
        try:
            async with asyncio.timeout(RELEASE_S):
                await self._election.give_back(self.owner)
        except (*_AWAY, TimeoutError) as error:
            _log.warning("lease_kept", reason=str(error))

    async def _try(self) -> bool:
        asked_at = asyncio.get_running_loop().time()
        epoch = await self._election.take(self.owner, seconds=self._seconds)
        if epoch is None:
            self._held_until = -math.inf
            return False
        self.epoch, self._held_until = epoch, asked_at + self._seconds * HELD_FOR
        return True
