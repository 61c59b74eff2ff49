"""A real control plane on this machine: etcd, API server, controller manager, scheduler; kwok plays nodes on request.

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
from streamforge_local.kubernetes.pki import Authority
from streamforge_local.kubernetes.programs import APISERVER, CONTROLLERS, ETCD, KWOK, SCHEDULER
from streamforge_local.kubernetes.servers import FAKE_NODE, PORTS, Layout, build_servers
from streamforge_local.ports import free_port
from streamforge_local.stack.process import PartProcess

NODES = 10
READY_TIMEOUT_S = 60.0


class ControlPlane(Cluster):
    """A cluster of one's own; each server can be killed, paused, started again: the same port, the same data.

    Args:
        folder: Everything of the cluster is below it.
        kwok: Ten fake nodes, whose pods do what their annotations say (``stages.yaml``); without, pods stay Pending.
    """

    def __init__(self, folder: Path, *, kwok: bool = False) -> None:
        self.folder = folder.resolve()
        self._authority = Authority("streamforge-kube-ca")
        self._layout = Layout(self.folder, _free_ports())
        self._layout.write(self._authority)
        super().__init__(self._layout.kubeconfig)
        self._processes = {
            name: PartProcess(server, log=self.folder / "log" / f"{name}.log", mark=str(self.folder))
            for name, server in build_servers(self._layout, self.api.http, kwok=kwok).items()
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
        if KWOK in self._processes:
            self._wait(self._nodes_are_ready, f"{NODES} ready nodes", deadline)

    def close(self) -> None:
        """End every server at once and remove all files but the logs. Idempotent."""
        for process in reversed(self._processes.values()):
            # There is nothing worth a server's farewell: the data goes too.
            process.kill()
            process.close()
        super().close()
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
        return len(ready) >= NODES


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
