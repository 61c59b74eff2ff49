"""What ``user-streamforge`` may do at the broker, granted at its controller by Kafka's own protocol.

A hand-made CreateAcls request: the client library has no such call, and Kafka's command line would start a second
Java. It goes to the controller over mutual TLS with the broker's certificate, so no password is needed.
"""

import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Final

from streamforge_local.failures import StackError
from streamforge_local.kafka.security import CLIENT, Credentials
from streamforge_local.ports import LOOPBACK

TIMEOUT_S = 10.0

# Numbers of Kafka's protocol: ResourceType, PatternType, AclOperation, AclPermissionType (kafka.apache.org/protocol).
TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID = 2, 3, 4, 5
LITERAL, PREFIXED = 3, 4
READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE = 3, 4, 5, 6, 7, 8
DESCRIBE_CONFIGS, ALTER_CONFIGS = 10, 11
_ALLOW: Final = 3
_CREATE_ACLS_V1: Final = (30, 1)


@dataclass(frozen=True, slots=True)
class Right:
    """One operation on the resources that a pattern names."""

    resource: int
    operation: int
    name: str
    pattern: int


def rights(topic_prefix: str = "") -> list[Right]:
    """The rights of an installation: its topics by prefix, its workflows' groups and transactions."""
    topics = (topic_prefix, PREFIXED) if topic_prefix else ("*", LITERAL)
    topic = [READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS]
    return [
        *(Right(TOPIC, operation, *topics) for operation in topic),
        *(Right(GROUP, operation, "wf-", PREFIXED) for operation in (READ, DESCRIBE, DELETE)),
        *(Right(TRANSACTIONAL_ID, operation, "wf-", PREFIXED) for operation in (WRITE, DESCRIBE)),
        Right(CLUSTER, DESCRIBE_CONFIGS, "kafka-cluster", LITERAL),
        Right(CLUSTER, DESCRIBE, "kafka-cluster", LITERAL),
    ]


def grant(granted: list[Right], *, controller_port: int, credentials: Credentials) -> None:
    """Give the client's user these rights; giving them again changes nothing.

    Raises:
        StackError: the controller refused one.
        OSError: the controller is not there (yet).
    """
    request = _header(*_CREATE_ACLS_V1) + struct.pack(">i", len(granted)) + b"".join(_creation(r) for r in granted)
    context = ssl.create_default_context(cafile=credentials.ca)
    context.load_cert_chain(credentials.broker)
    with (
        socket.create_connection((LOOPBACK, controller_port), timeout=TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=LOOPBACK) as connection,
    ):
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _exactly(connection, 4))
        _check(_exactly(connection, size))


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def _header(api: int, version: int) -> bytes:
    return struct.pack(">hhi", api, version, 1) + _string("streamforge-local")


def _creation(right: Right) -> bytes:
    who = _string(f"User:{CLIENT}") + _string("*")
    what = struct.pack(">b", right.resource) + _string(right.name) + struct.pack(">b", right.pattern)
    return what + who + struct.pack(">bb", right.operation, _ALLOW)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (part := connection.recv(size - len(data))):
            raise ConnectionError("the controller closed the connection")
        data += part
    return data


def _check(response: bytes) -> None:
    _correlation, _throttle, count = struct.unpack_from(">iii", response)
    position = 12
    for _ in range(count):
        code, length = struct.unpack_from(">hh", response, position)
        position += 4
        message = response[position : position + max(length, 0)].decode(errors="replace")
        position += max(length, 0)
        if code != 0:
            raise StackError(f"kafka: the rights of {CLIENT} cannot be granted: error {code} {message}")
