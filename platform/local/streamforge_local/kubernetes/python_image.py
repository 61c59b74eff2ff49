"""The image in which every worker runs on the tests' node, made of this environment: its Python, its packages.

Nothing is fetched or installed. The interpreter lies at /usr/local, the packages of the workers (with all that they
depend on, and nothing of the tests and tools) at PACKAGES, the shared libraries where the loader looks for them. The
folders of this machine (a home that only its owner may read) mean nothing in it. It has no shell: commands are
``python -m <package>``. Needs glibc. Images for the world are not made here.
"""

import importlib.util
import os
import py_compile
import re
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from json import loads
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

from streamforge_local.failures import StackError
from streamforge_local.kubernetes.images import Config, Layer, write_image
from streamforge_local.paths import repository_root

PACKAGES = "/opt/streamforge"
WORKER_PACKAGES = ("aiokafka[lz4,zstd]",)
"""What the environment's lock gives the workers beside what their own packages name."""
USER = 10_001
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
ENV = {
    "PATH": "/usr/local/bin",
    "PYTHONPATH": PACKAGES,
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "LANG": "C.UTF-8",
    "SSL_CERT_FILE": BUNDLE,
}
_NOT_IN_STDLIB = {"site-packages", "dist-packages", "test", "idlelib", "turtledemo", "tkinter", "ensurepip", "lib2to3"}
_NOT_IN_DYNLOAD = re.compile(r"_tkinter|_test|_ctypes_test|_xx|xx")
_SYSTEM = re.compile(r"/(usr/)?lib(32|64)?/")
_NEEDED = re.compile(r"^\s+(?:(?P<name>\S+) => )?(?P<file>/\S+) \(0x", re.MULTILINE)
_LOADED_BY_NAME = ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1")
"""glibc opens them when they are needed; no program names them."""
_REQUIREMENT = re.compile(r"\s*(?P<name>[\w.-]+)\s*(?:\[(?P<extras>[^\]]*)\])?[^;]*(?:;(?P<marker>.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)""")
_PYC_HEADER = 16


def worker_image(
    path: Path,
    *,
    names: Sequence[str] | None = None,
    packages: Sequence[str] | None = None,
    files: Mapping[Path, str] | None = None,
) -> Path:
    """Write the image; takes some seconds.

    Args:
        path: The tar to write.
        names: Names of the image, by default those that the targets of this checkout name.
        packages: Distributions of this environment (with extras, if need be) that are in it with all their
            dependencies; by default the targets' own.
        files: More of it: a file or folder of this machine -> its path in the image.

    Raises:
        StackError: a distribution is not installed, or the machine has no ``ldd``.
    """
    targets = target_packages()
    if packages is None:
        packages = (*targets.values(), *WORKER_PACKAGES)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        base, more = Path(folder) / "base.tar", Path(folder) / "more.tar"
        with Layer(base) as layer:
            _furnish(layer)
            _put_python(layer, packages)
        with Layer(more) as layer:
            for source, target in (files or {}).items():
                layer.tree(source, target)
        return write_image(path, names or list(targets), [base, more], Config(env=ENV, user=f"{USER}:{USER}"))


def target_packages() -> dict[str, str]:
    """Image -> distribution of every target of this checkout."""
    found = {}
    for file in sorted((repository_root() / "services").glob("*/target.yaml")):
        image: str = yaml.safe_load(file.read_text())["image"]
        found[image] = tomllib.loads((file.parent / "pyproject.toml").read_text())["project"]["name"]
    return found


# -- the root file system ----------------------------------------------------------------------------------------------


