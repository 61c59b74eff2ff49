"""The Jobs as the platform last told them, by workflow."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from queue_manager.launcher.interface import JobExists, JobSpec, JobStatus, Launcher, LauncherError
from streamforge_utils.errors import StreamForgeError


class JobCache:
    """Follows the launcher's watch; ``changed`` is called with the queue_id of a Job that changed.

    The watch alone is in order: an answer that is read late must never cover what the watch has told since.
    """

    def __init__(self, launcher: Launcher, *, installation: str, changed: Callable[[str], None]) -> None:
        self._launcher = launcher
        self._installation = installation
        self._changed = changed
        self._queue_ids: dict[str, str] = {}
        self._jobs: dict[str, dict[str, JobStatus]] = {}
        self._untold: set[str] = set()
        """Jobs that are being created and of which the watch has told nothing meanwhile."""
        self._noted: set[str] = set()
        """Jobs that are shown because they were created: the watch has told nothing of them yet."""
        self.is_synced = False
        """Whether the list was complete once: before that a missing Job means nothing."""

    def of(self, queue_id: str) -> Mapping[str, JobStatus]:
        """Name -> Job of a workflow."""
        return dict(self._jobs.get(queue_id, {}))

    def queue_ids(self) -> set[str]:
        """Workflows that have Jobs."""
        return set(self._jobs)

    async def create(self, spec: JobSpec) -> None:
        """Have the platform take a Job over; one of that name that is there already is shown as it is.

        Raises:
            LauncherUnavailable, JobRefused: see Launcher.
        """
        self._untold.add(spec.name)
        try:
            try:
                status = await self._launcher.create(spec)
            except JobExists as taken:
                status = taken.status
            is_ours = status.labels.get("queue_id") == spec.queue_id
            if spec.name in self._untold or not is_ours:  # who asked must see that another has the name
                self._put(status, queue_id=spec.queue_id)
                self._noted.add(spec.name)
        finally:
            self._untold.discard(spec.name)

    async def delete(self, name: str, *, grace_s: float | None) -> None:
        """Have the platform end a Job; raises as Launcher."""
        await self._launcher.delete(name, grace_s=grace_s)
        if (queue_id := self._queue_ids.get(name)) is not None:
            self._put(replace(self._jobs[queue_id][name], deleting=True), queue_id=queue_id)

    def _put(self, status: JobStatus, *, queue_id: str) -> None:
        self._queue_ids[status.name] = queue_id
        self._jobs.setdefault(queue_id, {})[status.name] = status

    async def follow(self, synced: Callable[[], None]) -> None:
        """Until cancelled; ``synced`` is called whenever the list is complete."""
        async for event in self._launcher.watch():
            if event.synced:
                self.is_synced = True
                synced()
                await self._drop_vanished()
                continue
            self._untold.discard(event.name)
            self._noted.discard(event.name)
            if event.status is None:
                self._drop(event.name)
            elif event.status.labels.get("installation") == self._installation:
                queue_id = event.status.labels.get("queue_id", "")
                self._put(event.status, queue_id=queue_id)
                self._changed(queue_id)

    async def _drop_vanished(self) -> None:
        """What came and went while the watch was away is on no list and never told of.

        Each is asked for, as the list may be older than the Job: only a Job that is not there after its creation was
        answered is gone.
        """
        async with asyncio.TaskGroup() as asked:  # side by side: news wait meanwhile
            for name in self._noted:
                asked.create_task(self._drop_if_vanished(name))

    async def _drop_if_vanished(self, name: str) -> None:
        with suppress(LauncherError, StreamForgeError):  # the next list asks again
            if await self._launcher.get(name) is None:
                self._noted.discard(name)
                self._drop(name)

    def _drop(self, name: str) -> None:
        queue_id = self._queue_ids.pop(name, None)
        if queue_id is None:
            return
        jobs = self._jobs.get(queue_id, {})
        jobs.pop(name, None)
        if not jobs:
            self._jobs.pop(queue_id, None)
        self._changed(queue_id)
