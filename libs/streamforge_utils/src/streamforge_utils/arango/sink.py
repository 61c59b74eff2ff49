"""The sink that keeps documents in a collection of ArangoDB."""

from collections.abc import Sequence
from typing import Any

from streamforge_utils.arango.client import ArangoClient, Index
from streamforge_utils.errors import BatchError, StreamForgeError
from streamforge_utils.settings import ArangoSettings


class ArangoSink:
    """Upserts documents by ``_key``: a known one gets the fields that the new one carries, and keeps its others.

    So a batch may be written twice. ``max_request`` bounds the documents of one request.
    """

    name = "arango"

    def __init__(
        self, settings: ArangoSettings, collection: str, *, indexes: Sequence[Index] = (), max_request: int = 5000
    ) -> None:
        self._client = ArangoClient(settings, threads=1)
        self._collection = collection
        self._indexes = indexes
        self._max_request = max_request

    async def open(self) -> None:
        """Connect and make the collection with its indexes, unless they are there."""
        await self._client.open()
        await self._client.ensure_collection(self._collection, indexes=self._indexes)

    async def write(self, values: Sequence[dict[str, Any]]) -> None:
        """Returns when the store has confirmed all of them.

        Raises:
            BatchError: the named documents were refused; the others are stored.
            TransientError: unknown how many are stored.
        """
        refused: dict[int, StreamForgeError] = {}
        for start in range(0, len(values), self._max_request):
            part = values[start : start + self._max_request]
            for index, fault in (await self._client.upsert_many(self._collection, part)).items():
                refused[start + index] = fault
        if refused:
            raise BatchError(refused)

    async def close(self) -> None:
        """Idempotent."""
        await self._client.close()
