"""The manifest of a Job: from a launch and the cluster's settings to the body of a batch/v1 Job. Pure, plain dicts.

The Job is the handbook's example (appendix B) field by field, with what a Job needs to be left alone in a shared
cluster. A single replica is a plain Job, several are the indexes of an Indexed Job. Needs Kubernetes 1.34: fields are
those of k8s.io/api, batch/v1 and core/v1. No value of a secret ever gets in: the pod names the Secrets.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from queue_manager.launcher.interface import JobSpec, Volume
from queue_manager.launcher.kubernetes.objects import INDEX
from queue_manager.launcher.kubernetes.patch import apply_patch
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from streamforge_utils.contracts import names

METRICS_PORT = 8000
"""Port of a worker's /metrics and /health (contract, section 2); each pod has an address of its own."""
VERSION_LABEL = "app.kubernetes.io/version"

NOT_COUNTED = (75, 143)
"""Exit codes that are retried without being counted (contract, section 6); Kubernetes wants them in order."""
NEVER_RETRIED = (78,)
"""Exit codes with which a Job ends at once."""

_TMP = "/tmp"  # noqa: S108 - the pod's own volume
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")


@dataclass(frozen=True)
class SecretRef:
    """Where the value of a variable lies: a Secret of the namespace and one of its keys."""

    secret: str
    key: str


NO_SECRETS: Mapping[str, SecretRef] = MappingProxyType({})


def job_manifest(
    spec: JobSpec,
    settings: KubernetesSettings,
    *,
    secret_refs: Mapping[str, SecretRef] = NO_SECRETS,
    shared: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The body of the request that creates the Job.

    Args:
        spec: The launch. Of `secret_env` nothing is taken, and an image has its own `cwd`.
        settings: The cluster's side; its patch has been checked.
        secret_refs: Variable -> where its value lies: the target's own secrets.
        shared: Variables that the ConfigMap provides: they are not written into the Job if there is one.
    """
    metadata = {"labels": _labels(spec), "annotations": _annotations(spec)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": spec.name, "namespace": settings.namespace, **metadata},
        "spec": {
            **_retries(spec),
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": _failure_policy(spec.target),
            "ttlSecondsAfterFinished": settings.ttl_s,
            "template": _template(spec, settings, _environment(spec, settings, secret_refs, shared)),
        },
    }


def _labels(spec: JobSpec) -> dict[str, str]:
    labels = names.labels(
        queue=spec.queue_id, step=spec.step, launch=spec.launch, installation=spec.installation, target=spec.target
    )
    version = _version(spec.image)
    return {**labels, **spec.labels, **({VERSION_LABEL: version} if version else {})}


def _annotations(spec: JobSpec) -> dict[str, str]:
    return {"queue_id": spec.queue_id, "launch": str(spec.launch), "epoch": str(spec.epoch)}


def _version(image: str) -> str | None:
    """The tag of an image reference, if it has one that can be a label."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    return tag if _LABEL_VALUE.match(tag) else None


def _retries(spec: JobSpec) -> dict[str, Any]:
    if spec.replicas == 1:
        return {"completions": 1, "parallelism": 1, "backoffLimit": spec.backoff_limit}
    return {
        "completionMode": "Indexed",
        "completions": spec.replicas,
        "parallelism": spec.replicas,
        "backoffLimitPerIndex": spec.backoff_limit,
        # without it the other indexes of a failed Job would run on to their ends
        "maxFailedIndexes": 0,
    }


def _failure_policy(container: str) -> dict[str, Any]:
    """The contract's table of exits (section 6); the first rule that matches holds, what none matches is counted."""

    def exits(action: str, codes: tuple[int, ...]) -> dict[str, Any]:
        return {
            "action": action,
            # of the worker alone: a sidecar's exit says nothing about the step
            "onExitCodes": {"containerName": container, "operator": "In", "values": list(codes)},
        }

    disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return {"rules": [disrupted, exits("Ignore", NOT_COUNTED), exits("FailJob", NEVER_RETRIED)]}


def _template(spec: JobSpec, settings: KubernetesSettings, env: list[dict[str, Any]]) -> dict[str, Any]:
    template = {
        "metadata": {
            "labels": {**_labels(spec), "sidecar.istio.io/inject": "false"},
            "annotations": _pod_annotations(spec, settings),
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": math.ceil(spec.grace_s),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": _pod_security(settings.run_as_user),
            **_placement(spec, settings),
            **({"serviceAccountName": settings.service_account} if settings.service_account else {}),
            **_pull_secrets(settings),
            "containers": [_container(spec, settings, env)],
            "volumes": _volumes(spec, settings),
        },
    }
    return _patched(template, settings.pod_template_patch, spec.target)


def _pod_annotations(spec: JobSpec, settings: KubernetesSettings) -> dict[str, str]:
    evictable = settings.safe_to_evict.get(spec.target, False)
    return {
        **_annotations(spec),
        "cluster-autoscaler.kubernetes.io/safe-to-evict": str(evictable).lower(),
        # an injected proxy that is no native sidecar would outlive the worker, and the Job would never end
        "sidecar.istio.io/inject": "false",
        "linkerd.io/inject": "disabled",
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(METRICS_PORT),
        "prometheus.io/path": "/metrics",
    }


def _pod_security(user: int) -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _placement(spec: JobSpec, settings: KubernetesSettings) -> dict[str, Any]:
    """Where the pods may be: replicas of one step apart if there is room, so that a lost node takes few of them."""
    placement: dict[str, Any] = {
        "topologySpreadConstraints": [
            {
                "topologyKey": "kubernetes.io/hostname",
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"queue_id": spec.queue_id, "step": spec.step}},
            }
        ],
    }
    if settings.node_selector:
        placement["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        placement["tolerations"] = [dict(toleration) for toleration in settings.tolerations]
    if settings.priority_class:
        placement["priorityClassName"] = settings.priority_class
    return placement


def _pull_secrets(settings: KubernetesSettings) -> dict[str, Any]:
    found = [{"name": name} for name in settings.image_pull_secrets]
    return {"imagePullSecrets": found} if found else {}


def _container(spec: JobSpec, settings: KubernetesSettings, env: list[dict[str, Any]]) -> dict[str, Any]:
    container = {
        "name": spec.target,
        "image": _image(spec.image, settings.image_prefix),
        "imagePullPolicy": "IfNotPresent",
        "command": [_literal(word) for word in spec.command],
        "env": env,
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}],
        "securityContext": _container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(spec, settings),
    }
    if sources := _environment_sources(settings):
        container["envFrom"] = sources
    if spec.resources:
        container["resources"] = {kind: dict(amounts) for kind, amounts in spec.resources.items()}
    return container


