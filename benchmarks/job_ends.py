"""When each Job of a namespace ended, as a watch of its own tells it: the queue-manager is held against it.

In a thread of its own. It never asks the queue-manager and knows nothing of workflows but the label.
"""

import threading
import time
from typing import Self

import httpx

from benchmarks.simulated_cluster import SELECTOR, Scene
from streamforge_local.kubernetes.api import KubeApi

WATCH_S = 3000
OVER = frozenset({"SuccessCriteriaMet", "Complete", "FailureTarget", "Failed"})
"""Conditions with which a Job has come to its end (batch/v1)."""


class JobEnds:
    """Follows while its ``with`` block lasts: one wave, for the removal of thousands of Jobs outruns a watcher."""

    def __init__(self, scene: Scene, selector: str = SELECTOR) -> None:
        self.ends: list[tuple[str, float]] = []
        """``queue_id`` and the time (``perf_counter``) of each end, in order; it only grows."""
        self._api = KubeApi(scene.cluster.access)
        self._jobs, self._selector = scene.jobs, selector
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="job-ends", daemon=True)

    def __enter__(self) -> Self:
        """From now on."""
        self._thread.start()
        return self

    def check(self) -> None:
        """Raise when it follows no more."""
        if not self._thread.is_alive():
            raise RuntimeError("the benchmark's own watch on Jobs broke off: its figures would be wrong")

    def __exit__(self, *exc_info: object) -> None:
        """It ends with the next event, at the latest with the API server."""
        self._closing.set()

    def _follow(self) -> None:
        query = {"labelSelector": self._selector}
        version = self._api.get(self._jobs, **query)["metadata"]["resourceVersion"]
        over: set[str] = set()
        try:
            for event in self._api.watch(self._jobs, timeout_s=WATCH_S, resourceVersion=version, **query):
                if self._closing.is_set() or event["type"] == "ERROR":
                    return
                meta, status = event["object"]["metadata"], event["object"].get("status", {})
                conditions = {c["type"] for c in status.get("conditions", ()) if c["status"] == "True"}
                if conditions & OVER and meta["uid"] not in over:
                    over.add(meta["uid"])
                    self.ends.append((meta["labels"]["queue_id"], time.perf_counter()))
        except httpx.TransportError:
            if not self._closing.is_set():
                raise
