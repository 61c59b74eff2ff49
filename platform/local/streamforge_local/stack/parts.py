"""What the stack is made of: for each part its command, its environment, when it is ready, where it is.

A part is data and three small questions; it starts nothing itself. Other parts (a test's, a later store's) only have
to be of the same shape.
"""

import base64
import http.client
import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from streamforge_local.failures import StackError
from streamforge_local.kafka.broker import Broker, PodListener, Security
from streamforge_local.kafka.jars import provision_jars
from streamforge_local.kafka.security import write_secret
from streamforge_local.kafka.start_cache import cache_options
from streamforge_local.paths import Home, repository_root
from streamforge_local.ports import LOOPBACK, assign_ports

PARTS = ("kafka", "arango", "node", "queue-manager")
"""In the order in which they come to life; they stop in the reverse order."""
CLUSTER_PARTS = ("kafka", "arango", "relay", "queue-manager")
"""The same when workflows run as Jobs in a cluster: its nodes are there already, and its pods must be let in."""
ALL_PARTS = tuple(dict.fromkeys((*PARTS[:-1], *CLUSTER_PARTS)))
ARANGO_DATABASE = "streamforge"
ARANGO_USER = "streamforge"
PROBE_TIMEOUT_S = 2.0
POD_DATA = "/data"
"""Where an image or a volume has files for ``file:`` sources."""
CA_SECRET, CA_FOLDER = "streamforge-worker-kafka", "/etc/streamforge/kafka"
"""The Secret with the certificate of Kafka's authority, and where pods have it."""


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
        """Clients', controller's and pods'."""
        pods = (self.broker.pods.port,) if self.broker.pods is not None else ()
        return (self.broker.port, self.broker.controller_port, *pods)

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
class RelayPart:
    """Lets pods reach parts that listen on loopback, at one other address of this machine."""

    host: str
    relayed: tuple[int, ...]
    name: str = "relay"
    deadline_s: float = 10.0
    ports: tuple[int, ...] = ()

    @property
    def address(self) -> str:
        """Address and ports."""
        return f"{self.host}:{','.join(map(str, self.relayed))}"

    def prepare(self) -> Launch:
        """Nothing to make."""
        command = (sys.executable, "-m", "streamforge_local.stack.relay", "--host", self.host)
        return Launch((*command, *map(str, self.relayed)))

    def is_ready(self) -> bool:
        """It takes connections."""
        try:
            for port in self.relayed:
                socket.create_connection((self.host, port), timeout=PROBE_TIMEOUT_S).close()
        except OSError:
            return False
        return True

    def environment(self) -> dict[str, str]:
        """Nothing: pods alone talk to it."""
        return {}


@dataclass(frozen=True, slots=True)
class QueueManagerPart:
    """The queue-manager; ``stores`` is the environment of Kafka and ArangoDB."""

    port: int
    stores: Mapping[str, str] = field(repr=False)
    home: Home
    pods: Mapping[str, str] = field(default_factory=dict)
    """What is different for workers that are pods; empty: they are processes of the local node."""
    overrides: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Settings that replace the part's own."""
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
            "SECRETS_FILE": str(self.home.secrets),
            "TARGETS_DIRS": os.environ.get("TARGETS_DIRS", str(root / "services")),
            "TEMPLATES_DIRS": os.environ.get("TEMPLATES_DIRS", str(root / "templates")),
            "MALLOC_ARENA_MAX": "1",  # mallopt(3): one heap; of the threads of the store's clients one runs at a time
            "MALLOC_MMAP_THRESHOLD_": "131072",  # mallopt(3): it would grow, and pages of a list (2 MB each) stay
        }
        env |= self._in_cluster() if self.pods else self._on_node()
        command = (sys.executable, "-m", "streamforge_local.lean", "queue_manager")
        return Launch(command, {**self.stores, **env, **self.overrides})

    def is_ready(self) -> bool:
        """Its own readiness."""
        return _http_status(self.port, "/health/ready") == http.client.OK

    def environment(self) -> dict[str, str]:
        """``QUEUE_MANAGER_URL`` and ``CONSOLE_URL``."""
        return {"QUEUE_MANAGER_URL": self.address, "CONSOLE_URL": f"{self.address}/"}

    def _on_node(self) -> dict[str, str]:
        socket_path, roots = str(self.home.node_socket), os.environ.get("DATA_ROOTS", "/")
        return {"LAUNCHER": "process", "NODE_SOCKET": socket_path, "DATA_ROOTS": roots}

    def _in_cluster(self) -> dict[str, str]:
        """KUBECONFIG and KUBERNETES_* are the caller's."""
        found = {"LAUNCHER": "kubernetes", "DATA_ROOTS": self.pods["DATA_ROOTS"]}
        found["KUBERNETES_LOG_ARCHIVE"] = os.environ.get("KUBERNETES_LOG_ARCHIVE", str(self.home.data / "pod-logs"))
        if "KAFKA_CA_PATH" in self.pods:
            mounts = _mounts(os.environ.get("KUBERNETES_SECRET_MOUNTS") or "{}")
            found["KUBERNETES_SECRET_MOUNTS"] = json.dumps({**mounts, CA_SECRET: CA_FOLDER})
        return found


