"""Which Kubernetes it is. What it does not know of a Job it would drop without a word, so an old one is refused."""

import re
from typing import NamedTuple

import structlog

from queue_manager.launcher.interface import LauncherUnavailable
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterAway, ClusterError

_log = structlog.get_logger(component="kubernetes")


class Release(NamedTuple):
    """A minor release."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


NEEDED = Release(1, 34)
"""The oldest one on which the tests run, and the first in which all fields of our Jobs are stable: podFailurePolicy
(1.31), backoffLimitPerIndex (1.33), podReplacementPolicy (1.34)."""


class Version:
    """Asked for once."""

    def __init__(self, api: ClusterApi) -> None:
        self._api = api
        self._is_known = False

    async def check(self) -> None:
        """Look at the server's version; one that does not tell it is taken as it is.

        Raises:
            LauncherUnavailable: it is too old.
            ClusterAway: it does not answer.
        """
        if self._is_known:
            return
        try:
            told = str((await self._api.get("/version")).get("gitVersion"))
        except ClusterAway:
            raise
        except ClusterError as error:
            told = str(error)
        release = release_of(told)
        if release is not None and release < NEEDED:
            raise LauncherUnavailable(
                f"the cluster is Kubernetes {told}; Jobs need {NEEDED} or later", code="configuration"
            )
        if release is None:
            _log.warning("version_unknown", answer=told, needed=str(NEEDED))
        self._is_known = True


def release_of(version: str) -> Release | None:
    """The release of a version such as ``v1.34.4`` or ``v1.33.5-gke.1``; None: it is none."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return Release(int(found[1]), int(found[2])) if found else None
