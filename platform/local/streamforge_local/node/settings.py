"""The node's settings: from the command line, or from STREAMFORGE_NODE_* variables."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class NodeSettings(BaseSettings):
    """One process that runs Jobs on this machine, over a unix socket."""

    model_config = SettingsConfigDict(
        env_prefix="STREAMFORGE_NODE_",
        frozen=True,
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
    )

    socket: Path
    """Where it listens; at most 107 bytes long."""
    data: Path
    """Directory of the journal and the log files; one node at a time."""
    max_processes: Annotated[int, Field(gt=0)] = 256
    """Processes of all Jobs together, running or waiting for a restart; a Job beyond that is not taken."""
    first_delay_s: Annotated[float, Field(gt=0)] = 0.1
    """Wait before the first restart; each further one doubles it."""
    longest_delay_s: Annotated[float, Field(gt=0)] = 5.0
    """Longest wait before a restart."""
    ttl_s: Annotated[float, Field(gt=0)] = 3600.0
    """How long a finished Job and its log stay."""
    stop_grace_s: Annotated[float, Field(ge=0)] = 30.0
    """Longest wait for workers when the node is told to stop."""
    log_bytes: Annotated[int, Field(ge=4096)] = 10_000_000
    """Log kept for each ordinal: at least so much, at most twice that."""
    log_check_s: Annotated[float, Field(gt=0)] = 2.0
    """How often the size of the logs is looked at."""
    beat_s: Annotated[float, Field(gt=0)] = 5.0
    """A stream with nothing to say says so this often, so that its reader knows the node is alive."""
