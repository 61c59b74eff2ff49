"""The servers of a control plane: which program, which arguments, when each is ready. Starts none of them.

All of them listen on the loopback address alone and keep everything below one folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import httpx

from streamforge_local.kafka.security import write_secret
from streamforge_local.kubernetes.kubeconfig import Access, write_kubeconfig
from streamforge_local.kubernetes.node_place import API_ADDRESS, PLACES, gateway
from streamforge_local.kubernetes.pki import Authority, Pair, token_pair
from streamforge_local.kubernetes.programs import APISERVER, CONTROLLERS, ETCD, KWOK, SCHEDULER, find_programs
from streamforge_local.ports import LOOPBACK
from streamforge_local.stack.parts import Launch

PEER = "etcd-peer"
PORTS = (ETCD, PEER, APISERVER, CONTROLLERS, SCHEDULER, KWOK)
SERVICES = "10.96.0.0/16"
API_HOSTS = (
    *(LOOPBACK, "localhost", API_ADDRESS, "kubernetes", "kubernetes.default", "kubernetes.default.svc"),
    "kubernetes.default.svc.cluster.local",
    *(gateway(number) for number in range(PLACES)),
)
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
RUN_CONTROLLERS = (
    "job-controller",
    "cronjob-controller",
    "deployment-controller",
    "replicaset-controller",
    "garbage-collector-controller",
    "ttl-after-finished-controller",
    "pod-garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "resourcequota-controller",
    "node-lifecycle-controller",
    "taint-eviction-controller",
)
CALLS_PER_S = 500
"""The default of 20 makes thousands of Jobs a matter of minutes."""
FAKE_NODE = ("kwok.x-k8s.io/node", "fake")
"""Annotation of the nodes that kwok plays."""
DEADLINE_S = 60.0
PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Server:
    """One server, a part in the stack's sense."""

    name: str
    arguments: tuple[str, ...]
    ports: tuple[int, ...]
    address: str
    health: str
    client: httpx.Client = field(repr=False)
    programs: tuple[str, ...]
    """All of the cluster's: they must come from one folder."""
    deadline_s: float = DEADLINE_S

    def prepare(self) -> Launch:
        """The program is found, or built."""
        return Launch((str(find_programs(self.programs) / self.name), *self.arguments))

    def is_ready(self) -> bool:
        """It says so itself."""
        try:
            return self.client.get(f"{self.address}{self.health}", timeout=PROBE_TIMEOUT_S).is_success
        except httpx.TransportError:
            return False

    def environment(self) -> dict[str, str]:
        """Nothing: clients read a kubeconfig."""
        return {}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a control plane keeps its files and listens."""

    folder: Path
    ports: Mapping[str, int]

    @property
    def kubeconfig(self) -> Path:
        """The admin's."""
        return self.folder / "kubeconfig"

    def address(self, name: str) -> str:
        """Base URL of a server."""
        scheme = "http" if name in (ETCD, PEER, KWOK) else "https"
        return f"{scheme}://{LOOPBACK}:{self.ports[name]}"

    def pki(self, name: str) -> Path:
        """A file of a key or a certificate."""
        return self.folder / "pki" / name

    def config(self, name: str) -> Path:
        """A server's kubeconfig."""
        return self.folder / "conf" / f"{name}.kubeconfig"

    def write(self, authority: Authority) -> None:
        """Keys, certificates and kubeconfigs of the servers and the admin."""
        self.pki("").mkdir(parents=True, exist_ok=True, mode=0o700)
        write_secret(self.pki("ca.crt"), authority.certificate)
        self._write_pair("service-accounts", token_pair())
        self._write_pair(APISERVER, authority.issue(APISERVER, hosts=API_HOSTS))
        self._write_pair(KUBELET_CLIENT, authority.issue(KUBELET_CLIENT, groups=["system:masters"]))
        for name in (CONTROLLERS, SCHEDULER):
            user = f"system:{name}"
            self._write_pair(name, authority.issue(user, hosts=(LOOPBACK, "localhost")))
            write_kubeconfig(self.config(name), self.access(authority, user, authority.issue(user)))
        admin = authority.issue("admin", groups=["system:masters"])
        write_kubeconfig(self.kubeconfig, self.access(authority, "admin", admin))

    def access(self, authority: Authority, user: str, pair: Pair) -> Access:
        """A user's."""
        return Access(self.address(APISERVER), authority.certificate, user, pair)

    def tls(self, name: str) -> tuple[str, ...]:
        """A server's arguments for its own certificate."""
        return (
            f"--tls-cert-file={self.pki(name + '.crt')}",
            f"--tls-private-key-file={self.pki(name + '.key')}",
            f"--secure-port={self.ports[name]}",
            f"--bind-address={LOOPBACK}",
            "--profiling=false",
        )

    def _write_pair(self, name: str, pair: Pair) -> None:
        write_secret(self.pki(f"{name}.crt"), pair.public)
        write_secret(self.pki(f"{name}.key"), pair.private)


