"""The queue-manager's environment, read once in ``main`` and passed down."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from streamforge_utils.settings import ArangoSettings, KafkaSettings


def _folders(value: Any) -> Any:
    return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value


Folders = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_folders)]
"""Folders, separated as in PATH."""


class QueueManagerSettings(BaseSettings):
    """Everything that the queue-manager is told."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    host: str = "127.0.0.1"
    """Address the API listens on."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port the API listens on; 0: a free one."""
    launcher: Literal["process", "kubernetes"] = "process"
    """Which platform runs the Jobs: the local node, or the cluster that KUBERNETES_* and KUBECONFIG describe."""
    node_socket: Path = Path(".streamforge/node.sock")
    """Unix socket of the local node."""
    targets_dirs: Folders = (Path("services"),)
    """Folders whose sub-folders have a target.yaml."""
    templates_dirs: Folders = (Path("templates"),)
    """Folders of templates."""
    data_roots: Folders = ()
    """Below these folders `file:` sources may be read."""
    secrets_file: Path = Path(".streamforge/secrets.env")
    """Values of targets' secrets for local processes, a line each: <secret>.<key>=<value>."""
    queue_control_topic: str = "queue-control"
    """Topic of the commands, without the prefix."""
    queue_events_topic: str = "queue-events"
    """Topic of the events, without the prefix."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """METRICS_PORT of the workers; 0: each takes a free one."""
    max_running: int = Field(default=32, ge=1)
    """Workflows that run at once; more wait, oldest first."""
    max_pending: int = Field(default=10_000, ge=1)
    """Workflows that may wait; more are refused."""
    max_replicas: int = Field(default=16, ge=1)
    """Replicas of one step."""
    max_partitions: int = Field(default=64, ge=1)
    """Partitions of one stream."""
    lease_s: float = Field(default=10.0, gt=1)
    """How long a queue-manager that was killed keeps the others from acting."""
    resync_s: float = Field(default=1.0, gt=0)
    """Seconds between two looks at all open workflows."""
    concurrency: int = Field(default=8, ge=1)
    """Workflows that are worked on at once."""
    remove_orphans: bool = False
    """Whether Jobs of this installation of which no workflow knows are ended; else they are told only."""
    topic_replication: int = -1
    """Replication of the workflows' topics; -1: the broker's default."""
    log_level: str = "INFO"
    """Least level that is logged."""
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    arango: ArangoSettings = Field(default_factory=ArangoSettings)

    @property
    def control_topic(self) -> str:
        """The topic of the commands."""
        return self.kafka.topic_prefix + self.queue_control_topic

    @property
    def events_topic(self) -> str:
        """The topic of the events."""
        return self.kafka.topic_prefix + self.queue_events_topic
