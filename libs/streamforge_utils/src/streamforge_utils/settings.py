"""What a worker is told by its environment (contract, section 2), read once in ``main`` and passed down.

Nothing here connects to anything. Every class is frozen; passwords are SecretStr, so no repr or log shows them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streamforge_utils.contracts.time_range import TimeRange
from streamforge_utils.contracts.workflow_type import WorkflowType
from streamforge_utils.errors import ConfigurationError

HOME = ".streamforge"
LOCAL_ENV = "local.env"

_CONFIG = SettingsConfigDict(
    frozen=True, extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True, hide_input_in_errors=True
)


class _FromEnvironment(BaseSettings):
    """Arguments first, then the environment; no files: each further source costs every worker's start a millisecond."""

    @classmethod
    def settings_customise_sources(  # noqa: PLR0917 - the base class names them
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings


class KafkaSettings(_FromEnvironment):
    """Where Kafka is, how to log in: no user = PLAINTEXT, a user = SASL_SSL with SCRAM-SHA-512, a certificate = SSL."""

    model_config = SettingsConfigDict(**_CONFIG | {"env_prefix": "KAFKA_"})

    bootstrap_servers: str = "127.0.0.1:9092"
    """host:port, several separated by commas."""
    user: str | None = None
    """User of SASL_SSL with SCRAM-SHA-512; unset: PLAINTEXT."""
    password: SecretStr | None = None
    """The user's password."""
    ca_path: Path | None = None
    """PEM file of the certificate authority of the broker's certificate."""
    ssl_certificate_location: Path | None = None
    """PEM file of a client certificate (SSL)."""
    ssl_key_location: Path | None = None
    """PEM file of the client certificate's key."""
    topic_prefix: str = ""
    """Put before every topic, so that two installations never meet."""

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for server in value.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"{server.strip()!r} is not host:port")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.user is not None and self.password is None:
            raise ValueError("KAFKA_USER is set, KAFKA_PASSWORD is not")
        if self.ssl_certificate_location is not None and self.ssl_key_location is None:
            raise ValueError("KAFKA_SSL_CERTIFICATE_LOCATION is set, KAFKA_SSL_KEY_LOCATION is not")
        return self


class ArangoSettings(_FromEnvironment):
    """Where ArangoDB is and how to log in."""

    model_config = SettingsConfigDict(**_CONFIG | {"env_prefix": "ARANGO_"})

    url: str = "http://127.0.0.1:8529"
    """Address of the coordinator or single server: http(s)://host:port, without user and password."""
    db: str = "streamforge"
    """Database."""
    user: str = "root"
    """User."""
    password: SecretStr = SecretStr("")
    """The user's password."""

    @field_validator("url")
    @classmethod
    def _without_user(cls, value: str) -> str:
        if "@" in value:  # an address is shown in messages and handed on as it is
            raise ValueError("ARANGO_URL names a user: put user and password into ARANGO_USER and ARANGO_PASSWORD")
        return value


class Streams(BaseModel):
    """The topics behind the streams that a target declares: name -> topic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reads: dict[str, str] = Field(default_factory=dict)
    writes: dict[str, str] = Field(default_factory=dict)


class NoParams(BaseModel):
    """The params of a target that takes none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _range(value: Any) -> Any:
    return TimeRange.parse(value) if isinstance(value, str) else value


def _type(value: Any) -> Any:
    return WorkflowType.parse(value) if isinstance(value, str) else value


class WorkerSettings(_FromEnvironment):
    """The environment of a worker; ``params`` are the target's own, not yet validated, as JSON in PARAMS."""

    model_config = SettingsConfigDict(**_CONFIG | {"arbitrary_types_allowed": True})

    queue_id: str = ""
    """The workflow; a worker started by hand makes one and prints it."""
    symbol: str = ""
    """The workflow's symbol."""
    type: Annotated[WorkflowType | None, BeforeValidator(_type)] = None
    """The workflow's type, as api_candles_1m."""
    time_range: Annotated[TimeRange | None, BeforeValidator(_range)] = None
    """Half-open and UTC; unset: live."""
    collection_name: str = ""
    """Where the workflow stores."""
    step: str = ""
    """Name of the step; by default the target."""
    launch: int = Field(default=1, ge=1)
    """Number of the step's launch."""
    ordinal: int = Field(default=0, ge=0)
    """Which of the replicas this is."""
    replicas: int = Field(default=1, ge=1)
    """How many there are."""
    former: tuple[tuple[int, int], ...] = ()
    """Former launches and their replicas, JSON: [[launch, replicas], ...]."""
    streams: Streams = Streams()
    """Streams that are read and written, JSON."""
    telemetry_producer_id: str = ""
    """Who the events are from."""
    queue_control_topic: str = "queue-control"
    """Topic of the commands."""
    queue_events_topic: str = "queue-events"
    """Topic of the events."""
    queue_control_offsets: dict[int, int] = Field(default_factory=dict)
    """Partition -> offset from which commands are read, JSON; unset: the topic's end."""
    dead_letter_topic: str = ""
    """Topic of the workflow's dead letters; unset: dead letters are only logged and counted."""
    max_dead_letters: int = Field(default=1000, ge=0)
    """An ordinal that would pass it ends with `too-many-dead-letters`."""
    grace_s: float = Field(default=30.0, gt=0)
    """Seconds between a stop and the end by force."""
    installation: str = ""
    """Id of the installation."""
    metrics_port: int = Field(default=8000, ge=0, le=65535)
    """Port of /metrics and /health; 0: a free one."""
    metrics_host: str = "127.0.0.1"
    """Address on which /metrics and /health are served; in a container 0.0.0.0."""
    log_level: str = "INFO"
    """Least level that is logged."""
    params: dict[str, Any] = Field(default_factory=dict)
    """The target's own settings, JSON."""
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    arango: ArangoSettings = Field(default_factory=ArangoSettings)


def local_env(start: Path | None = None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What ``make up`` wrote: the variables of the nearest ``.streamforge/local.env``, from ``start`` upwards.

    ``STREAMFORGE_HOME`` names the folder of the file instead. Empty when there is none.
    """
    if home := environ.get("STREAMFORGE_HOME"):
        found = Path(home) / LOCAL_ENV
        return _variables(found) if found.is_file() else {}
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (found := folder / HOME / LOCAL_ENV).is_file():
            return _variables(found)
    return {}


def _variables(path: Path) -> dict[str, str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


S = TypeVar("S", bound=BaseSettings)


def read_settings(settings: type[S], **given: Any) -> S:
    """The settings of a process: arguments given by name first, then the environment.

    Raises:
        ConfigurationError: naming each variable that is wrong or missing, never its value.
    """
    try:
        return settings(**given)
    except ValidationError as error:
        raise ConfigurationError(f"wrong settings: {faults(error, settings.__name__)}") from None


def faults(error: ValidationError, whole: str) -> str:
    """What is wrong, field by field, without the values; ``whole`` names the model where no field is named."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']).upper() or whole}: {fault['msg']}"
        for fault in error.errors(include_input=False, include_url=False)
    )
