"""How every client of Kafka logs in, and what its errors mean here. aiokafka is imported in this package alone."""

import asyncio
import ssl
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn

from streamforge_utils.errors import ConfigurationError, FencedError, NotConnected, StreamForgeError, TransientError
from streamforge_utils.settings import KafkaSettings

_MECHANISM = "SCRAM-SHA-512"
_FENCED = (
    kafka_errors.ProducerFenced,
    kafka_errors.InvalidProducerEpoch,
    kafka_errors.TransactionCoordinatorFenced,
)
_NOT_AUTHENTICATED = (
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.AuthenticationFailedError,
    kafka_errors.AuthenticationMethodNotSupported,
    kafka_errors.UnsupportedSaslMechanismError,
)
_NOT_AUTHORIZED = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
)
_AWAY = (kafka_errors.KafkaConnectionError, kafka_errors.NodeNotReadyError, kafka_errors.NoBrokersAvailable)
DIAGNOSIS_TIMEOUT_MS = 5_000
STOP_SECONDS = 2.0

_log = structlog.get_logger(component="kafka")


class Client(Protocol):
    """What aiokafka's producer, consumer and admin client have in common."""

    def start(self) -> Coroutine[Any, Any, None]:
        """Connects."""


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """The keyword arguments with which every aiokafka client is made.

    Raises:
        ConfigurationError: a certificate file that is missing or unreadable.
    """
    options: dict[str, Any] = {"bootstrap_servers": settings.bootstrap_servers.split(",")}
    if settings.user is not None and settings.password is not None:
        options |= {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": _MECHANISM,
            "sasl_plain_username": settings.user,
            "sasl_plain_password": settings.password.get_secret_value(),
            "ssl_context": _ssl_context(settings),
        }
    elif settings.ssl_certificate_location is not None:
        options |= {"security_protocol": "SSL", "ssl_context": _ssl_context(settings)}
    return options


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_path)
        if settings.ssl_certificate_location is not None:
            context.load_cert_chain(settings.ssl_certificate_location, settings.ssl_key_location)
    except (OSError, ssl.SSLError) as error:
        files = [settings.ca_path, settings.ssl_certificate_location, settings.ssl_key_location]
        named = ", ".join(str(file) for file in files if file is not None)
        raise ConfigurationError(f"the certificate files of Kafka cannot be read ({named}): {error}") from error
    return context


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes: aiokafka hides a fenced producer behind other errors."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def translated(error: BaseException, what: str) -> StreamForgeError:
    """The wheel's error for one of aiokafka's; ``what`` names the object, as "the topic queue-events"."""
    for cause in causes(error):
        if (final := _final(cause, what)) is not None:
            return final
    if isinstance(error, (*_AWAY, OSError)):
        return NotConnected(f"{what}: Kafka does not answer ({error})", code="broker-unreachable")
    return TransientError(f"{what}: {type(error).__name__}: {error}")


def _final(cause: BaseException, what: str) -> StreamForgeError | None:
    """The error that no waiting mends, if it is one."""
    if isinstance(cause, _FENCED):
        return FencedError(f"{what}: a successor took over, or the transaction timed out")
    if isinstance(cause, _NOT_AUTHENTICATED):
        text, code = "Kafka refused user or password; check KAFKA_USER and KAFKA_PASSWORD", "unauthenticated"
    elif isinstance(cause, ssl.SSLCertVerificationError):
        text = f"the broker's certificate is not trusted ({cause.verify_message}); check KAFKA_CA_PATH"
        code = "unauthenticated"
    elif isinstance(cause, _NOT_AUTHORIZED):
        text, code = f"{type(cause).__name__} ({cause}); give the user this right (ACL)", "not-authorized"
    elif isinstance(cause, kafka_errors.OffsetOutOfRangeError):
        text = f"records were deleted by the topic's retention before they were read ({cause})"
        code = "records-expired"
    else:
        return None
    return ConfigurationError(f"{what}: {text}", code=code)


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Raise aiokafka's errors as the wheel's; cancellation and our own errors pass."""
    try:
        yield
    except StreamForgeError:
        raise
    except (kafka_errors.KafkaError, kafka_errors.ConsumerStoppedError, OSError, TimeoutError) as error:
        raise translated(error, what) from error


async def stop_client(client: Any) -> None:
    """Stop a client, but never wait for a broker that is away: with something pending aiokafka's stop would for ever.

    In a task of its own, so that a stray cancellation within aiokafka does not become the caller's.
    """
    stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
    stopping = asyncio.create_task(stop(), name="kafka-stop")
    await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    if not stopping.done():
        stopping.cancel()
        await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    if not stopping.done() or stopping.cancelled() or stopping.exception() is not None:
        await _abandon(client)


async def _abandon(client: Any) -> None:
    """End what a stop that came to nothing leaves: the task that sends for ever, and the connections.

    aiokafka has no public call for it. What was not acknowledged is given up: its writers were told so.
    """
    is_producer = isinstance(client, AIOKafkaProducer)
    ends = [asyncio.ensure_future((client.client if is_producer else client._client).close())]  # noqa: SLF001
    if is_producer and client._sender is not None:  # noqa: SLF001
        _give_up(client._message_accumulator)  # noqa: SLF001
        ends.append(asyncio.ensure_future(client._sender.close()))  # noqa: SLF001
    await asyncio.wait(ends, timeout=STOP_SECONDS)
    failed = [end for end in ends if not end.done() or end.cancelled() or end.exception() is not None]
    for end in failed:
        end.cancel()
    _log.warning("client_abandoned", reason="Kafka is away", is_closed=not failed)


def _give_up(pending: Any) -> None:
    """The producer's stop waits for these batches, and who sent them may: none will be written any more."""
    pending.fail_all(kafka_errors.ProducerClosed())
    for batches in pending._batches.values():  # noqa: SLF001
        for batch in batches:
            batch._drain_waiter.exception()  # noqa: SLF001 (asked for, or its loss would be told as a fault)


async def start_client(client: Client, settings: KafkaSettings) -> None:
    """Start a producer, consumer or admin client.

    aiokafka says "unable to bootstrap" whatever the cause; the true one is found by a connection of our own.

    Raises:
        NotConnected: no broker answers.
        ConfigurationError: the broker refuses (code ``unauthenticated``), or the certificate is not trusted.
    """
    what = f"Kafka at {settings.bootstrap_servers}"
    try:
        with translate_errors(what):
            await _start(client)
    except NotConnected as error:
        raise await _diagnosis(settings, what) or error from error


async def _start(client: Client) -> None:
    """Cancelled while it asks for metadata, aiokafka would leave its connection open: it may finish that first."""
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting}, timeout=STOP_SECONDS)
        starting.cancel()
        await asyncio.wait({starting}, timeout=STOP_SECONDS)
        if starting.done() and not starting.cancelled():
            starting.exception()
        raise


async def _diagnosis(settings: KafkaSettings, what: str) -> StreamForgeError | None:
    """Why a client cannot start, None when the broker is simply away."""
    options = client_options(settings)
    for server in options.pop("bootstrap_servers"):
        host, _, port = server.strip().rpartition(":")
        try:
            connection = await create_conn(host, int(port), request_timeout_ms=DIAGNOSIS_TIMEOUT_MS, **options)
        except (kafka_errors.KafkaError, OSError, TimeoutError) as error:
            found = translated(error, what)
            if isinstance(found, ConfigurationError):
                return found
        else:
            connection.close()
    return None
