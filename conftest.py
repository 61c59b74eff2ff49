"""Fixtures of every member's tests: real servers, the folder of real data, the watch on leaked tasks."""

import gc
import importlib
import sys

import pytest

pytest_plugins = ["streamforge_local.testing"]

# pytest names test modules by their folders and so would hide the standard library's `platform` behind ours: as a
# package in its eyes it is left alone.
importlib.import_module("platform").__path__ = []  # type: ignore[attr-defined]
assert hasattr(sys.modules["platform"], "system")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nothing comes from outside into virtual time: an idle loop need not look for it 42 times, as is the default."""
    for item in items:
        if item.get_closest_marker("looptime"):
            item.add_marker(pytest.mark.looptime(noop_cycles=5))


def pytest_collection_finish() -> None:
    """The tests themselves stay to the end: no garbage collection has to look through them."""
    gc.collect()
    gc.freeze()
