"""A real server that speaks Binance's combined stream and its REST routes on one port."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response


class BinanceVenue:
    """Sends what the test says; requests on a stream are acknowledged."""

    def __init__(self) -> None:
        self.url = ""
        self.connections: list[ServerConnection] = []
        self.paths: list[str] = []
        self.asked: list[tuple[str, float]] = []
        """Of which symbol each REST request was, and when it came."""
        self.requests: list[dict] = []
        self.answer: Callable[[str, dict], tuple[int, bytes]] = lambda path, query: (404, b"{}")
        self.headers: dict[str, str] = {}
        """What REST answers say besides."""
        self.answering = asyncio.Event()
        """While it is not set, REST requests wait for their answer."""
        self.answering.set()

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for text in connection:
            self.requests.append(json.loads(text))
            await connection.send(json.dumps({"result": None, "id": self.requests[-1]["id"]}))

    async def answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        self.paths.append(request.path)
        if parts.path == "/stream":
            return None
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append((query.get("symbol", ""), asyncio.get_running_loop().time()))
        await self.answering.wait()
        status, body = self.answer(parts.path, query)
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close", **self.headers})
        return Response(status, "any", headers, body)

    def snapshots_asked(self, symbol: str = "") -> int:
        return sum(f"/depth?symbol={symbol}" in path for path in self.paths)

    def subscriptions(self) -> list[tuple[str, str]]:
        """What was asked for on the streams, in words."""
        return [(request["method"], *request["params"]) for request in self.requests]

    async def play(self, frames: list[bytes]) -> None:
        for frame in frames:
            await self.connections[-1].send(frame, text=True)
            await asyncio.sleep(0)


@asynccontextmanager
async def run_binance() -> AsyncIterator[BinanceVenue]:
    venue = BinanceVenue()
    async with serve(
        venue.handle, "127.0.0.1", 0, process_request=venue.answer_http, compression=None, close_timeout=0.2
    ) as server:
        host, port = server.sockets[0].getsockname()
        venue.url = f"ws://{host}:{port}"
        try:
            yield venue
        finally:
            venue.answering.set()
