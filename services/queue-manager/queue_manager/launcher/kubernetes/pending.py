"""Why a pod does not run yet: a stable code and a sentence that says what to do. Pure.

The reasons are those of the kubelet's container states and of the scheduler (v1 ContainerStateWaiting, PodCondition).
"""

from dataclasses import dataclass

from queue_manager.launcher.kubernetes.objects import Pod, Told

IMAGE = frozenset(
    (
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "RegistryUnavailable",
        "ImageInspectError",
    )
)
CONFIGURATION = frozenset(("CreateContainerConfigError",))
CONTAINER = frozenset(("CreateContainerError", "RunContainerError", "PreCreateHookError", "PostStartHookError"))
STARTING = frozenset(("", "ContainerCreating", "PodInitializing"))

NODE_LOST = "NodeLost"
"""Our own reason of a pod's DisruptionTarget, when its node is taken for lost."""


@dataclass(frozen=True, slots=True)
class Pending:
    """``code`` is one of the contract's reasons."""

    code: str
    message: str


def pending(pod: Pod) -> Pending | None:
    """Why it does not run; None: it runs, or it is on its way and nobody complains."""
    if pod.disruption is not None and pod.disruption.reason == NODE_LOST:
        return Pending("node-lost", pod.disruption.message)
    if pod.started_at is not None:
        return None
    if pod.unscheduled is not None:
        words = pod.unscheduled.message or pod.unscheduled.reason
        return Pending("unschedulable", f"no node takes it: {words}")
    if pod.waiting is None or pod.waiting.reason in STARTING:
        return None
    return _waiting(pod.waiting)


def _waiting(waiting: Told) -> Pending:
    words = waiting.message or waiting.reason
    if waiting.reason in IMAGE:
        return Pending("image-pull", f"its image cannot be pulled ({waiting.reason}): {words}")
    if waiting.reason in CONFIGURATION:
        # the kubelet names the object: secret "x" not found, configmap "y" not found, couldn't find key k in Secret
        code = "missing-secret" if "ecret" in words else "missing-config"
        return Pending(code, f"its configuration is not there: {words}")
    if waiting.reason in CONTAINER:
        return Pending("container-error", f"its container cannot be started ({waiting.reason}): {words}")
    return Pending("not-started", f"{waiting.reason}: {words}")
