"""Fixtures of every member's tests: real servers, the folder of real data, the watch on leaked tasks."""

import importlib
import sys

pytest_plugins = ["streamforge_local.testing"]

# pytest names test modules by their folders and so would hide the standard library's `platform` behind ours: as a
# package in its eyes it is left alone.
importlib.import_module("platform").__path__ = []  # type: ignore[attr-defined]
assert hasattr(sys.modules["platform"], "system")
