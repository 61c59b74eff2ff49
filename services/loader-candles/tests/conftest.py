import gzip
import importlib.util
import sys
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loader_candles.series import Series
from streamforge_utils.pipeline import Delivery, EndOfSource, Source

MINUTE = 60_000
DAY = 1440 * MINUTE
START = 1_754_006_400_000  # 2025-08-01T00:00Z


def _exchange_package() -> ModuleType:
    """Tests are not importable by name, so the exchange of the tests is loaded from its folder, once."""
    name, folder = "loader_candles_exchange", Path(__file__).parent / "exchange"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
async def exchange() -> AsyncIterator[Any]:
    """A local exchange whose clock stands at START + 2 days when the test begins."""
    async with _exchange_package().running_exchange(START + 2 * DAY) as running:
        yield running


@pytest.fixture
def series() -> Series:
    return Series("BTCUSDT", "1m", MINUTE, START, START + DAY)


def _row(open_time: int) -> list[str]:
    n = open_time // MINUTE % 100_000
    price = 100 + n % 977 / 100
    prices = [f"{price + shift:.8f}" for shift in (0, 0.5, -0.5, 0.25)]
    volumes = [f"{1 + n % 31:.8f}", str(open_time + MINUTE - 1), f"{100 + n % 57:.8f}", str(n % 91), "0.50000000"]
    return [str(open_time), *prices, *volumes, f"{n % 13}.00000000", "0"]


@pytest.fixture
def rows() -> Callable[..., list[list[str]]]:
    """Rows as the exchange writes them: rows(count, start=..., step=...)."""

    def make(count: int, start: int = START, step: int = MINUTE) -> list[list[str]]:
        return [_row(start + index * step) for index in range(count)]

    return make


@pytest.fixture
def record() -> Callable[[Sequence[str]], dict[str, Any]]:
    """The record that a row of the exchange has to become, written down independently of the loader."""

    def make(row: Sequence[str]) -> dict[str, Any]:
        o, h, low, c, v = map(float, row[1:6])
        q, tb, tq = float(row[7]), float(row[9]), float(row[10])
        names = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
        return {
            "_key": row[0],
            "symbol": "BTCUSDT",
            "interval": "1m",
            "open_time": int(row[0]),
            "close_time": int(row[6]),
            "trades": int(row[8]),
            **dict(zip(names, (o, h, low, c, v, q, tb, tq), strict=True)),
        }

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows (or a text) under a name; its suffix says how: .csv, .csv.gz or .zip."""

    def to_file(name: str, content: Sequence[Sequence[str]] | bytes, header: str = "") -> Path:
        text = content if isinstance(content, bytes) else "".join(",".join(row) + "\n" for row in content).encode()
        text = (f"{header}\n".encode() if header else b"") + text
        path = tmp_path / name
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(text, mtime=0))
        elif name.endswith(".zip"):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(name.removesuffix(".zip") + ".csv", text)
        else:
            path.write_bytes(text)
        return path

    return to_file


@pytest.fixture
def drain() -> Callable[..., Any]:
    """Opens a source at a position, reads up to its end (or ``most`` deliveries), closes it."""

    async def run(source: Source, position: Any = None, *, size: int = 5000, most: int = 10**9) -> list[Delivery]:
        deliveries: list[Delivery] = []
        await source.open(position)
        try:
            while len(deliveries) < most:
                deliveries.append(await source.read(size))
        except EndOfSource:
            pass
        finally:
            await source.close()
        return deliveries

    return run


@pytest.fixture
def values() -> Callable[[Sequence[Delivery]], list[Any]]:
    return lambda deliveries: [value for delivery in deliveries for value in delivery.values]
