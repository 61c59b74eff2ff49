"""Where the embedded stack keeps its files. Decides names only; nothing here is created on import."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

MAX_SOCKET_PATH = 107
"""Bytes of a unix socket's path; the kernel's 108 are with the closing NUL (unix(7))."""


def repository_root() -> Path:
    """The checkout that this package is installed from."""
    return Path(__file__).resolve().parents[3]


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/streamforge`` (XDG base directory specification), shared by all checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "streamforge"


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one stack: ``.streamforge`` of the checkout, or what ``STREAMFORGE_HOME`` names."""

    root: Path

    @classmethod
    def at(cls, folder: Path) -> "Home":
        """The home in a folder, by its absolute path: processes are marked with it."""
        return cls(folder.resolve())

    @classmethod
    def from_environment(cls) -> "Home":
        """The home that the environment names, else the checkout's."""
        named = os.environ.get("STREAMFORGE_HOME")
        return cls.at(Path(named) if named else repository_root() / ".streamforge")

    @property
    def data(self) -> Path:
        """What lives across ``down`` and ``up``; one folder a part."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """One file a part, rotated by size."""
        return self.root / "logs"

    @property
    def ports(self) -> Path:
        """The ports of this data, the same for as long as it lives."""
        return self.data / "ports.json"

    @property
    def cluster(self) -> Path:
        """What was published in which cluster, as long as the data lives; JSON."""
        return self.data / "cluster.json"

    @property
    def lock(self) -> Path:
        """Locked by the supervisor that runs; holds its process id."""
        return self.root / "supervisor.lock"

    @property
    def state(self) -> Path:
        """What the supervisor says of itself, JSON."""
        return self.root / "state.json"

    @property
    def local_env(self) -> Path:
        """Addresses and credentials for every client."""
        return self.root / "local.env"

    @property
    def secrets(self) -> Path:
        """The user's values of targets' secrets; never written or removed here."""
        return self.root / "secrets.env"

    @property
    def node_socket(self) -> Path:
        """The local node's unix socket; outside the home when its path would be too long for one."""
        path = self.root / "node.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"streamforge-{os.getuid()}-{name}" / "node.sock"
