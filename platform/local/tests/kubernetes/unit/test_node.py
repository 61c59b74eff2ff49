"""What a node is told by its files, and why a machine is none. Nodes that run: tests/kubernetes/test_node.py."""

import json
import os
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from streamforge_local.failures import StackError
from streamforge_local.kubernetes import node, node_place
from streamforge_local.kubernetes.control_plane import ControlPlane
from streamforge_local.kubernetes.node import PROGRAMS, why_no_node, why_not_in
from streamforge_local.kubernetes.node_config import SETTINGS, Files
from streamforge_local.kubernetes.node_place import take_place


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of locks and records, in the place of the machine's, with addresses that no device has."""
    monkeypatch.setattr(node_place, "RUN", tmp_path / "run")
    monkeypatch.setattr(node_place, "gateway", lambda number: f"203.0.113.{number + 1}")
    return tmp_path / "run"


@pytest.fixture
def able(tmp_path, monkeypatch):
    """A machine that can be a node; its PATH."""
    for name in PROGRAMS:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "bridge").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(node, "CNI_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(node, "_lacking_capabilities", list)
    return tmp_path


@pytest.fixture
def place(run):
    taken = take_place()
    yield taken
    taken.release()


def test_a_machine_that_has_all_of_it_can_be_a_node(able):
    assert why_no_node() is None


def test_missing_programs_are_told_with_the_command_that_brings_them(able):
    for name in ("containerd", "ctr", "ip", "bridge"):
        (able / name).unlink()
    assert why_no_node() == (
        "a real node needs more programs: apt-get install --no-install-recommends "
        "containerd containernetworking-plugins iproute2"
    )


def test_missing_rights_are_told(able, monkeypatch):
    monkeypatch.setattr(node, "_lacking_capabilities", lambda: ["CAP_SYS_ADMIN"])
    assert why_no_node().startswith("a real node needs root with CAP_SYS_ADMIN; run the tests as root")


def test_another_system_is_told(able, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert why_no_node().startswith("a real node needs Linux")


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux'")
def test_a_user_lacks_rights_that_root_may_have(monkeypatch):
    assert set(node._lacking_capabilities()) <= set(node.CAPABILITIES)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert node._lacking_capabilities() == sorted(node.CAPABILITIES)


def test_each_taker_gets_a_place_of_its_own_and_the_first_free_one(run):
    first, second = take_place(), take_place()
    assert (first.number, second.number) == (0, 1)
    assert (first.gateway, second.subnet) == ("203.0.113.1", "10.244.1.0/24")
    first.release()
    first.release()
    third = take_place()
    assert third.number == 0
    third.release()
    second.release()


def test_a_place_whose_address_another_device_has_is_left_out(run, monkeypatch):
    monkeypatch.setattr(node_place, "gateway", lambda number: f"127.0.0.{number + 1}" if number == 0 else "203.0.113.7")
    taken = take_place()
    assert taken.number == 1
    taken.release()


def test_no_place_left_is_told(run, monkeypatch):
    monkeypatch.setattr(node_place, "PLACES", 1)
    taken = take_place()
    with pytest.raises(StackError, match="1 nodes are on this machine already"):
        take_place()
    taken.release()


def test_the_configurations_agree_with_each_other(place, tmp_path):
    folder = tmp_path / "it's"
    files = Files(folder, tmp_path / "ca.crt", tmp_path / "node.crt", tmp_path / "node.key")
    files.write(place, network_programs="/usr/lib/cni")
    containerd = tomllib.loads((folder / "containerd.toml").read_text())
    kubelet = json.loads((folder / "kubelet.yaml").read_text())
    network = json.loads((files.network / "10-bridge.conflist").read_text())
    runtime = containerd["plugins"]["io.containerd.grpc.v1.cri"]
    assert kubelet["containerRuntimeEndpoint"] == f"unix://{containerd['grpc']['address']}"
    assert runtime["cni"] == {"bin_dir": "/usr/lib/cni", "conf_dir": str(files.network)}
    assert network["plugins"][0]["bridge"] == place.bridge
    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.0.0/24", "gateway": place.gateway}]]
    assert kubelet["address"] == place.gateway
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert containerd["root"] == str(folder / "containerd")


def test_what_the_kubelet_insists_on_is_of_the_kernel_alone():
    assert all(Path(path).is_relative_to("/proc/sys") for path in SETTINGS)


def test_a_cluster_without_a_node_says_so(tmp_path):
    with closing(ControlPlane(tmp_path)) as cluster:
        with pytest.raises(StackError, match="has none; make it with node=True"):
            _ = cluster.node
        with pytest.raises(StackError, match="has none; make it with node=True"):
            cluster.load_image(tmp_path / "x.tar")


def test_a_node_that_cannot_be_is_told_before_anything_is_made(tmp_path, able):
    (able / "runc").unlink()
    with pytest.raises(StackError, match=r"node: a real node needs .* install --no-install-recommends runc"):
        ControlPlane(tmp_path / "cluster", node=True)
    assert not (tmp_path / "cluster").exists()


def test_a_folder_with_a_path_too_long_for_sockets_is_refused_before_anything_is_made(able):
    longest = Path("/", "x" * (107 - len("//node/kubelet/pod-resources/kubelet.sock")))
    assert why_not_in(longest) is None
    with pytest.raises(StackError, match=r"node: the path of /x*y is 1 bytes too long for the sockets below it; use"):
        ControlPlane(Path(f"{longest}y"), node=True)
    assert not Path(f"{longest}y").exists()
