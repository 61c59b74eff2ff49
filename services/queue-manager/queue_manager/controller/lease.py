"""Which controller acts: a lease in the store, prolonged while it is held and given back at the end.

It saves work; that nothing is done twice rests on compare-and-set and on fixed Job names.
"""

import asyncio
import os
import socket

import structlog
from ulid import ULID

from queue_manager.controller.ports import Ports
from queue_manager.controller.watch import Watch
from streamforge_utils.errors import ConfigurationError, TransientError

RELEASE_S = 2.0

_log = structlog.get_logger(component="controller")


class LeaseLost(Exception):
    """Another controller acts."""


class LeaseKeeper:
    """One owner's side; ``seconds`` is how long the others wait for one that was killed."""

    def __init__(self, ports: Ports, watch: Watch, *, seconds: float) -> None:
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{ULID()}"
        self._ports = ports
        self._watch = watch
        self._seconds = seconds

    async def acquire(self) -> bool:
        """Take or prolong it; False: another has it, or the store does not answer."""
        try:
            return await self._try()
        except (TransientError, ConfigurationError) as error:
            self._watch.tell("store", error)
            return False

    async def renew(self) -> None:
        """Prolong for ever. A store that is away leaves the lease in doubt, which does no harm.

        Raises:
            LeaseLost: another has it.
        """
        while True:
            await asyncio.sleep(self._seconds / 3)
            try:
                is_mine = await self._try()
            except (TransientError, ConfigurationError) as error:
                self._watch.tell("store", error)
            else:
                if not is_mine:
                    raise LeaseLost

    async def release(self) -> None:
        """Let another act at once; a store that is away makes it wait."""
        try:
            async with asyncio.timeout(RELEASE_S):
                await self._ports.store.release(self.owner)
        except (TransientError, ConfigurationError, TimeoutError) as error:
            _log.warning("lease_kept", reason=str(error))

    async def _try(self) -> bool:
        now = self._ports.clock()
        lease = await self._ports.store.acquire(self.owner, now=now, seconds=self._seconds, is_dead=is_dead)
        return lease is not None


def is_dead(owner: str) -> bool:
    """Whether an owner was a process of this machine that is no more: it was killed, nobody has to wait for it."""
    host, _, rest = owner.partition("/")
    pid = rest.partition("/")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
