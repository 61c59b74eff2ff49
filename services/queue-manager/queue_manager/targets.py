"""What can be run: ``services/<target>/target.yaml`` (contract, section 9), one per service.

Owns the format of the file. The queue-manager learns of a service by this file alone and names none in its code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from jsonschema.exceptions import SchemaError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from queue_manager.catalogue import Catalogue, read_manifest
from queue_manager.params import ParamsSchema
from streamforge_utils.contracts import names
from streamforge_utils.contracts.workflow_type import WorkflowType

EVERY_TYPE = "*"


class Manifest(BaseModel):
    """Unknown fields are refused: a misspelt one must not be passed over."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _target_name(name: str) -> str:
    if not names.is_step(name):
        raise ValueError("at most 32 of [a-z0-9-], no hyphen at the ends")
    return name


def _stream_name(name: str) -> str:
    if not names.is_stream(name):
        raise ValueError("at most 32 of [a-z0-9-], no hyphen at the ends, not dead-letter")
    return name


def _type_prefix(prefix: str) -> str:
    if prefix != EVERY_TYPE:
        WorkflowType.parse(prefix)
    return prefix


class StreamUse(Manifest):
    """A stream that a target reads or writes, by the target's own name for it."""

    stream: Annotated[str, AfterValidator(_stream_name)]
    schema_name: str = Field(alias="schema", min_length=1)


class Replicas(Manifest):
    """How many copies of the worker share its streams."""

    default: int = Field(default=1, ge=1)
    max: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.default > self.max:
            raise ValueError(f"the default {self.default} is above the maximum {self.max}")
        return self


class SecretUse(Manifest):
    """A variable of the worker's environment that is taken from a secret."""

    env: str = Field(pattern=r"^[A-Z_][A-Z0-9_]*$")
    secret: str = Field(min_length=1)
    key: str = Field(min_length=1)


class Volume(Manifest):
    """What a cluster lays into the worker's file system; never a folder of the node. A laptop's workers have none."""

    claim: str | None = Field(default=None, min_length=1)
    """Name of a PersistentVolumeClaim."""
    config_map: str | None = Field(default=None, min_length=1)
    """Name of a ConfigMap, whose keys become files."""
    mount: str = Field(pattern=r"^/[^:]+$")
    """The folder at which it lies."""
    read_only: bool = True

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.claim is None) == (self.config_map is None):
            raise ValueError(f"the volume at {self.mount} needs either a claim or a config_map")
        if self.mount == "/tmp" or self.mount.startswith("/tmp/"):  # noqa: S108 - the pod's own volume
            raise ValueError(f"{self.mount} is the worker's own, choose another folder")
        return self


class Target(Manifest):
    """One service that can be a step of a workflow."""

    apiVersion: Literal["streamforge/v1"]
    kind: Literal["Target"]
    name: Annotated[str, AfterValidator(_target_name)]
    description: str
    version: str = Field(min_length=1)
    image: str = Field(min_length=1)
    command: tuple[str, ...] = Field(min_length=1)
    types: tuple[Annotated[str, AfterValidator(_type_prefix)], ...] = Field(min_length=1)
    """``<source>_<kind>`` of the accepted workflow types; ``*`` = every type."""
    requires: tuple[Literal["symbol"], ...] = ()
    """Fields of a request that this target cannot do without."""
    reads: tuple[StreamUse, ...] = ()
    writes: tuple[StreamUse, ...] = ()
    order: Literal["none", "stream"] = "none"
    """``stream``: it needs its records in their order, so each stream that it reads has one partition."""
    replicas: Replicas = Replicas()
    params: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "additionalProperties": False})
    """JSON Schema; ``writeOnly`` marks what a request may not carry."""
    resources: dict[str, dict[str, str]] = Field(default_factory=dict)
    backoff_limit: int = Field(default=2, ge=0)
    start_deadline_s: float = Field(default=120, gt=0)
    grace_s: float = Field(default=30, gt=0)
    max_run_s: float | None = Field(default=None, gt=0)
    max_dead_letters: int = Field(default=1000, ge=0)
    secrets: tuple[SecretUse, ...] = ()
    volumes: tuple[Volume, ...] = ()
    egress: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        streams = [use.stream for use in (*self.reads, *self.writes)]
        if len(set(streams)) != len(streams):
            raise ValueError("reads and writes name a stream twice")
        if self.order == "stream" and self.replicas.max > 1:
            raise ValueError("order: stream needs one replica, replicas.max says more")
        mounts = [volume.mount for volume in self.volumes]
        if len(set(mounts)) != len(mounts):
            raise ValueError("two volumes have one mount")
        try:
            ParamsSchema(self.params)
        except SchemaError as error:
            raise ValueError(f"params is not a JSON Schema: {error.message}") from error
        return self

    @cached_property
    def params_schema(self) -> ParamsSchema:
        """The schema of the params, compiled."""
        return ParamsSchema(self.params)

    def accepts(self, workflow_type: WorkflowType) -> bool:
        """Whether it can be a step of a workflow of that type."""
        return EVERY_TYPE in self.types or f"{workflow_type.source}_{workflow_type.kind}" in self.types


@dataclass(frozen=True)
class InstalledTarget:
    """A target and the folder its file lies in (the working directory of a local process)."""

    target: Target
    folder: Path

    @property
    def name(self) -> str:
        """The target's name."""
        return self.target.name


Targets = Catalogue[InstalledTarget]


def _read(path: Path) -> InstalledTarget:
    return InstalledTarget(read_manifest(path, Target), path.parent.resolve())


def read_targets(folders: Sequence[Path]) -> Targets:
    """Every ``<folder>/*/target.yaml``.

    Raises:
        ConfigurationError: naming the file and the field that is wrong.
    """
    return Catalogue(folders, "*/target.yaml", _read)
