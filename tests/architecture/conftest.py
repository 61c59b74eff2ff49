"""The repository as these tests see it: tracked files, and the parsed modules of the product (no tests)."""

import ast
import gc
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("libs/", "services/", "platform/", "benchmarks/")

Modules = dict[str, ast.Module]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tracked() -> list[str]:
    """Tracked files, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert names
    return names


@pytest.fixture(scope="session")
def texts(tracked) -> dict[str, str]:
    """Every tracked text file but the licence, whose words are not ours."""
    found = {}
    for name in tracked:
        data = (ROOT / name).read_bytes()
        if name != "LICENSE" and b"\0" not in data:
            found[name] = data.decode()
    return found


@pytest.fixture(scope="session")
def python(tracked, texts) -> Modules:
    """Every tracked Python file, parsed."""
    gc.collect()
    gc.disable()  # millions of nodes that stay to the end
    try:
        return {name: ast.parse(texts[name], name) for name in tracked if name.endswith(".py")}
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def product(python) -> Modules:
    """Of these, what runs in production."""
    return {name: tree for name, tree in python.items() if name.startswith(PRODUCT) and "/tests/" not in name}
