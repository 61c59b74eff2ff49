"""Ports of the stack: free ones, kept as long as the data lives so that clients find the same addresses again."""

import json
import os
import random
import socket
from collections.abc import Mapping
from pathlib import Path

from streamforge_local.failures import StackError

LOOPBACK = "127.0.0.1"
FIRST, LAST = 20_000, 32_000
"""Below Linux' range for outgoing connections, so that none takes the port of a part that is restarting."""


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(taken: frozenset[int] = frozenset()) -> int:
    """A port that nobody listens on.

    Raises:
        StackError: none was found.
    """
    for port in random.sample(range(FIRST, LAST), 200):
        if port not in taken and is_free(port):
            return port
    raise StackError(f"no free port between {FIRST} and {LAST}; name one with STREAMFORGE_PORT_<PART>")


def variable(name: str) -> str:
    """The environment variable that sets a port: ``queue-manager`` -> ``STREAMFORGE_PORT_QUEUE_MANAGER``."""
    return "STREAMFORGE_PORT_" + name.upper().replace("-", "_")


def _named(name: str, environ: Mapping[str, str]) -> int | None:
    text = environ.get(variable(name))
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise StackError(f"{variable(name)}={text!r} is not a port; give a number from 1 to 65535")
    return int(text)


def assign_ports(book: Path, names: tuple[str, ...], environ: Mapping[str, str] = os.environ) -> dict[str, int]:
    """A port for each name: the environment's, else the one in the book, else a free one. The book is rewritten.

    Raises:
        StackError: a variable is not a port, or two names would share one.
    """
    kept: dict[str, int] = json.loads(book.read_text()) if book.exists() else {}
    ports = {**kept, **{name: port for name in names if (port := _named(name, environ)) is not None}}
    for name in names:
        if name not in ports:
            ports[name] = free_port(frozenset(ports.values()))
    if len(set(ports.values())) < len(ports):
        raise StackError(f"two parts of the stack have the same port: {ports}; check STREAMFORGE_PORT_*")
    if ports != kept:
        book.parent.mkdir(parents=True, exist_ok=True)
        written = book.with_suffix(".new")
        written.write_text(json.dumps(ports))
        written.replace(book)
    return {name: ports[name] for name in names}
