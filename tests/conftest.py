"""Fixtures of the tests of the whole platform: one stack, as `make up` starts it, and files of candles.

With STREAMFORGE_TEST_KUBERNETES=1 they run a second time, with workflows that are Jobs of a real cluster; but for those
that kill processes or have a stack of their own.
"""

import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from streamforge_local.kubernetes.scenario import ClusterScenario, Lending
from streamforge_local.paths import Home, repository_root
from streamforge_local.scenario import Scenario, scenario
from streamforge_local.stack import daemon
from streamforge_local.stack.leftovers import leftovers

REAL = "BTCUSDT-1m-2025-08-01_10.csv.gz"
FIRST_MS, MINUTE_MS, CANDLES = 1_754_006_400_000, 60_000, 14_400


LAUNCHERS = ("process", "kubernetes") if os.environ.get("STREAMFORGE_TEST_KUBERNETES") == "1" else ("process",)
KUBERNETES_TIMEOUT_S = 240
SLOWER = 4
"""Pods take seconds to start: what is to be met in its middle has to last longer."""


def pytest_generate_tests(metafunc):
    if "stack" in metafunc.fixturenames:
        has_its_own = metafunc.definition.get_closest_marker("faults") or "scram_home" in metafunc.fixturenames
        # The first start makes images; every fixture has deadlines of its own.
        marks = {"kubernetes": [pytest.mark.timeout(KUBERNETES_TIMEOUT_S, func_only=True), pytest.mark.node]}
        wanted = LAUNCHERS[: 1 if has_its_own else None]
        if "kubernetes" in metafunc.definition.path.parts:
            wanted = ("kubernetes",)
        launchers = [pytest.param(name, marks=marks.get(name, ())) for name in wanted]
        metafunc.parametrize("stack", launchers, indirect=True, scope="session")


@contextmanager
def _running(folder, **environment):
    home = Home.at(folder)
    command = [sys.executable, "-m", "streamforge_local", "up"]
    everything = {**os.environ, "STREAMFORGE_HOME": str(home.root), **environment}
    up = subprocess.run(command, env=everything, capture_output=True, check=False)
    try:
        assert up.returncode == 0, up.stderr.decode()
        yield home
    finally:
        daemon.down(home)
    assert leftovers(home) == []


@dataclass(frozen=True)
class RunningStack:
    """A stack that runs in the background, and what is different for tests where its workers are pods."""

    home: Home
    make: Callable[..., Scenario] = Scenario
    lend: Callable[[Path], str] = str
    """Path of a file -> the path under which workers read it."""
    slower: int = 1


ODD_TARGETS = {
    "hungry": {"resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "32Mi"}}},
    "stubborn": {"grace_s": 3},
}
"""Targets that run dummy-service with too little memory, and with little patience."""


def _write_targets(folder):
    known = yaml.safe_load((repository_root() / "services/dummy-service/target.yaml").read_text())
    for name, different in ODD_TARGETS.items():
        (folder / name).mkdir(parents=True)
        text = yaml.safe_dump({**known, "name": name, "backoff_limit": 0, **different})
        (folder / name / "target.yaml").write_text(text)
    return f"{repository_root() / 'services'}{os.pathsep}{folder}"


@pytest.fixture(scope="session")
def stack(request, tmp_path_factory):
    """One stack for each launcher; it is stopped, and nothing of it may be left."""
    folder = tmp_path_factory.mktemp("stack")
    if request.param == "process":
        with _running(folder, STREAMFORGE_KAFKA_SECURITY="plaintext") as home:
            yield RunningStack(home)
        return
    cluster = request.getfixturevalue("node_cluster")
    namespace = cluster.new_namespace("stack")
    lending = Lending(cluster, namespace)
    settings = {
        "LAUNCHER": "kubernetes",
        "KUBECONFIG": str(cluster.kubeconfig),
        "KUBERNETES_NAMESPACE": namespace,
        "ADVERTISED_HOST": cluster.gateway,
        "KUBERNETES_SECRET_MOUNTS": json.dumps(lending.mounts),
        "TARGETS_DIRS": _write_targets(tmp_path_factory.mktemp("targets")),
    }
    with _running(folder, **settings) as home:
        make = partial(ClusterScenario, cluster=cluster, namespace=namespace)
        yield RunningStack(home, make, lending.lend, SLOWER)
    cluster.remove_namespace(namespace)


@pytest.fixture
def scram_home(tmp_path):
    """A stack with SASL_SSL and SCRAM-SHA-512."""
    with _running(tmp_path / "scram", STREAMFORGE_KAFKA_SECURITY="scram") as home:
        yield home


@pytest_asyncio.fixture
async def live(stack):
    """The stack with all its parts ready."""
    async with scenario(stack.home, stack.make) as found:
        await found.all_ready()
        yield found


@pytest.fixture(scope="session")
def made_file(tmp_path_factory):
    """A file of the real one's shape: 14,400 one-minute candles in milliseconds, no header; one seeded random walk."""
    draw = random.Random("candles")
    price, lines = 115_000.0, []
    for index in range(CANDLES):
        opened = FIRST_MS + index * MINUTE_MS
        close = round(price * (1 + draw.uniform(-0.0008, 0.0008)), 2)
        high, low = round(max(price, close) * 1.0002, 2), round(min(price, close) * 0.9998, 2)
        volume, taken = round(draw.uniform(0.5, 30), 5), draw.random()
        amounts = [volume, round(volume * close, 7), round(volume * taken, 5), round(volume * taken * close, 7)]
        cells = [opened, price, high, low, close, amounts[0], opened + MINUTE_MS - 1, amounts[1]]
        lines.append(",".join(map(str, [*cells, draw.randrange(1, 5000), amounts[2], amounts[3], 0])))
        price = close
    path = tmp_path_factory.mktemp("candles") / "BTCUSDT-1m-2025-08-01_10.csv.gz"
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))
    return path


@pytest.fixture
def real_file(shared_data):
    """The exchange's own file."""
    return shared_data / "candles" / REAL


@pytest.fixture(params=["real", "made"])
def candle_file(request):
    """The exchange's file, and one that is made."""
    return request.getfixturevalue(f"{request.param}_file")


@pytest.fixture
def request_of(stack):
    """Makes the body of a POST for a file of candles."""

    def make(path, *, template="candles", collection=None, rate=None, steps=()):
        params = {"source": f"file://{stack.lend(path)}"} | ({"rate": rate / stack.slower} if rate else {})
        body = {
            "template": template,
            "symbol": "BTCUSDT",
            "type": "api_candles_1m",
            "time_range": "2025-08-01:2025-08-11",
            "steps": [{"name": "loader-candles", "params": params}, *steps],
        }
        return body | ({"collection": collection} if collection else {})

    return make
