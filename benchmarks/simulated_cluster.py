"""A queue-manager on a cluster of simulated nodes: the control plane, Kafka and the queue-manager are real.

kwok plays the pods; since no worker lives in them, ``Voices`` say in a process of their own what workers would.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from streamforge_local.kubernetes.control_plane import ControlPlane
from streamforge_local.kubernetes.kubeconfig import read_kubeconfig
from streamforge_local.kubernetes.played import settings_of
from streamforge_local.kubernetes.voices import PAGE, Voices
from streamforge_local.paths import Home, repository_root
from streamforge_local.ports import free_port
from streamforge_local.stack.parts import QueueManagerPart
from streamforge_local.stack.process import PartProcess
from streamforge_local.testing import ArangoServer, KafkaServer
from streamforge_utils.settings import KafkaSettings

SELECTOR = "app=streamforge"
CLEAR_S = 600.0
CALL_S = 90.0
AUTOGROUP_S = 0.15
"""Who is not root may change one autogroup in a tenth of a second."""
_FORGET_PEAK = "5"


@dataclass(frozen=True, slots=True)
class Scene:
    """What runs."""

    cluster: ControlPlane
    namespace: str
    kafka: KafkaSettings
    queue_manager: PartProcess

    @property
    def url(self) -> str:
        """Of the queue-manager."""
        return self.queue_manager.part.address

    @property
    def jobs(self) -> str:
        """The collection of Jobs, as a path of the API server."""
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    def memory(self, name: str = "VmRSS") -> int:
        """Bytes of the queue-manager in memory now; ``VmHWM``: the most since the process began or ``forget_peak``."""
        status = Path(f"/proc/{self.queue_manager.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{name}:"))

    def cpu_s(self) -> float:
        """Processor time that the queue-manager has used, in seconds (proc(5), stat)."""
        fields = Path(f"/proc/{self.queue_manager.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def forget_peak(self) -> None:
        """``VmHWM`` begins anew at what is in memory now (proc(5), clear_refs)."""
        Path(f"/proc/{self.queue_manager.pid}/clear_refs").write_text(_FORGET_PEAK)

    def clear(self, selector: str = SELECTOR) -> None:
        """Remove all Jobs, as their time to live would, and wait until their pods are gone too."""
        api = self.cluster.api.http
        deadline = time.monotonic() + CLEAR_S
        for path in (self.jobs, f"/api/v1/namespaces/{self.namespace}/pods"):
            while self.cluster.api.get(path, labelSelector=selector, limit=1)["items"]:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{path}: not empty {CLEAR_S:g} s after the removal of the Jobs was asked for")
                if path == self.jobs:
                    # page by page: the API server ends a call after a minute
                    page = {"propagationPolicy": "Background", "labelSelector": selector, "limit": str(PAGE)}
                    api.delete(path, params=page, timeout=CALL_S).raise_for_status()
                time.sleep(0.2)


@contextmanager
def simulated(folder: Path, *, places: int, run_s: float, nice: int) -> Iterator[Scene]:
    """All of it, ended at the end.

    Args:
        folder: Where data and logs lie.
        places: Workflows that run at once.
        run_s: How long each pod runs before it ends with 0. Its voice speaks half-way and must not come too late.
        nice: Of the cluster's servers, which elsewhere are on machines of their own; 0: as everything else.
    """
    with ExitStack() as stack:
        kafka, arango = KafkaServer(_made(folder / "kafka")), ArangoServer(_made(folder / "arango"))
        cluster = ControlPlane(_made(folder / "kubernetes"), kwok=True)
        for server in (kafka, arango, cluster):
            stack.enter_context(closing(server))
            server.start()
        kafka.wait_ready()
        arango.wait_ready()
        cluster.wait_ready()
        for process in (cluster.etcd, cluster.apiserver, cluster.controllers, cluster.scheduler, cluster.kwok):
            assert process.pid is not None
            _give_way(process.pid, nice)
        namespace = cluster.new_namespace("scale")
        stores = {**kafka.environment, **arango.environment}
        settings = {**_settings(cluster, namespace, run_s), "MAX_RUNNING": str(places)}
        part = QueueManagerPart(free_port(), stores, Home(folder), overrides=settings)
        log = folder / "queue-manager.log"
        queue_manager = stack.enter_context(closing(PartProcess(part, log=log, mark=str(folder))))
        queue_manager.start()
        queue_manager.wait_ready()
        speaker = multiprocessing.get_context("spawn").Process(
            target=_speak, args=(kafka.bootstrap_servers, cluster.kubeconfig, namespace), daemon=True
        )
        speaker.start()
        stack.callback(speaker.kill)
        clients = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
        yield Scene(cluster, namespace, clients, queue_manager)


def _give_way(pid: int, nice: int) -> None:
    """All threads of a session, against each other and against other sessions.

    Where the kernel divides the processors among sessions (sched(7), autogroup) a process's own value counts only
    within its session.
    """
    os.setpriority(os.PRIO_PGRP, pid, nice)
    autogroup = Path(f"/proc/{pid}/autogroup")
    if autogroup.exists():
        autogroup.write_text(str(nice))
        time.sleep(AUTOGROUP_S)


def _settings(cluster: ControlPlane, namespace: str, run_s: float) -> dict[str, str]:
    root = repository_root()
    return {
        **settings_of(cluster, namespace, exit=0, run=f"{run_s * 1000:.0f}ms"),
        # what is not there cannot be kept: a simulated node has no logs
        "KUBERNETES_LOG_ARCHIVE": "",
        "TARGETS_DIRS": f"{root / 'services'}{os.pathsep}{root / 'benchmarks' / 'targets'}",
    }


def _speak(bootstrap_servers: str, kubeconfig: Path, namespace: str) -> None:
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers)
    uvloop.run(Voices(settings, read_kubeconfig(kubeconfig), namespace).run())


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
