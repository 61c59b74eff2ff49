"""An HTTP caller that costs next to nothing, so that the load's own work is not measured (HTTP/1.1, RFC 9112)."""

import asyncio
from typing import Self
from urllib.parse import urlsplit


class Caller:
    """One kept connection; requests one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect to the server of a URL."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port), parts.netloc)

    async def post(self, path: str, body: bytes) -> int:
        """The answer's status; its body is read and forgotten."""
        return (await self.call("POST", path, body))[0]

    async def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """The answer's status and body."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        return int(lines[0].split()[1]), await self._reader.readexactly(length)

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        await self._writer.wait_closed()
