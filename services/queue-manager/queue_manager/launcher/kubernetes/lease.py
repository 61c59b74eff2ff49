"""Who acts, written into a Lease object of the namespace (coordination.k8s.io/v1), as Kubernetes' own controllers do.

The times in the object are those of whoever wrote it, and clocks differ: a candidate goes by how long it has seen the
object unchanged itself (client-go, ``leaderelection``).
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

from queue_manager.launcher.interface import LauncherUnavailable
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterError
from queue_manager.launcher.kubernetes.refusals import refusal
from queue_manager.owner import is_dead

CALL_S = 4.0
"""Less than what a lease of ten seconds leaves between its last renewal and its doubt."""


class LeaseElection:
    """See controller.lease.Election."""

    part = "launcher"

    def __init__(self, api: ClusterApi, name: str) -> None:
        self._api, self._name = api, name
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{api.namespace}/leases"
        self._seen: tuple[str, float] = ("", 0.0)
        """Version of the object, and when it was seen for the first time on this machine's own clock."""

    async def take(self, owner: str, *, seconds: float) -> int | None:
        """See Election."""
        try:
            async with asyncio.timeout(CALL_S):
                return await self._take(owner, seconds)
        except TimeoutError as error:
            raise LauncherUnavailable(f"the lease {self._name} gave no answer within {CALL_S:g} s") from error
        except ClusterError as error:
            if error.status == 409:  # somebody was quicker; whether it was another shows at the next look
                return None
            raise refusal(error) from error

    async def give_back(self, owner: str) -> None:
        """See Election."""
        try:
            lease = await self._get()
            if lease is not None and lease["spec"].get("holderIdentity") == owner:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                await self._api.replace(f"{self._leases}/{self._name}", lease)
        except ClusterError as error:
            if error.status != 409:
                raise refusal(error) from error

    async def _take(self, owner: str, seconds: float) -> int | None:
        lease = await self._get()
        if lease is None:
            made = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "labels": {"app": "streamforge"}},
                "spec": _held(owner, seconds, epoch=1),
            }
            await self._api.create(self._leases, made)
            return 1
        spec = lease["spec"]
        holder, epoch = spec.get("holderIdentity") or "", int(spec.get("leaseTransitions") or 0)
        if holder == owner:
            spec |= {"renewTime": _now(), "leaseDurationSeconds": max(1, round(seconds))}
        elif holder and not self._is_over(lease) and not is_dead(holder):
            return None
        else:
            epoch += 1
            lease["spec"] = _held(owner, seconds, epoch=epoch)
        await self._api.replace(f"{self._leases}/{self._name}", lease)
        return epoch

    def _is_over(self, lease: dict[str, Any]) -> bool:
        """Whether it stayed as it is for longer than its holder said."""
        now = asyncio.get_running_loop().time()
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, now)
        return now - self._seen[1] > float(lease["spec"].get("leaseDurationSeconds") or 0)

    async def _get(self) -> dict[str, Any] | None:
        try:
            return await self._api.get(f"{self._leases}/{self._name}")
        except ClusterError as error:
            if error.status == 404 and error.reason == "NotFound":
                return None
            raise


def _held(owner: str, seconds: float, *, epoch: int) -> dict[str, Any]:
    return {
        "holderIdentity": owner,
        "leaseDurationSeconds": max(1, round(seconds)),
        "acquireTime": _now(),
        "renewTime": _now(),
        "leaseTransitions": epoch,
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
