"""Whether store, broker and launcher answer: for health, and so that no deadline runs while one of them does not."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from queue_manager.controller.ports import Ports
from queue_manager.launcher.interface import LauncherError
from streamforge_utils.errors import StreamForgeError
from streamforge_utils.observability import Health

PROBE_S = 2.0
FIRST_PROBE_S = 0.1
"""Between the first probes of a part that is away: a stack that starts is ready when its last part is."""
PROBE_TIMEOUT_S = 5.0
AWAY = float("inf")

_log = structlog.get_logger(component="controller")


class Watch:
    """Asks each part every ``PROBE_S`` seconds; whoever meets an error on the way may tell it too."""

    def __init__(self, ports: Ports, health: Health) -> None:
        self._ports = ports
        self._health = health
        self._since: dict[str, float] = {}
        self._has_fallen = False
        """A part was away since ``recovered`` was called last, were it between two probes."""

    @property
    def healthy_since(self) -> float:
        """Since when all parts answer, in seconds since the epoch; infinite: one does not."""
        return max(self._since.values(), default=0.0)

    def since(self, part: str) -> float:
        """Since when one part answers."""
        return self._since.get(part, 0.0)

    def tell(self, part: str, error: Exception | None) -> None:
        """A part answered (None) or did not."""
        reason = (str(error) or type(error).__name__) if error else ""
        if self._health.set(part, ok=error is None, reason=reason):
            _log.info("health_changed", part=part, ok=error is None, reason=reason)
        if error is not None:
            self._since[part] = AWAY
            self._has_fallen = True
        elif self._since.get(part, AWAY) == AWAY:
            self._since[part] = self._ports.clock()

    async def run(self, *, recovered: Callable[[], None]) -> None:
        """Until cancelled; ``recovered`` is called when all parts answer again."""
        pause = FIRST_PROBE_S
        while True:
            await asyncio.gather(
                self._probe("store", self._ports.store.read_offsets),
                self._probe("kafka", self._ports.broker.control_ends),
                self._probe("launcher", self._ports.launcher.check),
            )
            is_away = self.healthy_since == AWAY
            if self._has_fallen and not is_away:
                self._has_fallen = False
                recovered()
            pause = min(2 * pause, PROBE_S) if is_away else FIRST_PROBE_S
            await asyncio.sleep(pause if is_away else PROBE_S)

    async def _probe(self, part: str, ask: Callable[[], Awaitable[object]]) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await ask()
        except TimeoutError:
            words = f"{part} gave no answer within {PROBE_TIMEOUT_S:g} s; check that it runs and can be reached"
            self.tell(part, TimeoutError(words))
        except (StreamForgeError, LauncherError) as error:
            self.tell(part, error)
        except Exception as error:  # a fault of ours, or of what answers there, must not end the watch
            _log.exception("probe_failed", part=part)
            self.tell(part, error)
        else:
            self.tell(part, None)
