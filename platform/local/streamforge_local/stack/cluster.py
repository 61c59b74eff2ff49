"""The cluster in which a stack's workflows run as Jobs: where its pods find the stack, what the stack has left in it.

Nothing here talks to a cluster: the queue-manager's own command does, by the rules by which the queue-manager does.
"""

import ipaddress
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from streamforge_local.failures import StackError
from streamforge_local.paths import Home, repository_root
from streamforge_local.stack.parts import CA_SECRET, QueueManagerPart
from streamforge_local.stack.process import inherited

ADVERTISED = "ADVERTISED_HOST"
BRIDGE = "10.244.0.1"
"""This machine's address in the first pod network that most plugins make (``10.244.0.0/24``)."""
LEADING = ("KUBECONFIG", "KUBE_CONTEXT")
"""Variables that lead to a cluster."""
ASK_TIMEOUT_S = 60.0
TELL_TIMEOUT_S = 150.0
"""The pod that tries the addresses has a minute, its image and the API server some more."""


@dataclass(frozen=True, slots=True)
class Found:
    """A cluster that answers. ``owner``: the installation whose ConfigMap is in the namespace; None: no ConfigMap."""

    server: str
    version: str
    namespace: str
    owner: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """What a stack has published where; kept with its data, so that it is found again when nothing runs."""

    server: str
    version: str
    namespace: str
    installation: str
    environment: dict[str, str]
    """What leads to the cluster: ``KUBECONFIG`` and ``KUBE_CONTEXT``, as they were."""

    @property
    def place(self) -> str:
        """For people."""
        return f"namespace {self.namespace} of {self.server} (Kubernetes {self.version})"


def read_record(home: Home) -> Record | None:
    """The record, if this data ever met a cluster."""
    return Record(**json.loads(home.cluster.read_text())) if home.cluster.exists() else None


def write_record(home: Home, record: Record) -> None:
    """Keep it with the stack's data."""
    home.cluster.write_text(json.dumps(asdict(record)))


def resolve_kubeconfig() -> None:
    """Paths in KUBECONFIG are meant from here, and the stack's processes run elsewhere."""
    if named := os.environ.get("KUBECONFIG"):
        os.environ["KUBECONFIG"] = os.pathsep.join(os.path.abspath(path) for path in named.split(os.pathsep) if path)


def prepare(home: Home) -> Found:
    """Ask the cluster before anything starts, and make the namespace when it is not there.

    Raises:
        StackError: it cannot or may not be used, or another installation has the namespace.
    """
    found = Found(**_ask(["prepare"], inherited(os.environ)))
    record = read_record(home)
    is_ours = record is not None and found.owner == record.installation
    if found.owner is not None and not is_ours:
        whose = f"installation {found.owner}" if found.owner else "somebody else"
        raise StackError(
            f"kubernetes: namespace {found.namespace} of {found.server} is in use by {whose}; "
            "name another with KUBERNETES_NAMESPACE, or remove its ConfigMap if nobody needs it"
        )
    return found


def named_host(environ: Mapping[str, str] = os.environ) -> str | None:
    """The address of this machine that pods are to be told, if the environment names one.

    Raises:
        StackError: what is named is no address that can be shown to pods.
    """
    named = environ.get(ADVERTISED)
    if not named:
        return None
    try:
        address = ipaddress.IPv4Address(named)
    except ValueError as error:
        raise StackError(f"kubernetes: {ADVERTISED}={named!r} is not an IPv4 address") from error
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        raise StackError(
            f"kubernetes: {ADVERTISED}={named} leads a pod to itself or nowhere; give an address of this machine"
        )
    if not address.is_private:
        raise StackError(
            f"kubernetes: {ADVERTISED}={named} is a public address, and the embedded store speaks without encryption; "
            "give one of a private network"
        )
    return str(address)


def usual_host(server: str) -> str:
    """The address for the pods of a cluster on this machine.

    Raises:
        StackError: the cluster is elsewhere, or this machine has no such address.
    """
    if _is_loopback(server) and is_own(BRIDGE):
        return BRIDGE
    raise StackError(
        f"kubernetes: pods need an address of this machine for Kafka and the store; set {ADVERTISED} "
        "(kind: the gateway of its Docker network)"
    )


def is_own(host: str) -> bool:
    """Whether it is an address of this machine."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def tell(home: Home, found: Found, part: QueueManagerPart) -> str:
    """Publish for the workers where everything is and try it from a pod; what was tried, in a line.

    The queue-manager's store must run.

    Raises:
        StackError: the cluster refuses, or pods do not reach the stack.
    """
    own = {**inherited(os.environ), **part.prepare().env}
    installation = _ask(["installation"], own)["installation"]
    kept = {name: os.environ[name] for name in LEADING if os.environ.get(name)}
    # before anything is published: what is there must be found again
    write_record(home, Record(found.server, found.version, found.namespace, installation, kept))
    command = ["tell", "--installation", installation, *(f"--set={name}={value}" for name, value in part.pods.items())]
    if authority := part.stores.get("KAFKA_CA_PATH"):
        command.append(f"--secret-file={CA_SECRET}={authority}")
    return str(_ask(command, own, timeout_s=TELL_TIMEOUT_S)["preflight"])


def jobs_left(record: Record) -> int:
    """How many Jobs of the stack go on in the cluster; raises StackError when it cannot be asked."""
    return int(_ask(["jobs", "--installation", record.installation], _back(record))["jobs"])


def remove(record: Record) -> int:
    """Remove the stack's Jobs, ConfigMap and Secrets; the number of Jobs. Raises StackError."""
    return int(_ask(["remove", "--installation", record.installation], _back(record))["jobs"])


def _back(record: Record) -> dict[str, str]:
    """The environment that led to the cluster then."""
    others = {name: value for name, value in inherited(os.environ).items() if name not in LEADING}
    return {**others, **record.environment, "KUBERNETES_NAMESPACE": record.namespace}


def _ask(arguments: Sequence[str], environ: Mapping[str, str], *, timeout_s: float = ASK_TIMEOUT_S) -> dict[str, Any]:
    """The answer of the queue-manager's command."""
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "queue_manager.cluster", *arguments],
            env=dict(environ),
            cwd=repository_root(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"kubernetes: no answer to {arguments[0]!r} within {timeout_s:g} s") from error
    if done.returncode != 0:
        words = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise StackError(f"kubernetes: {words}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
