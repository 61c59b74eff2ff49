"""The Job of a launch: its name, its environment (contract, section 2), its digest. Pure."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from queue_manager.launcher.interface import JobSpec, Volume
from queue_manager.model import Launch, StepSpec, WorkflowDocument
from queue_manager.settings import QueueManagerSettings
from streamforge_utils import codec
from streamforge_utils.contracts import names
from streamforge_utils.errors import ConfigurationError


@dataclass(frozen=True)
class Platform:
    """What every Job is told beside its workflow. Its repr shows no secret."""

    env: Mapping[str, str]
    secret_env: Mapping[str, SecretStr]
    secrets: Mapping[str, SecretStr] | None = field(default_factory=dict)
    """``<secret>.<key>`` -> value, for targets that name one; None: the platform has Secrets itself."""

    @classmethod
    def of(cls, settings: QueueManagerSettings) -> "Platform":
        """Kafka, ArangoDB, the common topics.

        Raises:
            ConfigurationError: the secrets file has a line that is no ``<secret>.<key>=<value>``.
        """
        kafka, arango = settings.kafka, settings.arango
        env = {
            "QUEUE_CONTROL_TOPIC": settings.control_topic,
            "QUEUE_EVENTS_TOPIC": settings.events_topic,
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "ARANGO_URL": arango.url,
            "ARANGO_DB": arango.db,
            "ARANGO_USER": arango.user,
            "METRICS_PORT": str(settings.metrics_port),
            "LOG_LEVEL": settings.log_level,
            "DATA_ROOTS": os.pathsep.join(str(root) for root in settings.data_roots),
        }
        files = {
            "KAFKA_CA_PATH": kafka.ca_path,
            "KAFKA_SSL_CERTIFICATE_LOCATION": kafka.ssl_certificate_location,
            "KAFKA_SSL_KEY_LOCATION": kafka.ssl_key_location,
        }
        env |= {name: str(path.resolve()) for name, path in files.items() if path is not None}
        secret_env = {"ARANGO_PASSWORD": arango.password}
        if kafka.user is not None and kafka.password is not None:
            env["KAFKA_USER"] = kafka.user
            secret_env["KAFKA_PASSWORD"] = kafka.password
        return cls(env, secret_env, _secrets(settings.secrets_file) if settings.launcher == "process" else None)


def _secrets(path: Path) -> dict[str, SecretStr]:
    if not path.is_file():
        return {}
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or "." not in name:
            raise ConfigurationError(f"{path}, line {number}: not <secret>.<key>=<value>")
        found[name.strip()] = SecretStr(value.strip())
    return found


def job_name(document: WorkflowDocument, step: StepSpec, launch: int) -> str:
    """The Job's name, fixed by workflow, step and launch."""
    symbol = document.spec.symbol or document.spec.template or step.target
    return names.job(step.name, symbol, names.short_of(document.queue_id), launch)


def job_spec(document: WorkflowDocument, step: StepSpec, launch: Launch, platform: Platform) -> JobSpec:
    """The Job of a recorded launch.

    Raises:
        ConfigurationError: a secret that the target names is not there.
    """
    return JobSpec(
        name=launch.job,
        queue_id=document.queue_id,
        step=step.name,
        target=step.target,
        launch=launch.number,
        installation=document.spec.installation,
        decision_id=launch.decision_id,
        command=step.command,
        image=step.image,
        env={**platform.env, **_environment(document, step, launch)},
        secret_env={**platform.secret_env, **_target_secrets(step, platform)},
        secret_refs={ref.env: (ref.secret, ref.key) for ref in step.secrets},
        replicas=launch.replicas,
        epoch=launch.epoch,
        backoff_limit=step.backoff_limit,
        grace_s=step.grace_s,
        resources=step.resources,
        volumes=tuple(Volume(**volume.model_dump()) for volume in step.volumes),
        cwd=step.cwd,
    )


def digest(document: WorkflowDocument, step: StepSpec) -> str:
    """SHA-256 of what a launch of this step runs: equal for all launches of one resolution."""
    return hashlib.sha256(codec.canonical([document.queue_id, step.model_dump(mode="json")])).hexdigest()


def _target_secrets(step: StepSpec, platform: Platform) -> dict[str, SecretStr]:
    found: dict[str, SecretStr] = {}
    if platform.secrets is None:
        return found
    for ref in step.secrets:
        name = f"{ref.secret}.{ref.key}"
        if name not in platform.secrets:
            raise ConfigurationError(f"{step.target} needs the secret {name}: add it to the secrets file")
        found[ref.env] = platform.secrets[name]
    return found


def _environment(document: WorkflowDocument, step: StepSpec, launch: Launch) -> dict[str, str]:
    spec = document.spec
    reads = {declared: spec.streams[stream].topic for declared, stream in step.reads.items()}
    writes = {declared: spec.streams[stream].topic for declared, stream in step.writes.items()}
    former = [[made.number, made.replicas] for made in document.step(step.name).launches if made.number < launch.number]
    env = {
        "QUEUE_ID": document.queue_id,
        "SYMBOL": spec.symbol,
        "TYPE": spec.type,
        "TIME_RANGE": spec.time_range or "",
        "KAFKA_TOPIC": next(iter((reads or writes).values()), ""),
        "COLLECTION_NAME": spec.collection,
        "STEP": step.name,
        "LAUNCH": str(launch.number),
        "REPLICAS": str(launch.replicas),
        "STREAMS": _json({"reads": reads, "writes": writes}),
        "FORMER": _json(former),
        "QUEUE_CONTROL_OFFSETS": _json({str(p): offset for p, offset in launch.control_offsets.items()}),
        "PARAMS": _json(step.params),
        "DEAD_LETTER_TOPIC": spec.dead_letter_topic if spec.streams else "",
        "MAX_DEAD_LETTERS": str(step.max_dead_letters),
        "GRACE_S": str(step.grace_s),
        "INSTALLATION": spec.installation,
    }
    if launch.replicas == 1:
        short = names.short_of(document.queue_id)
        # with replicas each ordinal has a name of its own, which the worker makes of ORDINAL
        env["TELEMETRY_PRODUCER_ID"] = names.producer(step.name, short, 0, 1)
    return env


def _json(value: object) -> str:
    return codec.encode(value).decode()
