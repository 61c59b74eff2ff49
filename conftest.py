"""Fixtures of every member's tests: real servers, the folder of real data, the watch on leaked tasks."""

pytest_plugins = ["streamforge_local.testing"]
