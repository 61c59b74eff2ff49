"""The cluster's own wishes for a pod: a strategic merge patch for the pod template, and what it may not touch.

Merging follows Kubernetes (k8s.io/apimachinery, pkg/util/strategicpatch; the merge keys are the `patchMergeKey` of
k8s.io/api, core/v1): maps merge, null deletes, lists with a merge key merge by it, other lists are replaced. Directives
(`$patch`, `$retainKeys`, ...) are refused: each of them could undo what the rules below keep.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from streamforge_utils.errors import ConfigurationError
from streamforge_utils.settings import ArangoSettings, KafkaSettings, WorkerSettings

CONTRACT_ENV = frozenset(
    {name.upper() for name in WorkerSettings.model_fields if name not in {"kafka", "arango"}}
    | {f"KAFKA_{name.upper()}" for name in KafkaSettings.model_fields}
    | {f"ARANGO_{name.upper()}" for name in ArangoSettings.model_fields}
    | {"KAFKA_TOPIC", "DATA_ROOTS", "HOME"}
)
"""Variables by which a worker is told what it is (contract, section 2)."""


@dataclass(frozen=True)
class _Merge:
    """How a field merges: by `key` if it is a list of objects; `fields` are those below it that are lists too."""

    key: str | None = None
    fields: Mapping[str, "_Merge"] = field(default_factory=dict)


_ATOMIC = _Merge()
_CONTAINERS = _Merge(
    "name",
    {
        "env": _Merge("name"),
        "ports": _Merge("containerPort"),
        "volumeMounts": _Merge("mountPath"),
        "volumeDevices": _Merge("devicePath"),
    },
)
_POD = _Merge(
    None,
    {
        "containers": _CONTAINERS,
        "initContainers": _CONTAINERS,
        "volumes": _Merge("name"),
        "imagePullSecrets": _Merge("name"),
        "hostAliases": _Merge("ip"),
        # the list's map keys (topologyKey, whenUnsatisfiable) are of server-side apply alone
        "topologySpreadConstraints": _Merge("topologyKey"),
        "schedulingGates": _Merge("name"),
        "resourceClaims": _Merge("name"),
    },
)
_TEMPLATE = _Merge(None, {"spec": _POD})

_SIDECARS = "a sidecar goes into initContainers with restartPolicy Always, so that the Job ends with its worker"
_NO_METADATA = {
    "labels": "a Job and its pods are found by their labels",
    "name": "pods are named by their Job",
    "generateName": "pods are named by their Job",
    "namespace": "KUBERNETES_NAMESPACE names it",
}
_NO_ANNOTATIONS = frozenset({"queue_id", "launch"})
_NO_POD = {
    "restartPolicy": "retries have one owner, the Job",
    "terminationGracePeriodSeconds": "the grace is the target's",
    "activeDeadlineSeconds": "a live step has no end",
    "securityContext": "workers run without any privilege",
    "serviceAccountName": "KUBERNETES_SERVICE_ACCOUNT names it",
    "serviceAccount": "KUBERNETES_SERVICE_ACCOUNT names it",
    "automountServiceAccountToken": "a worker has no business with the API server",
    "hostNetwork": "workers share nothing with their node",
    "hostPID": "workers share nothing with their node",
    "hostIPC": "workers share nothing with their node",
    "shareProcessNamespace": "a sidecar could read the worker's secrets",
    "ephemeralContainers": "a template cannot have them",
}
_NO_WORKER = {
    "image": f"the workflow pins it, and no container is added here: {_SIDECARS}",
    "command": "the target.yaml says what runs",
    "args": "the target.yaml says what runs",
    "workingDir": "the image has its own",
    "envFrom": "the list would take the place of the platform's ConfigMap and Secret; use env",
    "lifecycle": "a hook or another signal would take from the grace",
    "restartPolicy": "retries have one owner, the Job",
    "restartPolicyRules": "retries have one owner, the Job",
    "securityContext": "workers run without any privilege",
}
_NEEDED = frozenset({"containers", "volumes", "env", "ports", "volumeMounts"})


def apply_patch(template: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The pod template with a checked patch merged into it; neither argument is changed or shared."""
    return _merged_map(template, patch, _TEMPLATE)


def _merged_map(base: Mapping[str, Any], patch: Mapping[str, Any], merge: _Merge) -> dict[str, Any]:
    merged = {key: deepcopy(value) for key, value in base.items() if key not in patch}
    for key, value in patch.items():
        if value is not None:
            merged[key] = _merged(base.get(key), value, merge.fields.get(key, _ATOMIC))
    return merged


def _merged(base: Any, patch: Any, merge: _Merge) -> Any:
    if isinstance(patch, Mapping):
        return _merged_map(base if isinstance(base, Mapping) else {}, patch, merge)
    if merge.key is not None:
        return _merged_list(base or [], patch, merge.key, merge)
    return deepcopy(patch)


