"""The service that CONTRIBUTING.md adds in an afternoon is complete: its files as shown, checked and tested."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from queue_manager.targets import read_targets

FILE = re.compile(r"^`(services/[^`\n]+)`:\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAX_MAIN_LINES = 60


@pytest.fixture
def repository(root, tmp_path) -> Path:
    shown = FILE.findall((root / "CONTRIBUTING.md").read_text())
    assert len(shown) == 7
    for name, text in shown:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def run(*command: str, cwd: Path) -> None:
    full = [sys.executable, "-m", *command]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # most of pytest's start is plugins of other tests
    done = subprocess.run(full, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_target_is_one_that_can_be_run(repository):
    targets = read_targets([repository / "services"])
    assert [target.name for target in targets.all().values()] == ["day-range"]


def test_its_tests_pass(repository):
    service = repository / "services/day-range"
    options = ["-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function", "-o", "pythonpath=."]
    run("pytest", "-q", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider", *options, "tests", cwd=service)


def test_its_main_is_short(repository):
    main = repository / "services/day-range/day_range/main.py"
    assert len(main.read_text().splitlines()) <= MAX_MAIN_LINES


def test_it_is_clean(root, repository):
    service = repository / "services/day-range"
    run("ruff", "check", "--config", str(root / "pyproject.toml"), "--no-cache", "day_range", cwd=service)
    run("ruff", "format", "--check", "--config", str(root / "pyproject.toml"), "--no-cache", ".", cwd=service)
