"""Where Kubernetes' programs are: KUBEBUILDER_ASSETS, else the user's cache, else built once from Go modules.

The modules' names, versions and hashes lie beside this file in ``modules``; from where Go fetches them is Go's own
setting. Mixed versions would not be one cluster, so a folder is taken when it holds all that is asked for, or not.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from streamforge_local.failures import StackError
from streamforge_local.kafka.jars import locked
from streamforge_local.paths import cache_folder

ASSETS = "KUBEBUILDER_ASSETS"
ETCD, APISERVER, CONTROLLERS, SCHEDULER = "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"
CONTROL_PLANE = (ETCD, APISERVER, CONTROLLERS, SCHEDULER)
KWOK = "kwok"
KUBELET, PAUSE = "kubelet", "pause"
S3 = "versitygw"
BUILD_TIMEOUT_S = 3600
_LAST_LINES = 3
_INSTALL = f"or set {ASSETS} to a folder that holds the programs"


@dataclass(frozen=True, slots=True)
class Source:
    """What a program is built from: a folder of ``modules`` and a Go package, which may lie in it."""

    module: str
    package: str


SOURCES = {
    ETCD: Source("kubernetes", "go.etcd.io/etcd/server/v3"),
    APISERVER: Source("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    CONTROLLERS: Source("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    SCHEDULER: Source("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubectl": Source("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    KUBELET: Source("kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
    # The module's own.
    PAUSE: Source("kubernetes", "./pause"),
    # A module of its own: it pins other versions of Kubernetes' libraries.
    KWOK: Source("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    # No part of a cluster: a server of S3 over a folder, for logs that are kept there.
    S3: Source("versitygw", "github.com/versity/versitygw/cmd/versitygw"),
}


def module_folder(name: str) -> Path:
    """Where the go.mod of a module is. Go reads it there and never writes."""
    return Path(str(resources.files(__package__).joinpath("modules", name)))


def kubernetes_version() -> str:
    """The version that go.mod names, like ``v1.34.4``."""
    return _named_in(module_folder("kubernetes") / "go.mod", r"^\s*k8s\.io/kubernetes (v[\d.]+)$")


def programs_folder(cache: Path | None = None) -> Path:
    """Where this version lives in the cache."""
    return (cache or cache_folder()) / f"kube-{kubernetes_version()}"


def find_programs(names: Iterable[str], *, cache: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds all the programs; those that are missing are built, which takes minutes.

    Args:
        names: Programs, keys of ``SOURCES``.
        cache: The cache's folder, by default the user's.
        environ: Where KUBEBUILDER_ASSETS may be set.

    Raises:
        StackError: an unknown program, Go is missing or too old, or a build failed.
    """
    wanted = tuple(names)
    if unknown := sorted(set(wanted) - set(SOURCES)):
        raise StackError(f"kubernetes: no program {', '.join(unknown)}; there are {', '.join(SOURCES)}")
    if assets := environ.get(ASSETS):
        lacking = _lacking(Path(assets), wanted)
        if not lacking:
            return Path(assets)
        _say(f"{ASSETS}={assets} lacks {', '.join(lacking)}; not used")
    folder = programs_folder(cache)
    if _lacking(folder, wanted):
        with locked(folder):
            for name in _lacking(folder, wanted):
                _build(name, folder)
    return folder


def _lacking(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not os.access(folder / name, os.X_OK)]


def _build(name: str, folder: Path) -> None:
    module = module_folder(SOURCES[name].module)
    go = _go(module)
    new = folder / f"{name}.new"
    flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", _link_flags(kubernetes_version())]
    _say(f"building {name} in {folder} (minutes when Go's cache is cold)")
    begin = time.monotonic()
    command = [go, "build", *flags, "-o", str(new), SOURCES[name].package]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=module, env=environment, capture_output=True, timeout=BUILD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"kubernetes: building {name} took more than {BUILD_TIMEOUT_S} s; start again") from error
    if done.returncode != 0:
        words = _last_lines((done.stderr or done.stdout).decode(errors="replace"))
        raise StackError(f"kubernetes: {name} cannot be built with {go}: {words}; correct that, {_INSTALL}")
    new.replace(folder / name)
    megabytes = (folder / name).stat().st_size // 1_000_000
    _say(f"{name} took {time.monotonic() - begin:.0f} s, {megabytes} MB")


def _go(module: Path) -> str:
    """The Go command, which is new enough for the module."""
    needed = _named_in(module / "go.mod", r"^go ([\d.]+)$")
    go = shutil.which("go")
    if go is None:
        raise StackError(f"kubernetes: its programs are built with Go, which is missing; install {needed}, {_INSTALL}")
    # Asked in the module's folder, a Go that may fetch a newer one of itself names that one.
    asked = subprocess.run([go, "version"], cwd=module, capture_output=True, text=True, check=False)  # noqa: S603
    found = re.search(r"\bgo(\d+(?:\.\d+)*)", asked.stdout)
    if found is None:
        raise StackError(f"kubernetes: {go} does not run: {_last_lines(asked.stderr)}; install Go {needed}, {_INSTALL}")
    if _numbers(found[1]) < _numbers(needed):
        raise StackError(f"kubernetes: {go} is Go {found[1]}, too old; install {needed} or newer, {_INSTALL}")
    return go


def _link_flags(version: str) -> str:
    """Without a stamp the server calls itself v0.0.0-master, and clients' checks of its version go wrong."""
    major, minor = version.removeprefix("v").split(".")[:2]
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    stamps = [f"-X {package}.{name}={value}" for package in packages for name, value in values.items()]
    return " ".join(["-s", "-w", *stamps])


def _named_in(file: Path, pattern: str) -> str:
    found = re.search(pattern, file.read_text(), re.MULTILINE)
    if found is None:
        raise StackError(f"kubernetes: {file} names no version; restore it from the repository")
    return found[1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("go: downloading")]
    return " | ".join(lines[-_LAST_LINES:]) or "it said nothing"


def _say(line: str) -> None:
    print(f"kubernetes: {line}", file=sys.stderr, flush=True)
