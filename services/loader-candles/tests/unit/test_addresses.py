import asyncio

import pytest

from loader_candles import addresses
from loader_candles.web_client import WebClient
from streamforge_utils.errors import ConfigurationError


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://169.254.1.2:8080",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:169.254.169.254]/",
        "http://100.100.100.200",
        "http://metadata.google.internal/computeMetadata/v1",
        "http://METADATA.google.internal.",
        "ws://169.254.169.254",
        "http://2852039166",  # 169.254.169.254 as one number
        "http://0xa9fea9fe",
    ],
)
async def test_link_local_and_metadata_addresses_are_refused(url):
    with pytest.raises(ConfigurationError, match="refused"):
        await addresses.check(url)
    with pytest.raises(ConfigurationError, match="refused"):
        await WebClient(url, timeout_s=1).open()


async def test_a_name_is_refused_by_what_it_resolves_to(monkeypatch):
    async def resolve(host, port, **_):
        return [(2, 1, 6, "", ("93.184.216.34", port)), (2, 1, 6, "", ("169.254.169.254", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(ConfigurationError, match=r"169\.254\.169\.254 is link-local"):
        await addresses.check("https://innocent.example")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://[::1]:1", "http://10.0.0.1", "http://localhost"])
async def test_loopback_and_private_addresses_are_allowed(url):
    await addresses.check(url)


async def test_a_port_that_is_none_is_told():
    with pytest.raises(ConfigurationError, match="not an address"):
        await addresses.check("http://127.0.0.1:99999")
