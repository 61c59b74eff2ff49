"""How Jobs are laid into this cluster, read once in ``main`` and passed down.

The kubelet gives every pod KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT, KUBERNETES_PORT and KUBERNETES_PORT_*: no
field may take one of these names.
"""

import json
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ByteSize, Field, ValidationInfo, field_validator
from pydantic_core import PydanticUseDefault
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from queue_manager.launcher.kubernetes.patch import check_patch
from streamforge_utils.errors import ConfigurationError

GONE_NODE_S = 60
"""Seconds for which a pod stays bound to a node that is not there; the cluster's default is 300."""

_MAY_BE_EMPTY = frozenset({"config_map", "secret", "log_archive"})


def _json(value: Any) -> Any:
    # decoded here and not by the source of settings, whose error would name no reason and pass read_settings by
    return json.loads(value) if isinstance(value, str) and value else value


def _gone_node() -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "key": f"node.kubernetes.io/{condition}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": GONE_NODE_S,
        }
        for condition in ("not-ready", "unreachable")
    )


FromJson = (NoDecode, BeforeValidator(_json))
"""Marks a field whose variable is JSON."""

Name = Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""Name of an object in the namespace (a DNS subdomain)."""
MaybeName = Annotated[str, Field(max_length=253, pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$")]
"""The same; empty: none."""


class KubernetesSettings(BaseSettings):
    """The cluster's side of a Job's manifest. An empty variable is an unset one, but for those that may be empty."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_prefix="KUBERNETES_",
        populate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    namespace: str = Field(default="stf", max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Namespace of the Jobs."""
    context: str | None = Field(default=None, validation_alias="KUBE_CONTEXT")
    """Context of the kubeconfig; unset: the current one, in a pod its service account."""
    lease: Name = "streamforge-queue-manager"
    """Lease by which the queue-managers of one installation agree who acts; another installation needs another."""
    config_map: MaybeName = "streamforge-worker"
    """ConfigMap whose keys become environment of every worker; empty: none."""
    secret: MaybeName = "streamforge-worker"  # noqa: S105 - the name of an object
    """Secret whose keys become environment of every worker; empty: none."""
    secret_mounts: Annotated[dict[Name, str], *FromJson] = Field(default_factory=dict)
    """Secrets whose keys become files of every worker, JSON: {"<secret>": "/<folder>"}, such as Kafka's authority."""
    service_account: MaybeName = ""
    """Service account of the workers, whose token they never get; empty: the namespace's default."""
    node_selector: Annotated[dict[str, str], *FromJson] = Field(default_factory=dict)
    """Labels that a worker's node must have, JSON."""
    tolerations: Annotated[tuple[dict[str, Any], ...], *FromJson] = Field(default_factory=_gone_node)
    """Tolerations of the workers, a JSON list; by default they leave a lost node after 60 s."""
    priority_class: MaybeName = ""
    """Priority class of the workers; empty: the cluster's default."""
    image_pull_secrets: Annotated[tuple[Name, ...], *FromJson] = ()
    """Secrets by which images are pulled, a JSON list of names."""
    image_prefix: str = Field(default="", pattern=r"^([a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*/?)?$")
    """Registry, with a folder if need be, put before images that name no registry."""
    run_as_user: int = Field(default=10001, ge=1)
    """User and group of the workers; never root."""
    tmp_size: str = Field(default="1Gi", pattern=r"^[0-9]+([KMGTPE]i|[kMGTPE])?$")
    """Size of /tmp, all that a worker may write to; above it the pod is evicted."""
    creates_per_s: float = Field(default=50.0, gt=0, le=1000)
    """Jobs that are created a second at most."""
    ttl_s: int = Field(default=3600, ge=0)
    """Seconds after which an ended Job that nobody deleted goes."""
    log_archive: str = ".streamforge/logs"
    """Where logs of pods that are gone are kept: a folder or s3://<bucket>/<prefix>; empty: they go with their pods."""
    log_days: float = Field(default=7.0, gt=0)
    """Days after which a kept log goes."""
    log_max_bytes: ByteSize = Field(default=ByteSize(1024**3), ge=1024**2)
    """Size of all kept logs, such as 10GiB; above it the oldest go."""
    log_pod_max_bytes: ByteSize = Field(default=ByteSize(8 * 1024**2), ge=64 * 1024)
    """What is kept of one pod before it is packed; of a longer log its end."""
    safe_to_evict: Annotated[dict[str, bool], *FromJson] = Field(default_factory=dict)
    """Target -> whether the cluster autoscaler may move its pods to empty a node, JSON; not named: false."""
    pod_template_patch: Annotated[dict[str, Any], *FromJson] = Field(default_factory=dict)
    """Strategic merge patch for every pod template, JSON; see `patch.check_patch` for what it may not touch."""

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if value == "" and name not in _MAY_BE_EMPTY and cls.model_fields[name].default != "":
            raise PydanticUseDefault
        return value

    @field_validator("secret_mounts")
    @classmethod
    def _folders(cls, mounts: dict[str, str]) -> dict[str, str]:
        if wrong := [folder for folder in mounts.values() if not folder.startswith("/") or ":" in folder]:
            raise ValueError(f"{wrong[0]!r} is no absolute path without a colon")
        if len({"/tmp", *mounts.values()}) <= len(mounts):  # noqa: S108 - the pod's own volume
            raise ValueError("each Secret needs a folder of its own, and /tmp is taken")
        return mounts

    @field_validator("log_archive")
    @classmethod
    def _folder_or_bucket(cls, place: str) -> str:
        if "://" in place and not re.match(r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/|$)", place):
            raise ValueError(f"{place!r} is neither a folder nor s3://<bucket>/<prefix>")
        return place

    @field_validator("pod_template_patch")
    @classmethod
    def _harmless(cls, patch: dict[str, Any]) -> dict[str, Any]:
        try:
            check_patch(patch)
        except ConfigurationError as error:
            raise ValueError(error.message) from None
        return patch