def _image(image: str, prefix: str) -> str:
    """The image with the registry's prefix, unless its first part is a registry (has a dot, a port or is localhost)."""
    first, slash, _ = image.partition("/")
    named = slash and (first == "localhost" or "." in first or ":" in first)
    return image if named or not prefix else f"{prefix.rstrip('/')}/{image}"


def _environment(
    spec: JobSpec, settings: KubernetesSettings, secret_refs: Mapping[str, SecretRef], shared: frozenset[str]
) -> list[dict[str, Any]]:
    """The variables of the launch; those of the pod come last and win, each name is there once."""
    left_out = shared if settings.config_map else frozenset()
    env: dict[str, dict[str, Any]]
    env = {name: {"value": _literal(value)} for name, value in spec.env.items() if name not in left_out}
    env |= {name: {"valueFrom": {"secretKeyRef": _key(ref)}} for name, ref in secret_refs.items()}
    fixed = {"METRICS_HOST": "0.0.0.0", "METRICS_PORT": str(METRICS_PORT), "HOME": _TMP}  # noqa: S104 - the pod's own
    env |= {name: {"value": value} for name, value in fixed.items()}
    env["ORDINAL"] = {"value": "0"} if spec.replicas == 1 else {"valueFrom": _annotation(INDEX)}
    return [{"name": name, **source} for name, source in env.items()]


def _literal(text: str) -> str:
    # Kubernetes puts variables in the place of $(NAME) in values and commands, and one $ in that of $$
    return text.replace("$", "$$")


def _key(ref: SecretRef) -> dict[str, Any]:
    return {"name": ref.secret, "key": ref.key}


def _annotation(name: str) -> dict[str, Any]:
    return {"fieldRef": {"fieldPath": f"metadata.annotations['{name}']"}}


def _environment_sources(settings: KubernetesSettings) -> list[dict[str, Any]]:
    sources: list[dict[str, Any]] = []
    if settings.config_map:
        sources.append({"configMapRef": {"name": settings.config_map}})
    if settings.secret:
        sources.append({"secretRef": {"name": settings.secret}})
    return sources


def _volumes(spec: JobSpec, settings: KubernetesSettings) -> list[dict[str, Any]]:
    secrets = [
        {"name": f"secret-{number}", "secret": {"secretName": name}}
        for number, name in enumerate(settings.secret_mounts)
    ]
    targets = [{"name": f"volume-{number}", **_source(volume)} for number, volume in enumerate(spec.volumes)]
    return [{"name": "tmp", "emptyDir": {"sizeLimit": settings.tmp_size}}, *secrets, *targets]


def _source(volume: Volume) -> dict[str, Any]:
    if volume.config_map is not None:
        return {"configMap": {"name": volume.config_map}}
    return {"persistentVolumeClaim": {"claimName": volume.claim, "readOnly": volume.read_only}}


def _mounts(spec: JobSpec, settings: KubernetesSettings) -> list[dict[str, Any]]:
    secrets = [
        {"name": f"secret-{number}", "mountPath": folder, "readOnly": True}
        for number, folder in enumerate(settings.secret_mounts.values())
    ]
    targets = [
        {"name": f"volume-{number}", "mountPath": volume.mount, "readOnly": volume.read_only}
        for number, volume in enumerate(spec.volumes)
    ]
    return [{"name": "tmp", "mountPath": _TMP}, *secrets, *targets]


def _patched(template: dict[str, Any], patch: Mapping[str, Any], target: str) -> dict[str, Any]:
    """The template with the part of the patch that is for this target; sidecars get the worker's security context."""
    spec = dict(patch.get("spec", {}))
    if "containers" in spec:
        # one patch serves all targets: what it says of another's container would add that container here
        spec["containers"] = [container for container in spec["containers"] if container["name"] == target]
    patched = apply_patch(template, {**patch, "spec": spec})
    for sidecar in patched["spec"].get("initContainers", []):
        sidecar["securityContext"] = _container_security()
    return patched
