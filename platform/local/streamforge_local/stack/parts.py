"""What the stack is made of: for each part its command, its environment, when it is ready, where it is.

A part is data and three small questions; it starts nothing itself. Other parts (a test's, a later store's) only have
to be of the same shape.
"""

import base64
import http.client
import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from streamforge_local.kafka.broker import Broker, Security
from streamforge_local.kafka.jars import provision_jars
from streamforge_local.kafka.security import write_secret
from streamforge_local.kafka.start_cache import cache_options
from streamforge_local.paths import Home, repository_root
from streamforge_local.ports import LOOPBACK, assign_ports

PARTS = ("kafka", "arango", "node", "queue-manager")
"""In the order in which they come to life; they stop in the reverse order."""
ARANGO_DATABASE = "streamforge"
ARANGO_USER = "streamforge"
PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How a part's process is started; ``env`` is added to the supervisor's environment."""

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


class Part(Protocol):
    """One server of the stack."""

    @property
    def name(self) -> str:
        """Short and unique in a stack: the name of its log file and its data folder."""

    @property
    def deadline_s(self) -> float:
        """Seconds within which it must be ready after a start."""

    @property
    def ports(self) -> tuple[int, ...]:
        """Ports that it will listen on; they must be free before its first start."""

    @property
    def address(self) -> str:
        """Where it is, as people read it."""

    def prepare(self) -> Launch:
        """Called before each start; makes what the process needs. May block; raises StackError."""

    def is_ready(self) -> bool:
        """Called again and again after a start until true. Blocks for seconds at most; raises StackError when never."""

    def environment(self) -> dict[str, str]:
        """Variables with which clients find it; part of ``local.env``."""


@dataclass(frozen=True, slots=True)
class KafkaPart:
    """Apache Kafka."""

    broker: Broker
    name: str = "kafka"
    deadline_s: float = 45.0

    @property
    def ports(self) -> tuple[int, ...]:
        """Clients' and controller's."""
        return (self.broker.port, self.broker.controller_port)

    @property
    def address(self) -> str:
        """Bootstrap server."""
        return self.broker.address

    def prepare(self) -> Launch:
        """Fetch, verify, configure, format."""
        jars = provision_jars()
        self.broker.prepare(jars)
        return Launch(self.broker.command(jars, cache_options(jars)))

    def is_ready(self) -> bool:
        """Topics are there."""
        return self.broker.is_ready()

    def environment(self) -> dict[str, str]:
        """``KAFKA_*``."""
        return self.broker.client_environment()


@dataclass(frozen=True, slots=True)
class ArangoPart:
    """arango-local."""

    data: Path
    port: int
    name: str = "arango"
    deadline_s: float = 20.0

    @property
    def ports(self) -> tuple[int, ...]:
        """The HTTP port."""
        return (self.port,)

    @property
    def address(self) -> str:
        """Base URL."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def password(self) -> str:
        """The user's password, made at first use."""
        path = self.data / "password"
        if not path.exists():
            self.data.mkdir(parents=True, exist_ok=True)
            write_secret(path, secrets.token_urlsafe(24))
        return path.read_text()

    def prepare(self) -> Launch:
        """The password is made."""
        command = (sys.executable, "-m", "arango_local", "--data", str(self.data / "db"), "--port", str(self.port))
        env = {"ARANGO_LOCAL_USER": ARANGO_USER, "ARANGO_LOCAL_PASSWORD": self.password}
        return Launch((*command, "--host", LOOPBACK, "--database", ARANGO_DATABASE), env)

    def is_ready(self) -> bool:
        """It answers the user's log-in."""
        login = base64.b64encode(f"{ARANGO_USER}:{self.password}".encode()).decode()
        path = f"/_db/{ARANGO_DATABASE}/_api/version"
        return _http_status(self.port, path, {"Authorization": f"Basic {login}"}) == http.client.OK

    def environment(self) -> dict[str, str]:
        """``ARANGO_*``."""
        where = {"ARANGO_URL": self.address, "ARANGO_DB": ARANGO_DATABASE}
        return where | {"ARANGO_USER": ARANGO_USER, "ARANGO_PASSWORD": self.password}


