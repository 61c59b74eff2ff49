"""What an installation keeps in its namespace beside the Jobs: the ConfigMap and the Secrets of every worker.

Each object carries the installation's label, and one that carries another's or none is never touched: whose addresses
it holds is not ours to say. No value of a Secret is ever logged or printed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterError
from queue_manager.launcher.kubernetes.objects import JOB_NAME, job_of
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from queue_manager.launcher.kubernetes.status import job_status
from streamforge_utils.errors import ConfigurationError

Json = dict[str, Any]

APP = "streamforge"
OWNER = "installation"
"""Label that says whose an object is."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What the workers of an installation are told. Its repr shows no secret."""

    installation: str
    env: Mapping[str, str]
    secret_env: Mapping[str, SecretStr]
    files: Mapping[str, Mapping[str, SecretStr]] = field(default_factory=dict)
    """Further Secrets, whose keys become files where they are mounted: name of the Secret -> key -> text."""


async def owner_of(api: ClusterApi, settings: KubernetesSettings) -> str | None:
    """Whose the namespace's ConfigMap is; empty: nobody's who said so; None: there is none."""
    try:
        found = await api.get(f"{_core(settings)}/configmaps/{settings.config_map}")
    except ClusterError as error:
        if error.status == 404:
            return None
        raise
    return _owner(found)


async def ensure_namespace(api: ClusterApi, settings: KubernetesSettings) -> None:
    """Make the namespace when it is not there; raises ClusterError."""
    try:
        await api.get(f"/api/v1/namespaces/{settings.namespace}")
    except ClusterError as error:
        if error.status == 403:  # rights in the namespace alone: whether it is there, the next call tells
            return
        if error.status != 404:
            raise
        await api.create("/api/v1/namespaces", {"metadata": {"name": settings.namespace}})


async def publish(api: ClusterApi, settings: KubernetesSettings, told: Publication) -> None:
    """Make or replace the ConfigMap and the Secrets.

    Raises:
        ConfigurationError: an object of that name is not this installation's, or the settings name none.
        ClusterError: the API server refused.
    """
    if not settings.config_map or not settings.secret:
        raise ConfigurationError("KUBERNETES_CONFIG_MAP and KUBERNETES_SECRET must name what workers are told by")
    config = {"kind": "ConfigMap", "data": dict(told.env)}
    await _write(api, f"{_core(settings)}/configmaps", _object(told, settings.config_map, config))
    secrets = {settings.secret: told.secret_env, **told.files}
    for name, values in secrets.items():
        data = {key: value.get_secret_value() for key, value in values.items()}
        body = _object(told, name, {"kind": "Secret", "type": "Opaque", "stringData": data})
        await _write(api, f"{_core(settings)}/secrets", body)


async def open_jobs(api: ClusterApi, settings: KubernetesSettings, installation: str) -> int:
    """How many Jobs of the installation have not ended; raises ClusterError."""
    raw = await api.all(_jobs(settings), _selector(installation))
    now = time.time()
    return sum(not job.is_deleting and job_status(job, (), now=now).condition is None for job in map(job_of, raw))


async def withdraw(api: ClusterApi, settings: KubernetesSettings, installation: str) -> int:
    """Remove all that the installation has in the namespace, which stays; the number of its Jobs. Raises ClusterError.

    What is removed is asked to go, not waited for.
    """
    core, mine = _core(settings), _selector(installation)
    jobs = await _remove(api, _jobs(settings), mine)
    await _remove(api, f"{core}/pods", f"{mine},!{JOB_NAME}")
    for kind in ("configmaps", "secrets"):
        await _remove(api, f"{core}/{kind}", mine)
    await _remove_lease(api, settings)
    return jobs


async def _remove(api: ClusterApi, path: str, selector: str) -> int:
    found = await api.all(path, selector)
    for raw in found:
        options = {"propagationPolicy": "Background", "preconditions": {"uid": raw["metadata"]["uid"]}}
        await api.delete(f"{path}/{raw['metadata']['name']}", options)
    return len(found)


async def _remove_lease(api: ClusterApi, settings: KubernetesSettings) -> None:
    """The Lease, unless somebody holds it."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{settings.namespace}/leases/{settings.lease}"
    try:
        lease = await api.get(path)
    except ClusterError as error:
        if error.status == 404:
            return
        raise
    if not lease["spec"].get("holderIdentity"):
        await api.delete(path, {"preconditions": {"uid": lease["metadata"]["uid"]}})


async def _write(api: ClusterApi, path: str, body: Json) -> None:
    try:
        await api.create(path, body)
    except ClusterError as error:
        if error.reason != "AlreadyExists":
            raise
        await _replace(api, path, body)


async def _replace(api: ClusterApi, path: str, body: Json) -> None:
    meta = body["metadata"]
    present = await api.get(f"{path}/{meta['name']}")
    if (owner := _owner(present)) != meta["labels"][OWNER]:
        raise ConfigurationError(not_ours(body["kind"], meta["name"], api.namespace, owner))
    version = {"resourceVersion": present["metadata"]["resourceVersion"]}
    await api.replace(f"{path}/{meta['name']}", {**body, "metadata": {**meta, **version}})


def not_ours(kind: str, name: str, namespace: str, owner: str) -> str:
    """The sentence about an object that another has."""
    whose = f"installation {owner}" if owner else "somebody else"
    return (
        f"{kind} {name} in namespace {namespace} is of {whose}: name another namespace with KUBERNETES_NAMESPACE, or "
        f"remove it if nobody needs it (kubectl delete {kind.lower()} {name} -n {namespace})"
    )


def _owner(raw: Json) -> str:
    labels: dict[str, str] = raw["metadata"].get("labels") or {}
    return labels.get(OWNER, "")


def _object(told: Publication, name: str, body: Json) -> Json:
    return {"apiVersion": "v1", "metadata": {"name": name, "labels": {"app": APP, OWNER: told.installation}}, **body}


def _selector(installation: str) -> str:
    return f"app={APP},{OWNER}={installation}"


def _core(settings: KubernetesSettings) -> str:
    return f"/api/v1/namespaces/{settings.namespace}"


def _jobs(settings: KubernetesSettings) -> str:
    return f"/apis/batch/v1/namespaces/{settings.namespace}/jobs"
