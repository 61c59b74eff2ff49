"""Fixtures of the tests of the whole platform: one stack, as `make up` starts it, and files of candles."""

import gzip
import os
import random
import subprocess
import sys

import pytest
import pytest_asyncio

from streamforge_local.paths import Home
from streamforge_local.scenario import scenario
from streamforge_local.stack import daemon
from streamforge_local.stack.leftovers import leftovers

REAL = "BTCUSDT-1m-2025-08-01_10.csv.gz"
FIRST_MS, MINUTE_MS, CANDLES = 1_754_006_400_000, 60_000, 14_400


def _running(folder, security):
    home = Home.at(folder)
    environment = {**os.environ, "STREAMFORGE_HOME": str(home.root), "STREAMFORGE_KAFKA_SECURITY": security}
    command = [sys.executable, "-m", "streamforge_local", "up"]
    up = subprocess.run(command, env=environment, capture_output=True, check=False)
    try:
        assert up.returncode == 0, up.stderr.decode()
        yield home
    finally:
        daemon.down(home)
    assert leftovers(home) == []


@pytest.fixture(scope="session")
def stack_home(tmp_path_factory):
    """The folder of a stack that runs in the background; it is stopped, and nothing of it may be left."""
    yield from _running(tmp_path_factory.mktemp("stack"), "plaintext")


@pytest.fixture
def scram_home(tmp_path):
    """The same with SASL_SSL and SCRAM-SHA-512."""
    yield from _running(tmp_path / "scram", "scram")


@pytest_asyncio.fixture
async def live(stack_home):
    """The stack with all its parts ready."""
    async with scenario(stack_home) as found:
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


@pytest.fixture(scope="session")
def request_of():
    """Makes the body of a POST for a file of candles."""

    def make(path, *, template="candles", collection=None, rate=None, steps=()):
        params = {"source": f"file://{path}"} | ({"rate": rate} if rate else {})
        body = {
            "template": template,
            "symbol": "BTCUSDT",
            "type": "api_candles_1m",
            "time_range": "2025-08-01:2025-08-11",
            "steps": [{"name": "loader-candles", "params": params}, *steps],
        }
        return body | ({"collection": collection} if collection else {})

    return make
