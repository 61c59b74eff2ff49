"""What the process is told: by arguments, and, what must not be seen in a process list, by the environment."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class SettingsError(Exception):
    """A setting is missing or wrong."""


@dataclass(frozen=True)
class Settings:
    """The settings of one server.

    Attributes:
        data: The data directory; made if it is not there.
        host: The address to listen on.
        port: The port; 0 = a free one.
        database: Made at the start unless it is there.
        user: From `ARANGO_LOCAL_USER`.
        password: From `ARANGO_LOCAL_PASSWORD`.
        max_pages: From `ARANGO_LOCAL_MAX_PAGES`: the size in pages at which the "disk" is full; 0 = no limit.
    """

    data: Path
    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    max_pages: int = 0

    @classmethod
    def read(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
        """Reads the settings.

        Raises:
            SettingsError: An environment variable is missing or wrong.
            SystemExit: The arguments are wrong (argparse has said why).
        """
        parser = argparse.ArgumentParser(prog="python -m arango_local", description=__doc__)
        parser.add_argument("--data", type=Path, required=True, help="the data directory")
        parser.add_argument("--port", type=int, default=8529, help="the port to listen on; 0 = a free one")
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
        parser.add_argument("--database", default="streamforge", help="a database to make at the start")
        given = parser.parse_args(arguments)
        for name in ("ARANGO_LOCAL_USER", "ARANGO_LOCAL_PASSWORD"):
            if not environment.get(name):
                raise SettingsError(f"{name} is not set: the server needs a user and a password")
        pages = environment.get("ARANGO_LOCAL_MAX_PAGES") or "0"
        if not pages.isdecimal():
            raise SettingsError(f"ARANGO_LOCAL_MAX_PAGES must be a number of pages, not '{pages}'")
        return cls(
            data=given.data,
            host=given.host,
            port=given.port,
            database=given.database,
            user=environment["ARANGO_LOCAL_USER"],
            password=environment["ARANGO_LOCAL_PASSWORD"],
            max_pages=int(pages),
        )
