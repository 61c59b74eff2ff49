"""Whether pods reach what workers need: a pod made as a worker's is, which connects to the broker and the store.

It has the worker's image, environment, mounts, placement and rights, so that whatever keeps a worker from its start is
seen here first. It is removed by its uid, whatever came of it.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from queue_manager.launcher.interface import JobSpec
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterError
from queue_manager.launcher.kubernetes.manifest import job_manifest
from queue_manager.launcher.kubernetes.objects import Pod, pod_of
from queue_manager.launcher.kubernetes.pending import Pending, pending
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from streamforge_utils.errors import ConfigurationError

DEADLINE_S = 60.0
HOPELESS_S = 3.0
"""How long a complaint of the node must last to be believed: the first pull of an image may stumble."""
POLL_S = 0.2
NAME = "preflight"

_PROBE = """\
import os, socket, sys
from urllib.parse import urlsplit
store = urlsplit(os.environ["ARANGO_URL"])
places = [("kafka", place.strip()) for place in os.environ["KAFKA_BOOTSTRAP_SERVERS"].split(",")]
places.append(("the store", f"{store.hostname}:{store.port or (443 if store.scheme == 'https' else 80)}"))
faults = []
for what, place in places:
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        faults.append(f"{what} at {place} ({error})")
print(" and ".join(faults), file=sys.stderr)
sys.exit(3 if faults else 0)
"""
_UNREACHED = 3
"""Exit code of the probe; 1 is Python's own."""


def preflight_pod(
    settings: KubernetesSettings,
    *,
    target: str,
    image: str,
    resources: Mapping[str, Mapping[str, str]],
    installation: str,
) -> dict[str, Any]:
    """The body of the request that makes the pod. Pure."""
    spec = JobSpec(
        name=NAME,
        queue_id=NAME,
        step=NAME,
        target=target,
        launch=1,
        installation=installation,
        decision_id=NAME,
        command=("python", "-c", _PROBE),
        image=image,
        env={},
        secret_env={},
        replicas=1,
        backoff_limit=0,
        grace_s=1,
        resources=resources,
    )
    template = job_manifest(spec, settings)["spec"]["template"]
    meta = {**template["metadata"], "generateName": f"streamforge-{NAME}-"}
    # the cluster ends it should nobody be left to remove it
    pod = {**template["spec"], "activeDeadlineSeconds": round(2 * DEADLINE_S)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod}


async def preflight(api: ClusterApi, body: dict[str, Any], *, deadline_s: float = DEADLINE_S) -> None:
    """Run the pod and remove it.

    Raises:
        ConfigurationError: saying what pods cannot reach, or what keeps them from starting.
        ClusterError: the API server refused; 403: no right to make a pod.
    """
    path = f"/api/v1/namespaces/{api.namespace}/pods"
    deadline = time.monotonic() + deadline_s
    made = (await _created(api, path, body, deadline))["metadata"]
    try:
        await _succeeded(api, f"{path}/{made['name']}", body["spec"]["containers"][0]["image"], deadline)
    finally:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": made["uid"]}}
        await api.delete(f"{path}/{made['name']}", options)


async def _created(api: ClusterApi, path: str, body: dict[str, Any], deadline: float) -> dict[str, Any]:
    while True:
        try:
            return await api.create(path, body)
        except ClusterError as error:
            # a namespace that was made just now gets its service account in a moment
            if "service account" not in str(error) or time.monotonic() > deadline:
                raise
        await asyncio.sleep(POLL_S)


async def _succeeded(api: ClusterApi, path: str, image: str, deadline: float) -> None:
    complained_at: float | None = None
    while True:
        pod, now = pod_of(await api.get(path)), time.monotonic()
        if pod.is_over:
            if fault := _fault(pod):
                raise ConfigurationError(fault)
            return
        why = pending(pod)
        complained_at = (complained_at or now) if why is not None else None
        if why is not None and complained_at is not None and why.code != "unschedulable":
            # room may come of itself, an image or a Secret does not
            if now - complained_at > HOPELESS_S:
                raise ConfigurationError(f"a pod with the image {image} does not start: {why.message}{_hint(why)}")
        if now > deadline:
            waits = why.message if why is not None else f"it is {pod.phase.lower()} and nobody says why"
            raise ConfigurationError(f"a pod with the image {image} has not ended in time: {waits}")
        await asyncio.sleep(POLL_S)


def _hint(why: Pending) -> str:
    if why.code != "image-pull":
        return ""
    return "; load it into the cluster's nodes, or name its registry with KUBERNETES_IMAGE_PREFIX"


def _fault(pod: Pod) -> str | None:
    """What went wrong in a pod that is over."""
    if pod.phase == "Succeeded":
        return None
    if pod.end is None:
        return f"the preflight pod was taken away: {pod.told.message or pod.told.reason or 'nobody says why'}"
    words = pod.end.message.strip().rpartition("\n")[2]
    if pod.end.code == _UNREACHED and words:
        return f"pods cannot reach {words}"
    return f"the preflight pod ended with {pod.end.code} ({pod.end.reason}): {words or 'it said nothing'}"