@dataclass(frozen=True, slots=True)
class NodePart:
    """The local node."""

    data: Path
    socket_path: Path
    name: str = "node"
    deadline_s: float = 20.0
    ports: tuple[int, ...] = ()

    @property
    def address(self) -> str:
        """The unix socket."""
        return f"unix:{self.socket_path}"

    def prepare(self) -> Launch:
        """The socket's folder."""
        self.socket_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = (sys.executable, "-m", "streamforge_local.node")
        return Launch((*command, "--socket", str(self.socket_path), "--data", str(self.data)))

    def is_ready(self) -> bool:
        """It takes connections."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PROBE_TIMEOUT_S)
            try:
                client.connect(str(self.socket_path))
            except OSError:
                return False
        return True

    def environment(self) -> dict[str, str]:
        """Nothing: the queue-manager alone talks to it."""
        return {}


@dataclass(frozen=True, slots=True)
class QueueManagerPart:
    """The queue-manager; ``stores`` is the environment of Kafka and ArangoDB."""

    port: int
    stores: Mapping[str, str] = field(repr=False)
    node_socket: Path
    secrets: Path
    name: str = "queue-manager"
    deadline_s: float = 30.0

    @property
    def ports(self) -> tuple[int, ...]:
        """The HTTP port."""
        return (self.port,)

    @property
    def address(self) -> str:
        """Base URL."""
        return f"http://{LOOPBACK}:{self.port}"

    def prepare(self) -> Launch:
        """Its settings; folders that the caller's environment names hold."""
        root = repository_root()
        env = {
            "PORT": str(self.port),
            "LAUNCHER": "process",
            "NODE_SOCKET": str(self.node_socket),
            "SECRETS_FILE": str(self.secrets),
            "DATA_ROOTS": os.environ.get("DATA_ROOTS", "/"),
            "TARGETS_DIRS": os.environ.get("TARGETS_DIRS", str(root / "services")),
            "TEMPLATES_DIRS": os.environ.get("TEMPLATES_DIRS", str(root / "templates")),
        }
        return Launch((sys.executable, "-m", "streamforge_local.lean", "queue_manager"), {**self.stores, **env})

    def is_ready(self) -> bool:
        """Its own readiness."""
        return _http_status(self.port, "/health/ready") == http.client.OK

    def environment(self) -> dict[str, str]:
        """``QUEUE_MANAGER_URL`` and ``CONSOLE_URL``."""
        return {"QUEUE_MANAGER_URL": self.address, "CONSOLE_URL": f"{self.address}/"}


def build_parts(home: Home, names: Sequence[str] = PARTS, *, security: Security = "plaintext") -> list[Part]:
    """The named parts on the ports of this home.

    Raises:
        StackError: a port variable that is wrong.
        ValueError: an unknown name.
    """
    if unknown := set(names) - set(PARTS):
        raise ValueError(f"unknown parts {sorted(unknown)}; there are {', '.join(PARTS)}")
    ports = assign_ports(home.ports, ("kafka", "kafka-controller", "arango", "queue-manager"))
    kafka = KafkaPart(
        Broker(
            home.data / "kafka",
            ports["kafka"],
            ports["kafka-controller"],
            security,
            topic_prefix=os.environ.get("KAFKA_TOPIC_PREFIX", ""),
        )
    )
    arango = ArangoPart(home.data / "arango", ports["arango"])
    node = NodePart(home.data / "node", home.node_socket)
    parts: dict[str, Part] = {"kafka": kafka, "arango": arango, "node": node}
    if "queue-manager" in names:
        stores = {**kafka.environment(), **arango.environment()}
        parts["queue-manager"] = QueueManagerPart(ports["queue-manager"], stores, home.node_socket, home.secrets)
    return [parts[name] for name in PARTS if name in names]


def _http_status(port: int, path: str, headers: Mapping[str, str] | None = None) -> int | None:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
