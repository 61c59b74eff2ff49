"""Ping, stop, drain and telemetry over a transport; knows no vendor."""

from streamforge_utils.control.client import ControlClient, Pong
from streamforge_utils.control.identity import Identity
from streamforge_utils.control.interfaces import ClientTransport, ControlTransport, Received
from streamforge_utils.control.listener import ControlListener, Handlers
from streamforge_utils.control.telemetry import Telemetry

__all__ = [
    "ClientTransport",
    "ControlClient",
    "ControlListener",
    "ControlTransport",
    "Handlers",
    "Identity",
    "Pong",
    "Received",
    "Telemetry",
]