def etcd_arguments(layout: Layout) -> tuple[str, ...]:
    """One member; what a killed process has written stays without a sync, and no test pulls the plug."""
    client, peer = layout.address(ETCD), layout.address(PEER)
    return (
        "--name=default",
        f"--data-dir={layout.folder / 'etcd'}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    )


def apiserver_arguments(layout: Layout) -> tuple[str, ...]:
    """TLS, client certificates and tokens, RBAC."""
    return (
        *layout.tls(APISERVER),
        f"--etcd-servers={layout.address(ETCD)}",
        f"--advertise-address={LOOPBACK}",
        # An Endpoints object may not hold a loopback address.
        "--endpoint-reconciler-type=none",
        f"--service-cluster-ip-range={SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        f"--client-ca-file={layout.pki('ca.crt')}",
        # Logs and health of a node: it, too, is asked who it is.
        f"--kubelet-certificate-authority={layout.pki('ca.crt')}",
        f"--kubelet-client-certificate={layout.pki(KUBELET_CLIENT + '.crt')}",
        f"--kubelet-client-key={layout.pki(KUBELET_CLIENT + '.key')}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={layout.pki('service-accounts.crt')}",
        f"--service-account-signing-key-file={layout.pki('service-accounts.key')}",
    )


def controllers_arguments(layout: Layout) -> tuple[str, ...]:
    """The controllers that Jobs, namespaces and nodes need."""
    return (
        *_client_arguments(layout, CONTROLLERS),
        "--use-service-account-credentials",
        f"--service-account-private-key-file={layout.pki('service-accounts.key')}",
        f"--root-ca-file={layout.pki('ca.crt')}",
        f"--controllers={','.join(RUN_CONTROLLERS)}",
    )


def scheduler_arguments(layout: Layout) -> tuple[str, ...]:
    """The default scheduler."""
    return _client_arguments(layout, SCHEDULER)


def kwok_arguments(layout: Layout) -> tuple[str, ...]:
    """Plays the nodes that bear its annotation, and their pods, as ``stages.yaml`` says."""
    return (
        f"--kubeconfig={layout.kubeconfig}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={'='.join(FAKE_NODE)}",
        f"--config={resources.files(__package__).joinpath('stages.yaml')}",
        f"--server-address={LOOPBACK}:{layout.ports[KWOK]}",
    )


def _client_arguments(layout: Layout, name: str) -> tuple[str, ...]:
    logins = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    return (
        *layout.tls(name),
        *(f"--{login}={layout.config(name)}" for login in logins),
        # It would cost seconds at each start, and there is no second one.
        "--leader-elect=false",
        f"--kube-api-qps={CALLS_PER_S}",
        f"--kube-api-burst={CALLS_PER_S}",
    )


def build_servers(layout: Layout, client: httpx.Client, *, kwok: bool, more: tuple[str, ...] = ()) -> dict[str, Server]:
    """The servers by their names, in the order in which they start; ``more``: other programs of this cluster."""
    arguments = {
        ETCD: etcd_arguments(layout),
        APISERVER: apiserver_arguments(layout),
        CONTROLLERS: controllers_arguments(layout),
        SCHEDULER: scheduler_arguments(layout),
    }
    if kwok:
        arguments[KWOK] = kwok_arguments(layout)
    health = {ETCD: "/health", APISERVER: "/readyz"}
    ports = {ETCD: (layout.ports[ETCD], layout.ports[PEER])}
    return {
        name: Server(
            name=name,
            arguments=given,
            ports=ports.get(name, (layout.ports[name],)),
            address=layout.address(name),
            health=health.get(name, "/healthz"),
            client=client,
            programs=(*arguments, *more),
        )
        for name, given in arguments.items()
    }
