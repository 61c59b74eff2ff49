"""A real node on this machine: containerd and a kubelet, in a mount and a PID namespace of their own.

Pods are real processes here: exit codes, signals, limits of memory, logs. They have a network of their own, in which
this machine's 127.0.0.1:PORT is GATEWAY:PORT and the API server is 10.96.0.1:443; there are no Services, no names and
no way to other machines. Ending the first process of the namespaces ends every container and every mount.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from streamforge_local.failures import StackError
from streamforge_local.kafka.security import write_secret
from streamforge_local.kubernetes import node_init
from streamforge_local.kubernetes.images import Config, Layer, write_image
from streamforge_local.kubernetes.kubeconfig import write_kubeconfig
from streamforge_local.kubernetes.node_config import PAUSE_IMAGE, PORT, SETTINGS, Files
from streamforge_local.kubernetes.node_place import FOLDER, HARD_CODED, Place, take_place
from streamforge_local.kubernetes.pki import Authority
from streamforge_local.kubernetes.programs import APISERVER, CONTROL_PLANE, KUBELET, PAUSE, find_programs
from streamforge_local.kubernetes.servers import PROBE_TIMEOUT_S, Layout
from streamforge_local.paths import MAX_SOCKET_PATH
from streamforge_local.stack.parts import Launch

NODE = "node"
"""Its name: as a part, and in the cluster."""
NODE_PROGRAMS = (KUBELET, PAUSE)
DEADLINE_S = 60.0
IMPORT_TIMEOUT_S = 120.0
CNI_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "mount": "mount",
    "unshare": "util-linux",
}
"""What must be on the machine -> the package that brings it (Debian's names)."""
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
"""Bits of linux/capability.h."""


def why_no_node() -> str | None:
    """Why this machine cannot be a node, and what to do, in one sentence; None: it can."""
    if sys.platform != "linux":
        return "a real node needs Linux; here pods are played by kwok alone"
    if lacking := _lacking_capabilities():
        return f"a real node needs root with {' and '.join(lacking)}; run the tests as root, in a privileged container"
    packages = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if _cni_folder() is None:
        packages.add("containernetworking-plugins")
    if packages:
        missing = " ".join(sorted(packages))
        return f"a real node needs more programs: apt-get install --no-install-recommends {missing}"
    return None


def why_not_in(folder: Path) -> str | None:
    """Why a node's cluster cannot have its files there, in one sentence; None: it can.

    The kubelet binds sockets below it, and where it cannot it says nothing and ends.
    """
    longest = folder / FOLDER / KUBELET / "pod-resources" / "kubelet.sock"
    excess = len(os.fsencode(longest)) - MAX_SOCKET_PATH
    if excess <= 0:
        return None
    return f"the path of {folder} is {excess} bytes too long for the sockets below it; use a shorter one"


def _lacking_capabilities() -> list[str]:
    if os.geteuid() != 0:
        return sorted(CAPABILITIES)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    effective = int(line.split()[1], 16)
    return [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]


def _cni_folder() -> str | None:
    return next((folder for folder in CNI_FOLDERS if Path(folder, "bridge").exists()), None)


@dataclass(slots=True)
class Node:
    """The node of a cluster, a part in the stack's sense. It takes a place on the machine when it first starts."""

    layout: Layout
    authority: Authority
    client: httpx.Client = field(repr=False)
    """Calls the API server as the admin."""
    name: str = NODE
    deadline_s: float = DEADLINE_S
    ports: tuple[int, ...] = ()
    _place: Place | None = field(default=None, init=False)

    @property
    def place(self) -> Place:
        """Where it is on the machine.

        Raises:
            StackError: it has not been started.
        """
        if self._place is None:
            raise StackError("node: it has not been started")
        return self._place

    @property
    def address(self) -> str:
        """The kubelet's."""
        return f"https://{self.place.gateway}:{PORT}"

    def prepare(self) -> Launch:
        """Take a place, write what the programs read."""
        programs = find_programs((*CONTROL_PLANE, *NODE_PROGRAMS))
        if self._place is None:
            self._place = take_place()
            self._place.lay(api_port=self.layout.ports[APISERVER], home=self.layout.folder)
        pki = self.layout.pki
        files = Files(self.layout.folder / FOLDER, pki("ca.crt"), pki(f"{NODE}.crt"), pki(f"{NODE}.key"))
        files.write(self.place, network_programs=_cni_folder() or "")
        self._certify(files)
        plan = files.folder / "plan.json"
        plan.write_text(json.dumps(self._plan(files, programs)))
        namespaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        return Launch((*namespaces, sys.executable, "-I", "-S", node_init.__file__, str(plan)))

    def is_ready(self) -> bool:
        """The API server reaches the kubelet, which is well."""
        try:
            path = f"/api/v1/nodes/{NODE}/proxy/healthz"
            return self.client.get(path, timeout=PROBE_TIMEOUT_S).is_success
        except httpx.TransportError:
            return False

    def environment(self) -> dict[str, str]:
        """Nothing: pods are told by their manifests."""
        return {}

    def load_image(self, archive: Path) -> None:
        """Give the node an image (docker-archive), so that its pods need no registry; one of that name is replaced.

        Raises:
            StackError: containerd does not take it.
        """
        try:
            done = subprocess.run(  # noqa: S603
                self._import(archive), capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise StackError(f"node: {archive} is not imported after {IMPORT_TIMEOUT_S:g} s") from error
        if done.returncode != 0:
            raise StackError(f"node: {archive} cannot be imported: {done.stderr.strip()}")

    def close(self) -> None:
        """Give the machine back what it took. Idempotent; to be called when its process has ended."""
        if self._place is not None:
            self._place.release()

    def _plan(self, files: Files, programs: Path) -> Mapping[str, object]:
        kubelet = [
            str(programs / KUBELET),
            f"--config={files.folder / 'kubelet.yaml'}",
            f"--kubeconfig={self.layout.config(NODE)}",
            f"--root-dir={files.folder / 'kubelet'}",
            f"--hostname-override={NODE}",
            f"--node-ip={self.place.gateway}",
        ]
        commands = {
            "containerd": ["containerd", f"--config={files.folder / 'containerd.toml'}"],
            "pause": self._import(_pause_image(files.folder, programs)),
            "kubelet": kubelet,
        }
        own = {"folder": str(files.folder), "own": HARD_CODED, "settings": SETTINGS}
        return {**own, "log": str(self.layout.folder / "log"), "commands": commands}

    def _import(self, archive: Path) -> list[str]:
        return ["ctr", f"--address={self.place.socket}", "--namespace=k8s.io", "images", "import", str(archive)]

    def _certify(self, files: Files) -> None:
        """One certificate for the kubelet as a server, and as a client of the API server."""
        user = f"system:node:{NODE}"
        pair = self.authority.issue(user, groups=["system:nodes"], hosts=[self.place.gateway, NODE])
        write_secret(files.certificate, pair.public)
        write_secret(files.key, pair.private)
        write_kubeconfig(self.layout.config(NODE), self.layout.access(self.authority, user, pair))


def _pause_image(folder: Path, programs: Path) -> Path:
    layer = folder / "pause-layer.tar"
    with Layer(layer) as made:
        made.add(programs / PAUSE, "/pause")
    return write_image(folder / "pause.tar", [PAUSE_IMAGE], [layer], Config(entrypoint=["/pause"]))
