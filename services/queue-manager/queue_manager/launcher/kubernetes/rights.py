"""Whether the cluster answers, and whether the launcher may do there what it does: each right asked for by name.

Asked by SelfSubjectAccessReview (authorization.k8s.io/v1), so that a missing verb shows before a workflow needs it.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from queue_manager.launcher.interface import LauncherUnavailable
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterAway, ClusterError
from queue_manager.launcher.kubernetes.refusals import refusal
from queue_manager.launcher.kubernetes.version import Version

KEPT_S = 60.0
"""For how long the rights are taken for granted once all are there."""
ROLE = "docs/how-to/run-on-a-cluster.md"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

_log = structlog.get_logger(component="kubernetes")


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one kind of object, as a Role grants it."""

    verb: str
    resource: str
    """Plural; with ``/<subresource>`` for a part of it."""
    group: str = ""
    is_of_namespace: bool = True

    def __str__(self) -> str:
        group = f" ({self.group})" if self.group else ""
        return f'"{self.verb}" "{self.resource}"{group}'

    def review(self, namespace: str) -> dict[str, object]:
        """The body of the question."""
        resource, _, part = self.resource.partition("/")
        asked = {"verb": self.verb, "group": self.group, "resource": resource, "subresource": part}
        if self.is_of_namespace:
            asked["namespace"] = namespace
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }


def _rights(group: str, resource: str, *verbs: str) -> tuple[Right, ...]:
    return tuple(Right(verb, resource, group) for verb in verbs)


NEEDED = (
    *_rights("batch", "jobs", "create", "get", "list", "watch", "delete"),
    *_rights("", "pods", "get", "list", "watch", "delete"),
    *_rights("", "pods/log", "get"),
    *_rights("", "events", "list"),
    *_rights("coordination.k8s.io", "leases", "get", "create", "update"),
)
"""Without one of these workflows stand still."""
WISHED = (Right("get", "nodes", is_of_namespace=False), Right("patch", "pods/status"))
"""Without these a pod on a lost node waits until the node is back or taken out of the cluster."""


class Rights:
    """What one launcher may do; the answers are kept while nothing is missing."""

    def __init__(self, api: ClusterApi) -> None:
        self._api = api
        self._version = Version(api)
        self._good_until = 0.0
        self._told = ""
        """What was said last of rights that need not be there: said once."""

    async def check(self) -> None:
        """Ask the API server for something small, and for the rights when that is due.

        Raises:
            LauncherUnavailable: it does not answer, or a right is missing (``not-authorized``), named in the message.
        """
        now = asyncio.get_running_loop().time()
        try:
            is_allowed = await self._answers()
            await self._version.check()
            if is_allowed and now < self._good_until:
                return
            self._good_until = 0.0
            missing = await self._missing((*NEEDED, *WISHED))
        except ClusterError as error:
            raise refusal(error) from error
        if needed := [right for right in missing if right in NEEDED]:
            named = f"may not {_listed(needed)} in namespace {self._api.namespace}"
            raise LauncherUnavailable(f"{named}: give it the Role of {ROLE}", code="not-authorized")
        self._good_until = now + KEPT_S

    async def _answers(self) -> bool:
        """Whether a get is allowed; a Job of that name need not be there."""
        try:
            await self._api.get(f"/apis/batch/v1/namespaces/{self._api.namespace}/jobs/health-probe")
        except ClusterError as error:
            if error.status not in (403, 404):
                raise
            return error.status == 404
        return True

    async def _missing(self, rights: Iterable[Right]) -> list[Right]:
        asked = list(rights)
        try:
            answers = await asyncio.gather(*(self._may(right) for right in asked))
        except ClusterAway:
            raise
        except ClusterError as error:
            # a cluster may keep the question itself from its users: then the calls tell
            self._tell(f"it cannot be asked for: {error}")
            return []
        missing = [right for right, may in zip(asked, answers, strict=True) if not may]
        wished = [right for right in missing if right in WISHED]
        self._tell(f"may not {_listed(wished)}: a pod on a lost node stays until the node is back" if wished else "")
        return missing

    async def _may(self, right: Right) -> bool:
        answer = await self._api.create(REVIEWS, right.review(self._api.namespace))
        return bool(answer["status"].get("allowed"))

    def _tell(self, what: str) -> None:
        if what and what != self._told:
            _log.warning("right_missing", reason=what)
        self._told = what


def _listed(rights: Iterable[Right]) -> str:
    return ", ".join(map(str, rights))
