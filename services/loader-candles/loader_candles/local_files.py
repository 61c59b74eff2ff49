"""Files of this machine as a shelf: one path or a glob, only below the allowed roots."""

import asyncio
import glob
import os
import re
from collections.abc import Sequence
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from urllib.parse import unquote

from loader_candles.candle_file import bad_input
from loader_candles.files_source import Volume
from loader_candles.params import FILE
from loader_candles.series import Series
from streamforge_utils.errors import ConfigurationError

_EXCHANGE_NAME = re.compile(r"(?P<symbol>[A-Z0-9]{2,32})[-_](?P<interval>[0-9]{1,2}(mo|[smhdwM]))(?![a-zA-Z0-9])")
"""How the exchange names its files, ``BTCUSDT-1m-2025-08-01.zip``; other names say nothing."""


class LocalFiles:
    """The files that a ``file://`` URL names, in the order of their names.

    Links are followed before a path is compared with the roots, so that no link leads out of them.
    """

    def __init__(self, url: str, roots: Sequence[Path], series: Series) -> None:
        self._pattern = unquote(url.removeprefix(FILE))
        self._roots = [root.resolve() for root in roots]
        self._series = series
        self._volumes: dict[str, Volume] = {}

    async def open(self) -> None:
        """Looks the files up.

        Raises:
            ConfigurationError: no such file, one outside of the roots, one of another symbol or interval, or one whose
                name is not UTF-8.
        """
        paths = await asyncio.to_thread(self._paths)
        try:
            self._volumes = {str(path): await asyncio.to_thread(self._volume, path) for path in paths}
        except (OSError, RuntimeError) as error:  # no right to look, or links in a circle
            raise bad_input(self._pattern, None, f"cannot be read: {error}") from error

    async def following(self, name: str | None) -> Volume | None:
        """The file with the next higher name."""
        return next((volume for key, volume in self._volumes.items() if name is None or key > name), None)

    async def named(self, name: str) -> Volume:
        """The file in which a former life stopped."""
        if name not in self._volumes:
            raise bad_input(
                name, None, "was being read and is not there any more: put it back, or start a new workflow"
            )
        return self._volumes[name]

    async def close(self) -> None:
        """Nothing is held."""

    def _paths(self) -> list[Path]:
        if ".." in Path(self._pattern).parts:
            raise ConfigurationError(f"{self._pattern}: a source must not go up by '..'", code="bad-input")
        found = [self._pattern] if os.path.lexists(self._pattern) else sorted(glob.glob(self._pattern, recursive=True))
        if not found:
            raise bad_input(self._pattern, None, "no such file (the loader's machine is meant, not the client's)")
        for path in found:
            _check_name(path)
        return [Path(path) for path in found]

    def _volume(self, path: Path) -> Volume:
        name, real = str(path), path.resolve()
        if not any(real.is_relative_to(root) for root in self._roots):
            roots = ", ".join(map(str, self._roots)) or "none"
            raise bad_input(name, None, f"outside of the folders that may be read (DATA_ROOTS: {roots})")
        if not real.is_file():
            raise bad_input(name, None, "not a file" if real.exists() else "no such file")
        if match := _EXCHANGE_NAME.match(path.name):
            for part, wanted in (("symbol", self._series.symbol), ("interval", self._series.interval)):
                if match[part] != wanted:
                    raise bad_input(name, None, f"by its name of {part} {match[part]}, the workflow's is {wanted}")
        return Volume(name, partial(_opened, real))


def _check_name(path: str) -> None:
    name = os.fsencode(path)
    try:
        name.decode()
    except UnicodeDecodeError as error:
        # Neither a position nor a message can carry the name as it is.
        raise bad_input(name.decode(errors="backslashreplace"), None, "the name is not UTF-8: rename it") from error


def _opened(path: Path) -> BufferedIOBase:
    return path.open("rb")
