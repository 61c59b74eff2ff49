"""Kafka's jars: fetched once by Maven coordinates, verified, shared by every checkout. Starts no broker.

The sums in ``jars.sha256`` decide: a jar that differs is never run, whoever served it.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from rich.console import Console

from streamforge_local.failures import StackError
from streamforge_local.paths import cache_folder

VERSION = "4.2.0"
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{VERSION}",
    # Unnamed, the resolver takes an older one and the broker cannot start.
    f"org.apache.kafka:kafka-clients:{VERSION}",
    "org.slf4j:slf4j-api:2.0.17",
    "org.apache.logging.log4j:log4j-slf4j2-impl:2.25.2",
)
FETCH_TIMEOUT_S = 900


def pinned_sums() -> dict[str, str]:
    """Name of a jar -> its SHA-256, as ``sha256sum`` prints them."""
    lines = resources.files(__package__).joinpath("jars.sha256").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def kafka_folder(cache: Path | None = None) -> Path:
    """Where this version lives in the cache."""
    return (cache or cache_folder()) / f"kafka-{VERSION}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time works on the folder; the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def provision_jars(cache: Path | None = None, *, sums: dict[str, str] | None = None) -> Path:
    """The folder of the verified jars, fetched when they are not there.

    Args:
        cache: The cache's folder, by default the user's.
        sums: Name -> SHA-256 of every jar, by default the pinned ones.

    Raises:
        StackError: no network, or a jar that is not the pinned one.
    """
    expected = pinned_sums() if sums is None else sums
    folder = kafka_folder(cache)
    jars = folder / "jars"
    if not jars.is_dir():
        with locked(folder):
            if not jars.is_dir():
                _fetch(folder, expected)
    verify(jars, expected)
    return jars


def verify(jars: Path, expected: dict[str, str]) -> None:
    """Check every jar of the folder.

    Raises:
        StackError: naming the first jar that is missing, unknown or different.
    """
    found = {path.name: path for path in jars.glob("*.jar")}
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            raise StackError(f"kafka: the jar {name} is missing in {jars}; remove that folder and start again")
        with found[name].open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != expected.get(name):
            raise StackError(
                f"kafka: the jar {name} is not the pinned one (sha256 {digest[:16]}..., expected "
                f"{expected.get(name, 'none')[:16]}...); remove {jars} and start again"
            )


def _fetch(folder: Path, expected: dict[str, str]) -> None:
    # Kept after a failure: what was fetched already is not fetched again.
    download, staged = folder / "download", folder / "jars.new"
    Console(stderr=True).print(f"Fetching Apache Kafka {VERSION} ({len(expected)} jars, 45 MB) to {folder}")
    options = ["--class-path-only", "--resolver", "python", "--links", "copy", "--timeout", "60"]
    places = ["--repo-cache", str(download / "maven"), "--cache-dir", str(download / "jgo")]
    command = [sys.executable, "-m", "jgo", *options, *places, "info", "jars", "+".join(COORDINATES)]
    try:
        result = subprocess.run(command, stdout=subprocess.DEVNULL, timeout=FETCH_TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise StackError(f"kafka: its jars were not fetched within {FETCH_TIMEOUT_S} s; check the network") from error
    if result.returncode != 0:
        raise StackError("kafka: its jars cannot be fetched (see above); check the network and start again")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    for path in (download / "jgo").rglob("*.jar"):
        shutil.copy2(path, staged / path.name)
    try:
        verify(staged, expected)
    except StackError:
        shutil.rmtree(download)  # What is wrong must not be found again.
        raise
    staged.rename(folder / "jars")
    shutil.rmtree(download)
