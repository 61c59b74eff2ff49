"""Launchers that soon lose their patience, and keep no logs."""

import pytest

from queue_manager.launcher.kubernetes.janitor import Patience


@pytest.fixture
def patience():
    return Patience(look_s=0.3, sidecar_s=1.0, node_s=1.0)


@pytest.fixture(autouse=True)
def log_archive(monkeypatch):
    monkeypatch.setenv("KUBERNETES_LOG_ARCHIVE", "")