def build_parts(
    home: Home, names: Sequence[str] = PARTS, *, security: Security = "plaintext", advertised: str | None = None
) -> list[Part]:
    """The named parts on the ports of this home.

    Args:
        home: The stack's folder.
        names: Of ``ALL_PARTS``.
        security: Kafka's.
        advertised: Address at which pods find this machine; None: workers are processes here.

    Raises:
        StackError: a port variable that is wrong.
        ValueError: an unknown name.
    """
    if unknown := set(names) - set(ALL_PARTS):
        raise ValueError(f"unknown parts {sorted(unknown)}; there are {', '.join(ALL_PARTS)}")
    listening = ("kafka", "kafka-controller", "arango", "queue-manager")
    ports = assign_ports(home.ports, listening if advertised is None else (*listening, "kafka-pods"))
    listener = PodListener(advertised, ports["kafka-pods"]) if advertised is not None else None
    prefix = os.environ.get("KAFKA_TOPIC_PREFIX", "")
    broker = Broker(home.data / "kafka", ports["kafka"], ports["kafka-controller"], security, prefix, listener)
    kafka, arango = KafkaPart(broker), ArangoPart(home.data / "arango", ports["arango"])
    parts: dict[str, Part] = {"kafka": kafka, "arango": arango, "node": NodePart(home.data / "node", home.node_socket)}
    if listener is not None:
        parts["relay"] = RelayPart(listener.host, (listener.port, arango.port))
    if "queue-manager" in names:
        stores = {**kafka.environment(), **arango.environment()}
        pods = _seen_by_pods(stores, listener, arango.port) if listener is not None else {}
        parts["queue-manager"] = QueueManagerPart(ports["queue-manager"], stores, home, pods)
    return [parts[name] for name in ALL_PARTS if name in names]


def _seen_by_pods(stores: Mapping[str, str], listener: PodListener, store_port: int) -> dict[str, str]:
    """What of the environment is different in a pod."""
    found = {
        "KAFKA_BOOTSTRAP_SERVERS": listener.address,
        "ARANGO_URL": f"http://{listener.host}:{store_port}",
        "DATA_ROOTS": os.environ.get("DATA_ROOTS") or POD_DATA,
    }
    if "KAFKA_CA_PATH" in stores:
        found["KAFKA_CA_PATH"] = f"{CA_FOLDER}/{Path(stores['KAFKA_CA_PATH']).name}"
    return found


def _mounts(text: str) -> dict[str, str]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise StackError(f"queue-manager: KUBERNETES_SECRET_MOUNTS is not a JSON object: {error}") from error


def _http_status(port: int, path: str, headers: Mapping[str, str] | None = None) -> int | None:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
