"""What a node's programs read: configurations of the kubelet, of containerd and of the pods' network. Pure."""

import json
from dataclasses import dataclass
from pathlib import Path

from streamforge_local.kubernetes.node_place import Place

PAUSE_IMAGE = "streamforge.invalid/pause:1"
PORT = 10_250
"""The kubelet's."""
SETTINGS = {
    "/proc/sys/vm/overcommit_memory": "1",
    "/proc/sys/vm/panic_on_oom": "0",
    "/proc/sys/kernel/panic": "10",
    "/proc/sys/kernel/panic_on_oops": "1",
    "/proc/sys/kernel/keys/root_maxkeys": "1000000",
    "/proc/sys/kernel/keys/root_maxbytes": "25000000",
}
"""What the kubelet insists on (``setupKernelTunables`` in k8s.io/kubernetes/pkg/kubelet/cm)."""
_UNUSED = ("aufs", "btrfs", "zfs", "devmapper")


@dataclass(frozen=True, slots=True)
class Files:
    """Where a node keeps what."""

    folder: Path
    authority: Path
    certificate: Path
    key: Path

    @property
    def network(self) -> Path:
        """Folder of the configuration of the pods' network."""
        return self.folder / "network"

    def write(self, place: Place, *, network_programs: str) -> None:
        """Write all configurations."""
        for folder in (self.network, self.folder / "kubelet"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.network / "10-bridge.conflist").write_text(json.dumps(network(place)))
        # JSON is YAML.
        (self.folder / "kubelet.yaml").write_text(json.dumps(kubelet(place, self), indent=1))
        (self.folder / "containerd.toml").write_text(containerd(place, self, network_programs))


def network(place: Place) -> dict[str, object]:
    """The pods' network (CNI 0.4): a bridge that is there already. As its gateway the plugin would set ip_forward."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": place.subnet, "gateway": place.gateway}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": place.bridge, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "streamforge", "plugins": [bridge]}


def kubelet(place: Place, files: Files) -> dict[str, object]:
    """KubeletConfiguration v1beta1: authenticated, and no part of the machine is its own."""
    limits = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": place.gateway,
        "port": PORT,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(files.authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(files.certificate),
        "tlsPrivateKeyFile": str(files.key),
        "containerRuntimeEndpoint": f"unix://{place.socket}",
        "podLogsDir": str(files.folder / "pod-logs"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        # What else fills the machine is not for the node to mend.
        "evictionHard": dict.fromkeys(limits, "0%"),
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        # Less needs CAP_SYS_RESOURCE.
        "oomScoreAdj": 0,
        "maxPods": 200,
        "nodeStatusUpdateFrequency": "2s",
        # Nobody answers there: whoever asks for a name is refused at once.
        "clusterDNS": [place.gateway],
        "clusterDomain": "cluster.local",
    }


def containerd(place: Place, files: Files, network_programs: str) -> str:
    """Configuration of containerd (version 2: containerd 1.3 to 2)."""
    disabled = json.dumps([f"io.containerd.snapshotter.v1.{kind}" for kind in _UNUSED])
    # apparmor: its profile would stay in the machine's kernel. oom_score_adj: runc cannot lower it without
    # CAP_SYS_RESOURCE.
    return f"""version = 2
root = {_quoted(files.folder / "containerd")}
state = "/run/containerd/state"
disabled_plugins = {disabled}
[grpc]
  address = {_quoted(place.socket)}
[plugins."io.containerd.internal.v1.opt"]
  path = {_quoted(files.folder / "opt")}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {_quoted(network_programs)}
    conf_dir = {_quoted(files.network)}
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def _quoted(text: str | Path) -> str:
    """A basic string of TOML is one of JSON."""
    return json.dumps(str(text))
