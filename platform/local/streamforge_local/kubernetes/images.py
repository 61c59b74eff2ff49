"""Image tars without a daemon, a registry or a Dockerfile: layers of files, and the archive that containerd imports.

The form is that of ``docker save`` (docker-archive): a manifest, a configuration, layers as tars. What is put into an
image is not decided here.
"""

import hashlib
import io
import json
import platform
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from streamforge_local.failures import StackError

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
"""This machine's word -> that of images (GOARCH)."""
_FOLDER, _FILE, _PROGRAM = 0o755, 0o644, 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How containers of an image start."""

    entrypoint: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


class Layer:
    """A tar of files that all belong to root and that all may read; folders above a file come by themselves.

    What is there already is not put in again. Times are kept to the second: compiled Python files name their source's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tar = tarfile.open(path, "w")
        self._there: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()

    def folder(self, target: str, *, mode: int = _FOLDER) -> None:
        """An empty folder."""
        if self._is_new(target):
            info = self._info(target, mode)
            info.type = tarfile.DIRTYPE
            self._tar.addfile(info)

    def link(self, target: str, leads_to: str) -> None:
        """A symbolic link."""
        if self._is_new(target):
            info = self._info(target, 0o777)
            info.type, info.linkname = tarfile.SYMTYPE, leads_to
            self._tar.addfile(info)

    def write(self, target: str, data: bytes, *, mode: int = _FILE, mtime: int = 0) -> None:
        """A file with this content."""
        if self._is_new(target):
            info = self._info(target, mode)
            info.size, info.mtime = len(data), mtime
            self._tar.addfile(info, io.BytesIO(data))

    def add(self, source: Path, target: str) -> None:
        """A file of this machine; of a link what it leads to."""
        if self._is_new(target):
            status = source.stat()
            info = self._info(target, _PROGRAM if status.st_mode & 0o111 else _FILE)
            info.size, info.mtime = status.st_size, int(status.st_mtime)
            with source.open("rb") as file:
                self._tar.addfile(info, file)

    def tree(self, source: Path, target: str, *, is_wanted: Callable[[Path], bool] = lambda _: True) -> None:
        """A folder of this machine, or a single file; ``is_wanted`` is asked for every file and folder in it."""
        if source.is_file():
            self.add(source, target)
            return
        self.folder(target)
        for entry in sorted(source.iterdir()):
            if is_wanted(entry):
                self.tree(entry, f"{target}/{entry.name}", is_wanted=is_wanted)

    def _is_new(self, target: str) -> bool:
        path = PurePosixPath("/", target)
        if str(path) in self._there:
            return False
        self._there.add(str(path))
        if path.parent != path:
            self.folder(str(path.parent))
        return True

    def _info(self, target: str, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(str(PurePosixPath("/", target)).lstrip("/") or ".")
        info.mode = mode
        info.uname = info.gname = "root"
        return info


def write_image(path: Path, names: Sequence[str], layers: Sequence[Path], config: Config) -> Path:
    """Write an image of layers, lowest first, under one or more names; the path is returned.

    Raises:
        StackError: images of this machine's architecture are not known.
    """
    diffs = [_digest(layer) for layer in layers]
    document = json.dumps(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": list(config.entrypoint) or None,
                "Env": [f"{name}={value}" for name, value in config.env.items()],
                "User": config.user,
                "WorkingDir": "/",
            },
            # Some readers count: an entry for each layer.
            "history": [{"created_by": "streamforge"}] * len(layers),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in diffs]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(document).hexdigest()}.json"
    files = [f"{digest}/layer.tar" for digest in diffs]
    manifest = [{"Config": config_name, "RepoTags": list(names), "Layers": files}]
    new = path.with_name(f"{path.name}.new")
    with Layer(new) as image:
        image.write(config_name, document)
        for layer, file in zip(layers, files, strict=True):
            image.add(layer, file)
        image.write("manifest.json", json.dumps(manifest).encode())
    return Path(shutil.move(new, path))


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _architecture() -> str:
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise StackError(f"kubernetes: no images for {machine}; there are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[machine]
