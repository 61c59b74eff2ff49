"""The HTTP API (contract, section 8): validates, writes documents, shows what is. It launches nothing."""

from queue_manager.api.app import create_app
from queue_manager.api.parts import ApiSettings, Parts

__all__ = ["ApiSettings", "Parts", "create_app"]
