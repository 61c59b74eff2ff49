"""The Jobs as the platform last told them, by workflow."""

from collections.abc import Callable, Mapping

from queue_manager.launcher.interface import JobStatus, Launcher


class JobCache:
    """Follows the launcher's watch; ``changed`` is called with the queue_id of a Job that changed."""

    def __init__(self, launcher: Launcher, *, installation: str, changed: Callable[[str], None]) -> None:
        self._launcher = launcher
        self._installation = installation
        self._changed = changed
        self._queue_ids: dict[str, str] = {}
        self._jobs: dict[str, dict[str, JobStatus]] = {}
        self.is_synced = False
        """Whether the list was complete once: before that a missing Job means nothing."""

    def of(self, queue_id: str) -> Mapping[str, JobStatus]:
        """Name -> Job of a workflow."""
        return dict(self._jobs.get(queue_id, {}))

    def knows(self, name: str) -> bool:
        """Whether there is a Job of that name."""
        return name in self._queue_ids

    def put(self, status: JobStatus) -> None:
        """A Job as the platform answered."""
        queue_id = status.labels.get("queue_id", "")
        self._queue_ids[status.name] = queue_id
        self._jobs.setdefault(queue_id, {})[status.name] = status

    async def follow(self, synced: Callable[[], None]) -> None:
        """Until cancelled; ``synced`` is called whenever the list is complete."""
        async for event in self._launcher.watch():
            if event.synced:
                self.is_synced = True
                synced()
            elif event.status is None:
                self._drop(event.name)
            elif event.status.labels.get("installation") == self._installation:
                self.put(event.status)
                self._changed(event.status.labels.get("queue_id", ""))

    def _drop(self, name: str) -> None:
        queue_id = self._queue_ids.pop(name, None)
        if queue_id is None:
            return
        jobs = self._jobs.get(queue_id, {})
        jobs.pop(name, None)
        if not jobs:
            self._jobs.pop(queue_id, None)
        self._changed(queue_id)
