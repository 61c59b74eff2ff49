"""What a node takes of the machine, and gives back: a network, rules of the firewall, cgroups, a few empty folders.

Places are numbered, so that several nodes can be on one machine. Whoever has a place's lock owns it; what a dead
process left in a place is cleared by the next one that takes any. No server is started here.
"""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from streamforge_local.failures import StackError
from streamforge_local.paths import Home
from streamforge_local.stack.leftovers import sweep

PLACES = 8
RUN = Path("/run/streamforge-nodes")
"""Locks and records; gone with the next start of the machine, as is all that they are about."""
CGROUPS = Path("/sys/fs/cgroup")
API_ADDRESS = "10.96.0.1"
"""Where pods find the API server."""
HARD_CODED = ("/run/containerd", "/var/lib/kubelet", "/var/log/containers", "/var/lib/cni")
"""Folders that no setting of containerd, runc, CNI or the kubelet moves: each node sees its own there."""
FOLDER = "node"
"""A node's files, in its cluster's folder."""
CLEAR_TIMEOUT_S = 10.0
_POLL_S = 0.05
_NAT = ("iptables", "--wait", "-t", "nat")
_TCP = ("-p", "tcp")


def gateway(number: int) -> str:
    """The machine's address for the pods of a place."""
    return f"10.244.{number}.1"


@dataclass(slots=True)
class Place:
    """One of the machine's places for a node, taken by this process until ``release``."""

    number: int
    _lock: TextIO = field(repr=False)

    @property
    def bridge(self) -> str:
        """The network device that pods are connected to."""
        return f"sfkube{self.number}"

    @property
    def subnet(self) -> str:
        """Addresses of the pods."""
        return f"10.244.{self.number}.0/24"

    @property
    def gateway(self) -> str:
        """This machine as its pods see it."""
        return gateway(self.number)

    @property
    def chain(self) -> str:
        """The chain of the firewall's rules."""
        return f"SFKUBE{self.number}"

    @property
    def cgroup(self) -> str:
        """The cgroup above those of all pods."""
        return f"streamforge-kube{self.number}"

    @property
    def socket(self) -> Path:
        """Where containerd listens; a path that is never too long for a socket."""
        return RUN / f"{self.number}.sock"

    def lay(self, *, api_port: int, home: Path) -> None:
        """Make all of it.

        Args:
            api_port: The API server's port on 127.0.0.1.
            home: The cluster's folder; when this place is cleared, its processes end and the node's files go.

        Raises:
            StackError: the machine refuses.
        """
        with _alone():
            self._record.write_text(json.dumps(str(home)))
            _make_folders()
        _run("ip", "link", "add", self.bridge, "type", "bridge")
        _run("ip", "addr", "add", f"{self.gateway}/24", "dev", self.bridge)
        _run("ip", "link", "set", self.bridge, "up")
        # What comes from a pod may go to 127.0.0.1, where the servers listen.
        _write(Path(f"/proc/sys/net/ipv4/conf/{self.bridge}/route_localnet"), "1")
        local = ("-j", "DNAT", "--to-destination")
        _run(*_NAT, "-N", self.chain)
        _run(*_NAT, "-A", self.chain, "-d", API_ADDRESS, *_TCP, "--dport", "443", *local, f"127.0.0.1:{api_port}")
        _run(*_NAT, "-A", self.chain, "-d", self.gateway, *_TCP, *local, "127.0.0.1")
        _run(*_NAT, "-I", *self._jump)
        _make_cgroups(self.cgroup)

    def clear(self) -> None:
        """Undo ``lay``, also that of a process that died while it did it. Idempotent.

        Raises:
            StackError: something cannot be removed.
        """
        if not self._record.exists():
            return
        home = Path(json.loads(self._record.read_text()))
        sweep(Home.at(home))
        _try(*_NAT, "-D", *self._jump)
        _try(*_NAT, "-F", self.chain)
        _try(*_NAT, "-X", self.chain)
        _try("ip", "link", "delete", self.bridge)
        _remove_cgroups(self.cgroup)
        shutil.rmtree(home / FOLDER, ignore_errors=True)
        for file in RUN.glob(f"{self.socket.name}*"):
            file.unlink()
        with _alone():
            self._record.unlink()
            _remove_folders()

    def release(self) -> None:
        """Clear it and let others have it. Idempotent."""
        if not self._lock.closed:
            try:
                self.clear()
            finally:
                self._lock.close()

    @property
    def _record(self) -> Path:
        return RUN / f"{self.number}.json"

    @property
    def _jump(self) -> tuple[str, ...]:
        return ("PREROUTING", "-i", self.bridge, "-j", self.chain)


