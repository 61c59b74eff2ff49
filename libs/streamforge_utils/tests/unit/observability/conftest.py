import logging

import pytest
import structlog


@pytest.fixture
def restored_logging():
    """Gives the logging of the test session back after a test that configured its own."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