def _merged_list(
    base: Sequence[Mapping[str, Any]], patch: Sequence[Mapping[str, Any]], key: str, merge: _Merge
) -> list[dict[str, Any]]:
    """The patch's elements in their order, new ones as early as can be; the others keep their places to those named."""
    place = {element[key]: number for number, element in enumerate(base)}
    patched = {element[key] for element in patch}
    rest = [dict(deepcopy(element)) for element in base if element[key] not in patched]
    merged = []
    for element in patch:
        at = place.get(element[key], -1)
        while rest and place[rest[0][key]] < at:
            merged.append(rest.pop(0))
        merged.append(_merged_map(base[at] if at >= 0 else {}, element, merge))
    return merged + rest


def check_patch(
    patch: Mapping[str, Any], *, targets: Collection[str] | None = None, reserved: Collection[str] = frozenset()
) -> None:
    """Refuse a patch that touches what the platform stands on.

    Args:
        patch: For a pod template, `metadata` and `spec`. An entry of `containers` is for the target of its name.
        targets: Names of all targets, if known: no other container can be patched.
        reserved: Variables that it may not set, beside those of the contract.

    Raises:
        ConfigurationError: naming each path that is refused, and why.
    """
    faults = [*_directives(patch, ""), *_shape(patch, "", _TEMPLATE)]
    if not faults:
        spec = patch.get("spec", {})
        faults += [*_metadata_faults(patch), *_denied(spec, "spec", _NO_POD), *_volume_faults(spec)]
        faults += _worker_faults(spec, targets, CONTRACT_ENV | frozenset(reserved))
        faults += _sidecar_faults(spec, targets)
    if faults:
        raise ConfigurationError(f"pod template patch: {'; '.join(faults)}")


def _directives(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            if str(key).startswith("$"):
                yield f"{_below(path, key)}: directives are not supported"
            yield from _directives(below, _below(path, key))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _directives(below, f"{path}[{number}]")


def _shape(patch: Mapping[str, Any], path: str, merge: _Merge) -> Iterator[str]:
    if not path:
        yield from (f"{key}: a pod template has metadata and spec" for key in patch if key not in {"metadata", "spec"})
        yield from (f"{key}: must be an object" for key in patch if not isinstance(patch[key], Mapping))
    for key, below in merge.fields.items():
        if key not in patch or (patch[key] is None and key not in _NEEDED):
            continue
        if below.key is not None:
            yield from _list_shape(patch[key], _below(path, key), below.key, below)
        elif isinstance(patch[key], Mapping):
            yield from _shape(patch[key], _below(path, key), below)


def _list_shape(elements: Any, path: str, key: str, merge: _Merge) -> Iterator[str]:
    if not isinstance(elements, list):
        yield f"{path}: must be a list"
        return
    seen = set()
    for number, element in enumerate(elements):
        if not isinstance(element, Mapping) or not isinstance(element.get(key), str | int):
            yield f"{path}[{number}]: must be an object with {key}"
        elif element[key] in seen:
            yield f"{path}[{element[key]}]: is there twice"
        else:
            seen.add(element[key])
            yield from _shape(element, f"{path}[{element[key]}]", merge)


def _metadata_faults(patch: Mapping[str, Any]) -> Iterator[str]:
    for key, value in patch.get("metadata", {}).items():
        if key != "annotations":
            yield f"metadata.{key}: {_NO_METADATA.get(key, 'only annotations may be patched')}"
        elif not isinstance(value, Mapping):
            yield "metadata.annotations: must be an object"
        else:
            yield from (
                f"metadata.annotations.{name}: it names the launch" for name in value if name in _NO_ANNOTATIONS
            )


def _volume_faults(spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in spec.get("volumes", []):
        if volume.get("hostPath") is not None:
            yield f"spec.volumes[{volume['name']}].hostPath: workers share nothing with their node"


def _worker_faults(spec: Mapping[str, Any], targets: Collection[str] | None, taken: frozenset[str]) -> Iterator[str]:
    for container in spec.get("containers", []):
        path = f"spec.containers[{container['name']}]"
        if targets is not None and container["name"] not in targets:
            yield f"{path}: no target is called so, and no container is added or renamed here: {_SIDECARS}"
        yield from _denied(container, path, _NO_WORKER)
        yield from _host_ports(container, path)
        for variable in container.get("env", []):
            if variable["name"] in taken:
                yield f"{path}.env[{variable['name']}]: the platform sets it"


def _sidecar_faults(spec: Mapping[str, Any], targets: Collection[str] | None) -> Iterator[str]:
    for container in spec.get("initContainers") or []:
        path = f"spec.initContainers[{container['name']}]"
        if container.get("restartPolicy") != "Always":
            yield f"{path}.restartPolicy: must be Always: {_SIDECARS}, and nothing runs before it"
        if targets is not None and container["name"] in targets:
            yield f"{path}: a target is called so, and its container with it"
        yield from _denied(container, path, {"securityContext": "a sidecar has the worker's"})
        yield from _host_ports(container, path)


def _host_ports(container: Mapping[str, Any], path: str) -> Iterator[str]:
    for port in container.get("ports", []):
        if port.get("hostPort") is not None:
            yield f"{path}.ports[{port['containerPort']}].hostPort: workers share nothing with their node"


def _denied(found: Mapping[str, Any], path: str, table: Mapping[str, str]) -> Iterator[str]:
    return (f"{_below(path, key)}: {table[key]}" for key in found if key in table)


def _below(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