def take_place() -> Place:
    """The first place that nobody has and whose address no other device has; what dead processes left is cleared.

    Raises:
        StackError: all are taken, or this is not root.
    """
    taken: Place | None = None
    for number in range(PLACES):
        place = _locked(number)
        if place is None:
            continue
        place.clear()
        if taken is None and not _is_here(place.gateway):
            taken = place
        else:
            place.release()
    if taken is None:
        raise StackError(
            f"node: {PLACES} nodes are on this machine already, or others have their addresses ({gateway(0)} to "
            f"{gateway(PLACES - 1)}); end one of them"
        )
    return taken


def _is_here(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


@contextmanager
def _alone() -> Iterator[None]:
    """No other process makes or removes what the places share."""
    with (RUN / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _locked(number: int) -> Place | None:
    try:
        RUN.mkdir(mode=0o700, exist_ok=True)
        lock = (RUN / f"{number}.lock").open("a")
    except OSError as error:
        raise StackError(f"node: it needs root: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return Place(number, lock)


def _make_folders() -> None:
    missing = [folder for folder in HARD_CODED if not Path(folder).exists()]
    if missing:
        made = RUN / "folders.json"
        known = json.loads(made.read_text()) if made.exists() else []
        made.write_text(json.dumps([*known, *missing]))
    for folder in missing:
        Path(folder).mkdir(parents=True)


def _remove_folders() -> None:
    """Those that were made here, with the last node: what is mounted on them in another's namespace would go too."""
    made = RUN / "folders.json"
    if made.exists() and not list(RUN.glob("[0-9]*.json")):
        for folder in json.loads(made.read_text()):
            _remove_empty(Path(folder))
        made.unlink()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise StackError(f"node: {' '.join(command)}: {done.stderr.strip() or done.returncode}")


def _try(*command: str) -> None:
    """For what may not be there: whoever died may have come any far."""
    subprocess.run(command, capture_output=True, check=False)  # noqa: S603


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise StackError(f"node: {file} cannot be written: {error.strerror}") from error


def _hierarchies() -> list[Path]:
    """Where cgroups are: one tree with version 2, one for each controller with version 1."""
    if (CGROUPS / "cgroup.procs").exists():
        return [CGROUPS]
    return [folder for folder in CGROUPS.iterdir() if not folder.is_symlink() and (folder / "cgroup.procs").exists()]


def _make_cgroups(name: str) -> None:
    for hierarchy in _hierarchies():
        folder = hierarchy / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StackError(f"node: {folder} cannot be made: {error.strerror}") from error
        for file in ("cpuset.cpus", "cpuset.mems"):
            # Version 1 starts with none, and takes no process then.
            if (hierarchy / "tasks").exists() and (hierarchy / file).exists():
                _write(folder / file, (hierarchy / file).read_text())


def _remove_cgroups(name: str) -> None:
    deadline = time.monotonic() + CLEAR_TIMEOUT_S
    for hierarchy in _hierarchies():
        while (hierarchy / name).exists():
            for folder, _, _ in os.walk(hierarchy / name, topdown=False):
                _remove_empty(Path(folder))
            if time.monotonic() > deadline:
                raise StackError(f"node: {hierarchy / name} cannot be removed: processes are in it")
            time.sleep(_POLL_S)


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
