"""Keeps the parts of a stack running: starts them together, restarts what dies, stops them in reverse order.

It owns processes and nothing else: no data of a part is ever touched here.
"""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from streamforge_local.failures import StackError
from streamforge_local.kafka.broker import Security
from streamforge_local.paths import Home
from streamforge_local.ports import LOOPBACK, is_free, variable
from streamforge_local.stack.leftovers import sweep
from streamforge_local.stack.parts import Part, build_parts
from streamforge_local.stack.process import POLL_S, PartProcess

MIN_FREE_BYTES = 500 << 20
State = Literal["starting", "ready", "waiting", "stopped"]
T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Backoff:
    """Seconds before a restart: 0.2 doubling to 10, from the start again after a life of 30."""

    first_s: float = 0.2
    most_s: float = 10.0
    reset_after_s: float = 30.0
    _next_s: float = field(default=0.0, init=False)

    def delay(self, lived_s: float) -> float:
        """How long to wait after a life of ``lived_s`` seconds."""
        delay = self.first_s if lived_s >= self.reset_after_s or not self._next_s else self._next_s
        self._next_s = min(delay * 2, self.most_s)
        return delay


class Member:
    """A part under supervision."""

    def __init__(self, process: PartProcess) -> None:
        self.process = process
        self.state: State = "starting"
        self.reason: str | None = None
        self.restarts = 0
        self.wanted = asyncio.Event()
        self.ready = asyncio.Event()
        self.first_start: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def part(self) -> Part:
        """What it is."""
        return self.process.part


class Stack:
    """Supervised parts; ``on_change`` is called after each change of a part's state."""

    def __init__(self, home: Home, parts: Sequence[Part], *, on_change: Callable[[], None] = lambda: None) -> None:
        self._home = home
        self._on_change = on_change
        self._keepers: list[asyncio.Task[None]] = []
        mark = str(home.root)
        self.members = {
            part.name: Member(PartProcess(part, log=home.logs / f"{part.name}.log", mark=mark)) for part in parts
        }

    async def open(self) -> None:
        """Start every part and wait until all are ready.

        Raises:
            StackError: a part that cannot start; the others are stopped then.
        """
        try:
            await _in_thread(lambda: check_room(self._home))
            for member in self.members.values():
                check_ports(member.part)
            for name, member in self.members.items():
                member.wanted.set()
                self._keepers.append(asyncio.create_task(self._keep(member), name=f"keep-{name}"))
            await asyncio.gather(*(member.first_start for member in self.members.values()))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop every part, the last one first; idempotent."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()
        for member in reversed(self.members.values()):
            await _in_thread(member.process.close)
            if member.first_start.done() and not member.first_start.cancelled():
                member.first_start.exception()
            self._set(member, "stopped")

    async def kill(self, name: str) -> None:
        """SIGKILL; the part comes back by itself."""
        member = self.members[name]
        member.ready.clear()
        await _in_thread(member.process.kill)

    def pause(self, name: str) -> None:
        """SIGSTOP: the part is there and does not answer, until ``resume``."""
        self.members[name].process.pause()

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.members[name].process.resume()

    async def stop(self, name: str) -> None:
        """Stop a part; it stays away until ``start``."""
        member = self.members[name]
        member.wanted.clear()
        member.ready.clear()
        await _in_thread(member.process.stop)
        self._set(member, "stopped")

    async def start(self, name: str) -> None:
        """Start a stopped part and wait until it is ready."""
        self.members[name].wanted.set()
        await self.wait_ready(name)

    async def wait_ready(self, name: str) -> None:
        """Wait until a part (that may be restarting) is ready."""
        await self.members[name].ready.wait()

    def address(self, name: str) -> str:
        """Where a part is."""
        return self.members[name].part.address

    def env(self) -> dict[str, str]:
        """The variables of ``local.env``: where everything is and how to log in."""
        found: dict[str, str] = {}
        for member in self.members.values():
            found |= member.part.environment()
        return found

    async def _keep(self, member: Member) -> None:
        loop, backoff = asyncio.get_running_loop(), Backoff()
        while True:
            await member.wanted.wait()
            begin = loop.time()
            failure = await self._live(member)
            if not member.first_start.done():
                member.first_start.set_exception(failure)
                return
            if not member.wanted.is_set():
                continue
            member.restarts += 1
            delay = backoff.delay(loop.time() - begin)
            logger.warning("%s; it is started again in %.1f s", failure, delay)
            self._set(member, "waiting", str(failure))
            await asyncio.sleep(delay)

    async def _live(self, member: Member) -> StackError:
        """One life of a part's process; returns why it ended."""
        process, loop = member.process, asyncio.get_running_loop()
        self._set(member, "starting")
        try:
            await _in_thread(process.start)
            if not member.wanted.is_set():  # stopped while it was being started
                await _in_thread(process.stop)
                return process.failure("was stopped")
            deadline = loop.time() + member.part.deadline_s
            while not await _in_thread(process.check):
                if loop.time() > deadline:
                    failure = process.failure(f"is not ready after {member.part.deadline_s:g} s")
                    await _in_thread(process.kill)
                    return failure
                await asyncio.sleep(POLL_S)
            self._set(member, "ready")
            if not member.first_start.done():
                member.first_start.set_result(None)
            # A thread that waits for the end would hold up whoever cancels this.
            while process.is_running:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            return process.end()
        except StackError as error:
            return error
        except Exception as error:  # The guard of all parts: one that is wrong must not end the watch of the others.
            logger.exception("%s cannot be watched", member.part.name)
            await _in_thread(process.kill)
            return process.failure(f"cannot be started: {error!r}")

    def _set(self, member: Member, state: State, reason: str | None = None) -> None:
        member.state, member.reason = state, reason
        if state == "ready":
            member.ready.set()
        else:
            member.ready.clear()
        self._on_change()


def check_room(home: Home) -> None:
    """Refuse to start on a disk that is all but full.

    Raises:
        StackError: less than 500 MB are free.
    """
    home.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home.root).free
    if free < MIN_FREE_BYTES:
        raise StackError(
            f"stack: only {free >> 20} MB are free at {home.root}, {MIN_FREE_BYTES >> 20} are needed; "
            "make room, or name another folder with STREAMFORGE_HOME"
        )


def check_ports(part: Part) -> None:
    """Refuse a part whose port someone else has.

    Raises:
        StackError: naming part and port.
    """
    for port in part.ports:
        if not is_free(port):
            raise StackError(
                f"{part.name}: port {port} on {LOOPBACK} is in use by another program; end that, "
                f"or name another port with {variable(part.name)}"
            )


@asynccontextmanager
async def running_stack(*parts: str | Part, home: Path, security: Security = "plaintext") -> AsyncIterator[Stack]:
    """A supervised stack of some parts for as long as the block lasts, all ready.

    Args:
        parts: Names of real parts (``kafka``, ``arango``, ``node``, ``queue-manager``) or parts of one's own.
        home: The stack's folder; a later stack of the same folder has the same data and ports.
        security: Kafka's.

    Raises:
        StackError: a part that cannot start.
    """
    place = Home.at(home)
    real = build_parts(place, [part for part in parts if isinstance(part, str)], security=security)
    await _in_thread(lambda: sweep(place))
    stack = Stack(place, [*real, *(part for part in parts if not isinstance(part, str))])
    await stack.open()
    try:
        yield stack
    finally:
        await stack.close()


async def _in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call in a thread. A cancelled caller waits for its end: what it started must be known."""
    task = asyncio.create_task(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise
