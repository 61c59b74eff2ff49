"""The imports that every worker needs, made once before the fork, and how a child finds out that they are out of date.

Nothing imported here may start a thread or a loop: a fork would copy its locks without it.
"""

import importlib
import os
import pkgutil
import sys
from collections.abc import Mapping

from streamforge_local.lean import lean

COMMON = (
    "asyncio",
    "uvloop",
    "aiokafka",
    "arango",
    "pydantic",
    "pydantic_settings",
    "structlog",
    "httpx",
    "prometheus_client",
    "orjson",
    "stamina",
    "websockets.asyncio.client",
)
WHEEL = "streamforge_utils"

Stamp = tuple[str, int, int]
"""A source file's path, modification time in ns, and size."""


def preload() -> dict[str, str]:
    """Import what is common to workers.

    Returns:
        What could not be imported, and why: no worker that does without it is harmed.
    """
    failed: dict[str, str] = {}

    def load(name: str) -> None:
        try:
            importlib.import_module(name)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"

    with lean():
        for name in (*COMMON, WHEEL):
            load(name)
    wheel = sys.modules.get(WHEEL)
    if wheel is not None:
        # Doubles for tests have no place in a worker.
        for module in pkgutil.walk_packages(wheel.__path__, f"{WHEEL}.", onerror=lambda _: None):
            if not module.name.startswith(f"{WHEEL}.testing"):
                load(module.name)
    return failed


def stamps() -> dict[str, Stamp]:
    """The files of the imported modules that somebody may edit: those outside the Python installation."""
    found: dict[str, Stamp] = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name.partition(".")[0] == WHEEL and path and not path.startswith((sys.prefix, sys.base_prefix)):
            stat = os.stat(path)
            found[name] = (path, stat.st_mtime_ns, stat.st_size)
    return found


def forget_edited(known: Mapping[str, Stamp]) -> bool:
    """Unload the wheel if a file of it was changed since `known`, so that it is imported as it is now.

    Returns:
        Whether it was unloaded.
    """
    if all(_unchanged(stamp) for stamp in known.values()):
        return False
    for name in [name for name in sys.modules if name.partition(".")[0] == WHEEL]:
        del sys.modules[name]
    return True


def _unchanged(stamp: Stamp) -> bool:
    path, mtime_ns, size = stamp
    try:
        stat = os.stat(path)
    except OSError:
        return False
    return (stat.st_mtime_ns, stat.st_size) == (mtime_ns, size)
