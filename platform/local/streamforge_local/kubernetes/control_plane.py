"""A real control plane on this machine: etcd, API server, controller manager, scheduler; on request nodes.

kwok plays ten of them, where pods are entries alone; a real one (``node.py``) runs them.

For tests alone: the processes die with the one that started them, and ``close`` keeps nothing but the logs.
"""

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx

from streamforge_local.failures import StackError
from streamforge_local.kubernetes.api import ApiError
from streamforge_local.kubernetes.cluster import POLL_S, Cluster
from streamforge_local.kubernetes.kubeconfig import Access, write_kubeconfig
from streamforge_local.kubernetes.node import NODE, NODE_PROGRAMS, Node, why_no_node, why_not_in
from streamforge_local.kubernetes.pki import Authority
from streamforge_local.kubernetes.programs import APISERVER, CONTROLLERS, ETCD, KWOK, SCHEDULER
from streamforge_local.kubernetes.servers import FAKE_NODE, PORTS, Layout, build_servers
from streamforge_local.ports import free_port
from streamforge_local.stack.parts import Part
from streamforge_local.stack.process import PartProcess

NODES = 10
READY_TIMEOUT_S = 60.0


class ControlPlane(Cluster):
    """A cluster of one's own; each server can be killed, paused, started again: the same port, the same data.

    Args:
        folder: Everything of the cluster is below it.
        kwok: Ten fake nodes, whose pods do what their annotations say (``stages.yaml``).
        node: A real node. Without any, pods stay Pending.

    Raises:
        StackError: a real node is asked for on a machine that cannot be one, or in a folder with a path too long.
    """

    def __init__(self, folder: Path, *, kwok: bool = False, node: bool = False) -> None:
        self.folder = folder.resolve()
        if node and (reason := why_no_node() or why_not_in(self.folder)) is not None:
            raise StackError(f"{NODE}: {reason}")
        self._authority = Authority("streamforge-kube-ca")
        self._layout = Layout(self.folder, _free_ports())
        self._layout.write(self._authority)
        super().__init__(self._layout.kubeconfig)
        self._node = Node(self._layout, self._authority, self.api.http) if node else None
        more = NODE_PROGRAMS if node else ()
        parts: dict[str, Part] = {**build_servers(self._layout, self.api.http, kwok=kwok, more=more)}
        if self._node is not None:
            parts[NODE] = self._node
        self._nodes = NODES * kwok + node
        self._processes = {
            name: PartProcess(part, log=self.folder / "log" / f"{name}.log", mark=str(self.folder))
            for name, part in parts.items()
        }
        self._known_to_kwok: tuple[int | None, ...] = ()

    @property
    def etcd(self) -> PartProcess:
        """The store."""
        return self._processes[ETCD]

    @property
    def apiserver(self) -> PartProcess:
        """The API server."""
        return self._processes[APISERVER]

    @property
    def controllers(self) -> PartProcess:
        """The controller manager."""
        return self._processes[CONTROLLERS]

    @property
    def scheduler(self) -> PartProcess:
        """The scheduler."""
        return self._processes[SCHEDULER]

    @property
    def kwok(self) -> PartProcess:
        """The player of nodes and pods.

        Raises:
            StackError: this cluster has none.
        """
        if KWOK not in self._processes:
            raise StackError(f"kwok: the cluster in {self.folder} has none; make it with kwok=True")
        return self._processes[KWOK]

    @property
    def node(self) -> PartProcess:
        """The real node; killed, it takes all of its pods' processes along. Its kubelet and containerd log beside it.

        Raises:
            StackError: this cluster has none.
        """
        self._real_node()
        return self._processes[NODE]

    @property
    def gateway(self) -> str:
        """This machine's 127.0.0.1 as the real node's pods see it (TCP), once the node has been started."""
        return self._real_node().place.gateway

    def load_image(self, archive: Path) -> None:
        """Give the real node an image (docker-archive), under all of its names; one of that name is replaced.

        Raises:
            StackError: there is no such node, or it does not take the image.
        """
        self._real_node().load_image(archive)

    def start(self) -> None:
        """Start every server that does not run; returns when the API answers. Builds programs that are missing.

        Raises:
            StackError: a program cannot be built, or a server has ended or is not ready in time.
        """
        for name, process in self._processes.items():
            if name == KWOK and not process.is_running:
                self._create_nodes()
                self._known_to_kwok = self._store()
            process.start()
            if name in (ETCD, APISERVER):
                process.wait_ready()

    def wait_ready(self, timeout: float = READY_TIMEOUT_S) -> None:
        """Block until Jobs can be made: every server, the default service account, with kwok the nodes.

        To be called after a restart of etcd or the API server too: kwok is started anew then, and what it was waiting
        for (``streamforge.test/run``) begins again.

        Raises:
            StackError: a server has ended, or something is not there after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        self._renew_kwok()
        for process in self._processes.values():
            process.wait_ready(max(deadline - time.monotonic(), 0))
        self._wait(self.has_default_account, "the default service account", deadline)
        if self._nodes:
            self._wait(self._nodes_are_ready, f"{self._nodes} ready nodes", deadline)

    def close(self) -> None:
        """End every server at once and remove all files but the logs; the machine is as before. Idempotent."""
        for process in reversed(self._processes.values()):
            # There is nothing worth a server's farewell: the data goes too.
            process.kill()
            process.close()
        super().close()
        if self._node is not None:
            self._node.close()
        for path in (self.folder / "etcd", self._layout.pki(""), self.folder / "conf"):
            shutil.rmtree(path, ignore_errors=True)
        self.kubeconfig.unlink(missing_ok=True)

    def user(self, name: str, groups: Iterable[str] = ()) -> Access:
        """The log-in of any user, by a certificate; what it may do is RBAC's affair."""
        return self._layout.access(self._authority, name, self._authority.issue(name, groups=groups))

    def user_kubeconfig(self, access: Access, *, namespace: str | None = None) -> Path:
        """A kubeconfig for a log-in (a user's, a service account's), in the cluster's folder."""
        path = self._layout.config(f"user-{access.user.replace(':', '-').replace('/', '-')}")
        return write_kubeconfig(path, access, namespace=namespace)

    def _wait(self, is_there: Callable[[], bool], what: str, deadline: float) -> None:
        while not _asked(is_there):
            for process in self._processes.values():
                if not process.is_running:
                    raise process.end()
            if time.monotonic() > deadline:
                raise StackError(f"kubernetes: {what} did not come in time (logs: {self.folder / 'log'})")
            time.sleep(POLL_S)

    def _store(self) -> tuple[int | None, ...]:
        return (self.etcd.pid, self.apiserver.pid)

    def _renew_kwok(self) -> None:
        """When a call about a pod breaks off, kwok forgets the pod; a real node would look at all of its pods again."""
        if KWOK in self._processes and self.kwok.is_running and self._known_to_kwok != self._store():
            self.apiserver.wait_ready()
            self.kwok.kill()
            self._known_to_kwok = self._store()
            self.kwok.start()

    def _create_nodes(self) -> None:
        for number in range(NODES):
            try:
                self.api.post("/api/v1/nodes", fake_node(f"fake-{number}"))
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise

    def _nodes_are_ready(self) -> bool:
        nodes = self.api.get("/api/v1/nodes")["items"]
        ready = [
            node
            for node in nodes
            # The taint of a node that is not ready goes a moment after its condition.
            if not node["spec"].get("taints")
            and any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))
        ]
        return len(ready) >= self._nodes

    def _real_node(self) -> Node:
        if self._node is None:
            raise StackError(f"{NODE}: the cluster in {self.folder} has none; make it with node=True")
        return self._node


def fake_node(name: str) -> dict[str, object]:
    """A node that kwok plays, with room for a thousand pods."""
    room = {"cpu": "1000", "memory": "1Ti", "pods": "1000"}
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": KWOK}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": dict([FAKE_NODE]), "labels": labels},
        "status": {"capacity": room, "allocatable": room},
    }


def _asked(is_there: Callable[[], bool]) -> bool:
    try:
        return is_there()
    except (httpx.TransportError, ApiError):
        return False


def _free_ports() -> dict[str, int]:
    ports: dict[str, int] = {}
    for name in PORTS:
        ports[name] = free_port(frozenset(ports.values()))
    return ports
