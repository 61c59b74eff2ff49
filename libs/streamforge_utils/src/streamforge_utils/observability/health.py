"""Whether a process is alive and ready, and why not: named conditions that its parts set. Pure; no I/O."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that readiness needs. ``since`` is when ``is_ok`` last changed, in seconds since the epoch."""

    is_ok: bool
    reason: str
    since: float


class Health:
    """Ready: every condition holds. Live: nobody who promised a sign of progress is overdue.

    ``awaited`` names conditions that do not hold until they are first set.
    """

    def __init__(self, awaited: Iterable[str] = (), *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._conditions = {name: Condition(is_ok=False, reason="starting", since=time.time()) for name in awaited}
        self._promises: dict[str, float] = {}

    def set(self, name: str, *, ok: bool, reason: str = "") -> bool:
        """Say how a condition is; ``reason`` is a sentence for people when it does not hold.

        Returns:
            Whether it changed, so that the caller can tell it once.
        """
        before = self._conditions.get(name)
        is_change = before is None or before.is_ok is not ok
        since = time.time() if before is None or is_change else before.since
        self._conditions[name] = Condition(is_ok=ok, reason="" if ok else reason, since=since)
        return is_change

    def beat(self, name: str, *, within_s: float) -> None:
        """A sign of progress, and the promise of the next one ``within_s`` seconds."""
        self._promises[name] = self._monotonic() + within_s

    def rest(self, name: str) -> None:
        """Take the promise back: ``name`` waits for something that may take any time."""
        self._promises.pop(name, None)

    @property
    def is_ready(self) -> bool:
        """Whether every condition holds."""
        return all(condition.is_ok for condition in self._conditions.values())

    @property
    def overdue(self) -> list[str]:
        """Who promised a sign of progress and did not give it."""
        now = self._monotonic()
        return sorted(name for name, until in self._promises.items() if now > until)

    def live(self) -> tuple[bool, dict[str, Any]]:
        """Verdict and body of /health/live."""
        overdue = self.overdue
        return not overdue, {"status": "stalled" if overdue else "ok", "overdue": overdue}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Verdict and body of /health/ready."""
        conditions = {
            name: {"ok": condition.is_ok, "reason": condition.reason, "since": condition.since}
            for name, condition in sorted(self._conditions.items())
        }
        is_ready = self.is_ready
        return is_ready, {"status": "ok" if is_ready else "unavailable", "conditions": conditions}
