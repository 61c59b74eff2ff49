"""``python -m streamforge_local.stack.relay``: lets pods in, at one address of this machine and a few ports of it.

The parts of the stack listen on loopback alone. What connects to a port here is connected to the same port there; not
a byte is looked at.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from functools import partial

from streamforge_local.ports import LOOPBACK

CHUNK = 1 << 18


async def serve(host: str, ports: Sequence[int], stop: asyncio.Event, *, to: str = LOOPBACK) -> None:
    """Relay until ``stop`` is set; raises OSError when the address cannot be taken."""
    servers: list[asyncio.Server] = []
    try:
        for port in ports:
            servers.append(await asyncio.start_server(partial(_relay, to, port), host, port))  # noqa: PERF401 - see finally
        await stop.wait()
    finally:
        # connections are not waited for: a worker's lasts as long as the worker
        for server in servers:
            server.close()


async def _relay(to: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, until both sides have said all or one of them broke, which the other then sees as broken too."""
    try:
        inner_reader, inner_writer = await asyncio.open_connection(to, port)
    except OSError:
        writer.transport.abort()
        return
    try:
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
    except OSError:
        for broken in (writer, inner_writer):
            broken.transport.abort()
    finally:
        for end in (writer, inner_writer):
            end.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _run(host: str, ports: Sequence[int]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(host, ports, stop)


def main() -> int:
    """Until SIGTERM; 1 and the reason when the address cannot be taken."""
    parser = argparse.ArgumentParser(prog="python -m streamforge_local.stack.relay", description=__doc__)
    parser.add_argument("--host", required=True, help="address to listen on")
    parser.add_argument("ports", nargs="+", type=int)
    given = parser.parse_args()
    try:
        asyncio.run(_run(given.host, given.ports))
    except OSError as error:
        sys.stderr.write(f"{error.strerror or error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
