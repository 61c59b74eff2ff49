"""The exchange's HTTP interface and archive, and the server of both and of the streams."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import uvicorn
import websockets.asyncio.server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .archive import Archive
from .market import INTERVALS, Market
from .streams import Streams


@dataclass(slots=True)
class Fault:
    """What the next requests whose path begins with the pattern ``path`` are answered with instead."""

    path: str
    status: int
    headers: dict[str, str]
    body: dict[str, object]
    times: int


class ExchangeServer:
    """Weights are counted per minute of the market's clock; above the limit 429, and 418 for who does not stop."""

    def __init__(self, now_ms: int) -> None:
        self.market = Market(now_ms)
        self.archive = Archive()
        self.streams = Streams(self.market)
        self.requests: list[str] = []
        self.weight_limit = 6000
        self.used: dict[int, int] = {}
        self._faults: list[Fault] = []
        self._refused = 0
        self.base_url = ""
        self.ws_url = ""

    def fail(self, path: str, status: int, *, times: int = 1, code: int = 0, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(path, status, named, {"code": code, "msg": "asked for"}, times))

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/v3/time", self._time),
                Route("/api/v3/klines", self._klines),
                Route("/data/{path:path}", self._file),
            ]
        )

    async def _time(self, request: Request) -> Response:
        return self._limited(request, 1) or self._json({"serverTime": self.market.now_ms()})

    async def _klines(self, request: Request) -> Response:
        if limited := self._limited(request, 2):
            return limited
        query = request.query_params
        key = (query["symbol"], query["interval"])
        if key[1] not in INTERVALS:
            return self._json({"code": -1120, "msg": "Invalid interval."}, 400)
        if key not in self.market.rows:
            return self._json({"code": -1121, "msg": "Invalid symbol."}, 400)
        end = int(query["endTime"]) if "endTime" in query else None
        limit = min(int(query.get("limit", 500)), 1000)
        return self._json(self.market.klines(*key, int(query["startTime"]), end, limit))

    def _json(self, body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        weight = {"x-mbx-used-weight-1m": str(self.used.get(self.market.now_ms() // 60_000, 0))}
        return JSONResponse(body, status, weight | (headers or {}))

    def _limited(self, request: Request, weight: int) -> Response | None:
        self.requests.append(f"{request.url.path}?{request.url.query}")
        minute = self.market.now_ms() // 60_000
        self.used[minute] = self.used.get(minute, 0) + weight
        if fault := self._fault(request):
            return fault
        if self.used[minute] <= self.weight_limit:
            self._refused = 0
            return None
        self._refused += 1
        wait = str(60 - self.market.now_ms() // 1000 % 60)
        body = {"code": -1003, "msg": "Too many requests"}
        return self._json(body, 429 if self._refused < 3 else 418, {"retry-after": wait})

    def _fault(self, request: Request) -> Response | None:
        for fault in self._faults:
            if fault.times and re.match(fault.path, request.url.path):
                fault.times -= 1
                return self._json(fault.body, fault.status, fault.headers)
        return None

    async def _file(self, request: Request) -> Response:
        path = request.url.path
        self.requests.append(f"{path} {request.headers.get('range', '')}".strip())
        if fault := self._fault(request):
            return fault
        if path not in self.archive.files:
            return Response("<Error><Code>NoSuchKey</Code></Error>", 404)
        content = self.archive.files[path]
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        wanted = re.match(r"bytes=(\d+)-", request.headers.get("range", ""))
        start = int(wanted[1]) if wanted and request.headers.get("if-range") == tag else 0
        if start >= len(content):
            return Response(status_code=416, headers={"content-range": f"bytes */{len(content)}"})
        headers = {"etag": tag, "content-length": str(len(content) - start)}
        if start:
            headers["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut, is_unended = self.archive.cut(path), self.archive.is_unended(path)
        if is_unended:
            del headers["content-length"]
        return StreamingResponse(self._chunks(content[start:], cut, is_unended), 206 if start else 200, headers)

    async def _chunks(self, content: bytes, cut: int | None, is_unended: bool) -> AsyncIterator[bytes]:
        for offset in range(0, len(content) if cut is None else cut, 4096):
            yield content[offset : offset + 4096]
            await asyncio.sleep(0)
        if is_unended:
            raise ConnectionAbortedError
        # Less than the length that was announced: the server ends the connection.


@contextlib.asynccontextmanager
async def running_exchange(now_ms: int) -> AsyncIterator[ExchangeServer]:
    """An exchange on free ports of the loopback."""
    exchange = ExchangeServer(now_ms)
    config = uvicorn.Config(exchange.app(), port=0, lifespan="off", ws="none", log_config=None, loop="none")
    server = uvicorn.Server(config)
    async with websockets.asyncio.server.serve(exchange.streams.serve, "127.0.0.1", 0) as streams:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.005)
        exchange.base_url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        exchange.ws_url = f"ws://127.0.0.1:{next(iter(streams.sockets)).getsockname()[1]}"
        try:
            yield exchange
        finally:
            server.should_exit = server.force_exit = True
            await serving
