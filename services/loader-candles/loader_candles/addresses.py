"""Which addresses a source may have: never those behind which a cloud keeps its credentials.

Loopback and private addresses are allowed: an exchange's mirror may be there.
"""

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from streamforge_utils.errors import ConfigurationError

_METADATA_HOSTS = frozenset({"metadata", "metadata.google.internal"})
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def refuse(url: str, address: str) -> None:
    """Checks one address of the host of ``url``.

    Raises:
        ConfigurationError: it is link-local or a metadata service's.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    if ip.is_link_local or ip in _METADATA:
        raise ConfigurationError(f"{url}: the address {ip} is link-local or a metadata service's, and refused")


async def check(url: str) -> None:
    """Looks the host of ``url`` up and checks every address it has. A name that has none is left to the connect.

    Raises:
        ConfigurationError: the host is, or one of its addresses is, link-local or a metadata service's.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if host in _METADATA_HOSTS:
        raise ConfigurationError(f"{url}: the host {host} is a metadata service, and refused")
    try:
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except ValueError as error:
        raise ConfigurationError(f"{url}: not an address ({error})") from error
    except OSError:
        return
    for *_, address in found:
        refuse(url, str(address[0]))
