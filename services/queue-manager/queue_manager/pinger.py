"""Pings for the API over Kafka: connects at the first ping and again after a failure, so Kafka may come later."""

import asyncio
from collections.abc import Sequence

from streamforge_utils.control.client import ControlClient, Pong
from streamforge_utils.errors import ConfigurationError, NotConnected, TransientError
from streamforge_utils.kafka.transport import KafkaClientTransport
from streamforge_utils.settings import KafkaSettings

CONNECT_S = 10.0


class KafkaPinger:
    """Implements the API's ``Pinger``; any number of pings at once over one connection."""

    def __init__(self, settings: KafkaSettings, *, control_topic: str, events_topic: str) -> None:
        self._settings, self._control, self._events = settings, control_topic, events_topic
        self._client: ControlClient | None = None
        self._connecting = asyncio.Lock()

    async def _connected(self) -> ControlClient:
        async with self._connecting:
            if self._client is None:
                transport = KafkaClientTransport(self._settings, control_topic=self._control, events_topic=self._events)
                client = ControlClient(transport)
                try:
                    async with asyncio.timeout(CONNECT_S):
                        await client.open()
                except TimeoutError:
                    await client.close()
                    raise NotConnected(
                        f"Kafka at {self._settings.bootstrap_servers} does not answer", code="broker-unreachable"
                    ) from None
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client

    async def ping(self, queue_id: str, *, expected: int, timeout_s: float) -> Sequence[Pong]:
        """See ``Pinger``."""
        client = await self._connected()
        try:
            return await client.ping(queue_id, expected=expected, timeout_s=timeout_s)
        except (TransientError, ConfigurationError):
            await self._drop(client)
            raise

    async def _drop(self, client: ControlClient) -> None:
        if self._client is client:
            self._client = None
            await client.close()

    async def close(self) -> None:
        """Idempotent."""
        if self._client is not None:
            await self._drop(self._client)