def _furnish(layer: Layer) -> None:
    """What libraries expect of any Linux."""
    layer.folder("/tmp", mode=0o1777)  # noqa: S108 - of the image
    for folder in ("/etc", "/proc", "/sys", "/dev", "/run", "/var", "/data"):
        layer.folder(folder)
    users = f"root:x:0:0:root:/root:\nworker:x:{USER}:{USER}:worker:/tmp:\n"
    layer.write("/etc/passwd", users.encode())
    layer.write("/etc/group", f"root:x:0:\nworker:x:{USER}:\n".encode())
    layer.write("/etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    bundle = ssl.get_default_verify_paths().cafile or _certifi()
    if bundle is not None:
        layer.add(Path(bundle), BUNDLE)


def _certifi() -> str | None:
    found = importlib.util.find_spec("certifi")
    return str(Path(found.origin).with_name("cacert.pem")) if found is not None and found.origin else None


def _put_python(layer: Layer, packages: Sequence[str]) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = Path(sys.base_prefix, "bin", version).resolve()
    layer.add(interpreter, f"/usr/local/bin/{version}")
    for name in ("python", "python3"):
        layer.link(f"/usr/local/bin/{name}", version)
    files = {*_standard_library(f"/usr/local/{sys.platlibdir}/{version}"), *_package_files(packages)}
    for source, target in sorted(files):
        layer.add(source, target)
        if source.suffix == ".py" and (compiled := _compiled(source)) is not None:
            cached = Path(importlib.util.cache_from_source(target))
            layer.write(str(cached), compiled)
    native = [source for source, _ in files if ".so" in source.name]
    for target, file in shared_libraries([interpreter, *native]).items():
        layer.add(file, target)


def _standard_library(target: str) -> Iterator[tuple[Path, str]]:
    source = Path(sysconfig.get_path("stdlib"))
    for entry in source.iterdir():
        # config-*: what one needs to embed the interpreter
        if entry.name not in _NOT_IN_STDLIB and not entry.name.startswith("config-"):
            for file, inside in _files(entry, f"{target}/{entry.name}"):
                if entry.name != "lib-dynload" or not _NOT_IN_DYNLOAD.match(file.name):
                    yield file, inside


def _files(source: Path, target: str) -> Iterator[tuple[Path, str]]:
    """All files of a folder (or the file itself) but compiled ones."""
    if source.is_file():
        yield source, target
    elif source.is_dir() and source.name != "__pycache__":
        for entry in source.iterdir():
            yield from _files(entry, f"{target}/{entry.name}")


def _compiled(source: Path) -> bytes | None:
    """What Python would cache of a source: the cache's own if it is of this very source, else made."""
    status, cached = source.stat(), Path(importlib.util.cache_from_source(str(source)))
    stamp = b"".join((number & 0xFFFFFFFF).to_bytes(4, "little") for number in (int(status.st_mtime), status.st_size))
    header = importlib.util.MAGIC_NUMBER + bytes(4) + stamp
    if cached.is_file() and (data := cached.read_bytes())[:_PYC_HEADER] == header:
        return data
    with tempfile.NamedTemporaryFile(suffix=".pyc") as made:
        mode = py_compile.PycInvalidationMode.TIMESTAMP
        try:
            py_compile.compile(str(source), cfile=made.name, doraise=True, invalidation_mode=mode)
        except py_compile.PyCompileError:
            return None  # a template of one, not a module
        return Path(made.name).read_bytes()


# -- packages ----------------------------------------------------------------------------------------------------------


def _package_files(packages: Iterable[str]) -> Iterator[tuple[Path, str]]:
    for found in dependencies(packages):
        for file in found.files or ():
            is_data = ".." not in file.parts and "__pycache__" not in file.parts and file.suffix != ".pth"
            if is_data and (path := Path(str(file.locate()))).is_file():
                yield path, f"{PACKAGES}/{file}"
        for package in _editable(found):
            yield from _files(package, f"{PACKAGES}/{package.name}")


def dependencies(packages: Iterable[str]) -> list[Distribution]:
    """Distributions and all that they depend on, as installed.

    Raises:
        StackError: one that is asked for is not installed.
    """
    found: dict[str, Distribution] = {}
    waiting = [(text, True) for text in packages]
    seen: set[str] = set()
    while waiting:
        text, is_needed = waiting.pop()
        parts = _REQUIREMENT.match(text)
        if text in seen or parts is None:
            continue
        seen.add(text)
        try:
            one = distribution(parts["name"])
        except PackageNotFoundError as error:
            if is_needed:
                raise StackError(f"kubernetes: {parts['name']} is not installed here; run `make`'s .venv") from error
            continue  # its marker says that it is not for this machine
        found[one.name.lower()] = one
        extras = {extra.strip() for extra in (parts["extras"] or "").split(",")}
        for requirement in one.requires or ():
            only_for = _EXTRA.findall(requirement)
            if not only_for or extras & set(only_for):
                waiting.append((requirement, False))
    return list(found.values())


def _editable(found: Distribution) -> list[Path]:
    """The packages of a distribution that is installed as a link to its source."""
    direct = loads(found.read_text("direct_url.json") or "{}")
    if not direct.get("dir_info", {}).get("editable"):
        return []
    folder = Path(unquote(urlsplit(direct["url"]).path))
    wheel = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    return [folder / package for package in wheel["packages"]]


# -- shared libraries --------------------------------------------------------------------------------------------------


def shared_libraries(programs: Sequence[Path]) -> dict[str, Path]:
    """Path in the image -> file of all libraries that programs and libraries need, the loader too.

    Libraries among ``programs`` (what wheels bring along) are found by the paths that are in the wheels.

    Raises:
        StackError: there is no ``ldd``, which names them.
    """
    try:
        done = subprocess.run(  # noqa: S603
            ["ldd", *map(str, programs)],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise StackError("kubernetes: images are made with ldd, which is missing; install libc-bin") from error
    needed = {(found["name"] or found["file"], Path(found["file"])) for found in _NEEDED.finditer(done.stdout)}
    near = next((str(file.parent) for name, file in needed if name.startswith("libc.so")), "/lib")
    own = {program.resolve() for program in programs}
    libraries = {}
    for name, file in sorted(needed):
        if file.resolve() not in own:
            libraries[str(file) if _SYSTEM.match(str(file)) else f"{near}/{Path(name).name}"] = file
    for name in _LOADED_BY_NAME:
        if (file := Path(near, name)).is_file():
            libraries[str(file)] = file
    return libraries
