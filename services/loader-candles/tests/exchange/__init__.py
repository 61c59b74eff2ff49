"""A local exchange for tests: behaves as the exchange documents it, over real HTTP and WebSocket connections."""

from .archive import Archive
from .market import Market
from .server import ExchangeServer, running_exchange
from .streams import Streams

__all__ = ["Archive", "ExchangeServer", "Market", "Streams", "running_exchange"]
