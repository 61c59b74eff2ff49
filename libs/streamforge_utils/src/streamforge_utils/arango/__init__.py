"""The ArangoDB adapter: the only importer of python-arango. Nothing of the driver, types or errors, leaves it."""

from streamforge_utils.arango.client import ArangoClient, Index
from streamforge_utils.arango.failures import Conflict
from streamforge_utils.arango.sink import ArangoSink

__all__ = ["ArangoClient", "ArangoSink", "Conflict", "Index"]
