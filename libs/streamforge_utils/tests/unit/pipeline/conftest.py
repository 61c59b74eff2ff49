import pytest
import stamina

from streamforge_utils.pipeline import runner


@pytest.fixture
def no_pause(monkeypatch):
    """What is tried again is tried at once, up to a thousand times."""
    monkeypatch.setattr(runner, "PAUSE_SECONDS", 0.0)
    stamina.set_testing(True, attempts=1000)
    yield
    stamina.set_testing(False)
