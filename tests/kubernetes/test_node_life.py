"""A real node takes nothing of the machine that it does not give back, however it ends."""

import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from streamforge_local.kubernetes import node_place
from streamforge_local.kubernetes.control_plane import ControlPlane
from streamforge_local.kubernetes.node_config import PAUSE_IMAGE, SETTINGS
from streamforge_local.paths import Home
from streamforge_local.stack.leftovers import leftovers

WITHIN_S = 60
DIES = """
import sys, time
from pathlib import Path
from streamforge_local.kubernetes.control_plane import ControlPlane
cluster = ControlPlane(Path(sys.argv[1]), node=True)
cluster.start()
cluster.wait_ready()
print(cluster.gateway, flush=True)
time.sleep(600)
"""


pytestmark = pytest.mark.usefixtures("able_machine")


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def machine():
    """All of the machine that a node could change."""
    kernel = {*SETTINGS, "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/route_localnet"}
    links = said("ip", "-brief", "link").splitlines()
    return {
        "links": {line.split()[0].partition("@")[0] for line in links},
        "rules": [line for line in said("iptables", "-t", "nat", "-S").splitlines() if "KUBE" in line],
        "filters": said("iptables", "-t", "filter", "-S"),
        "mounts": {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()},
        "kernel": {path: Path(path).read_text() for path in kernel if Path(path).exists()},
        "cgroups": {path.name for tree in node_place._hierarchies() for path in tree.glob("*kube*")},
        "folders": {folder for folder in (*node_place.HARD_CODED, "/opt/containerd") if Path(folder).exists()},
    }


def test_a_machine_is_as_before_when_its_node_has_ended(tmp_path):
    before = machine()
    with closing(ControlPlane(tmp_path, node=True)) as cluster:
        cluster.start()
        cluster.wait_ready()
        assert machine()["links"] > before["links"]
    assert machine() == before
    assert leftovers(Home.at(tmp_path)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]
    assert {"containerd.log", "kubelet.log", "node.log"} <= {path.name for path in (tmp_path / "log").iterdir()}


def test_what_a_killed_run_left_is_cleared_by_the_next_one(tmp_path):
    before = machine()
    run = subprocess.Popen([sys.executable, "-c", DIES, tmp_path / "one"], stdout=subprocess.PIPE, text=True)
    try:
        gateway = run.stdout.readline().strip()
        assert gateway.startswith("10.244.")
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
    assert machine() != before
    with closing(ControlPlane(tmp_path / "two", node=True)) as cluster:
        cluster.start()
        assert cluster.gateway == gateway
        assert not (tmp_path / "one/node").exists()
    assert machine() == before


def waiting(image):
    """A Job whose pod runs until it is told to end."""
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}
    return {"metadata": {"name": "waits"}, "spec": {"backoffLimit": 2, "template": {"spec": spec}}}


def pods(cluster, namespace):
    """Name -> phase."""
    found = cluster.api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    return {pod["metadata"]["name"]: pod["status"]["phase"] for pod in found}


def until(look, holds):
    deadline = time.monotonic() + WITHIN_S
    while not holds(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_a_node_that_dies_comes_back_with_its_images_and_tells_which_pods_died_with_it(tmp_path):
    with closing(ControlPlane(tmp_path, node=True)) as cluster:
        cluster.start()
        cluster.wait_ready()
        namespace = cluster.new_namespace()
        cluster.api.post(f"/apis/batch/v1/namespaces/{namespace}/jobs", waiting(PAUSE_IMAGE))
        (first,) = until(lambda: pods(cluster, namespace), lambda found: "Running" in found.values())
        cluster.node.kill()
        cluster.start()
        cluster.wait_ready()
        last = until(lambda: pods(cluster, namespace), lambda found: len(found) == 2 and "Running" in found.values())
        assert last[first] == "Failed"
