"""Binance's combined stream and REST snapshots over the simulated market, on a thread of its own."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from lob.book_digest import book_digest
from lob.market import MarketConfiguration, SimulatedMarket

TICKS_A_UNIT = 10
"""The simulated BTCUSDT has a tick of 0.10."""


class BinanceMarket:
    """A market that goes on by itself: each message every 2 ms to whoever is connected, a trade now and then.

    `digests` are those of its own book at each update, `trades` the ones printed, by id. A test may have
    single messages dropped (`drop`, by number) and old snapshots answered (`stale_snapshots`).
    """

    def __init__(self, category: str = "linear", *, messages: int = 20_000) -> None:
        self.category = category
        self.url = ""
        self.digests: dict[int, int] = {}
        self.trades: dict[str, int] = {}
        self.paths: list[str] = []
        self.sent = 0
        self.drop: set[int] = set()
        self.stale_snapshots = 0
        self._frames = [
            json.loads(frame) for _, frame in SimulatedMarket(MarketConfiguration(seed=3)).generate(messages)
        ]
        self._sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}
        self._update_id = 5_000
        self._first_snapshot = b""
        self._connections: set[ServerConnection] = set()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    async def _run(self) -> None:
        async with serve(
            self._handle, "127.0.0.1", 0, process_request=self._answer, compression=None, close_timeout=0.1
        ) as server:
            host, port = server.sockets[0].getsockname()
            self.url = f"ws://{host}:{port}"
            market = asyncio.create_task(self._go_on())
            await self._stop.wait()
            market.cancel()

    async def _go_on(self) -> None:
        began_s = self._loop.time()
        for number, frame in enumerate(self._frames):
            text = self._next_change(frame["data"])
            if number == 0:
                self._first_snapshot = self._snapshot()
                self._ready.set()
            await self._publish(text, number)
            if number % 5 == 0:
                await self._publish(self._next_trade(number), -1)
            await asyncio.sleep(max(0, began_s + number / 500 - self._loop.time()))

    async def _publish(self, text: str, number: int) -> None:
        if number in self.drop:
            return
        for connection in list(self._connections):
            try:
                await connection.send(text)
                self.sent += 1
            except Exception:  # killed meanwhile
                self._connections.discard(connection)

    def _next_change(self, data: dict) -> str:
        former, self._update_id = self._update_id, self._update_id + 3
        for side, levels in self._sides.items():
            for price, size in data[side]:
                if float(size):
                    levels[price] = size
                else:
                    levels.pop(price, None)
        arrays = []
        for side in ("b", "a"):
            arrays.append(
                np.array([round(float(price) * TICKS_A_UNIT) for price in self._sides[side]], float)
            )
            arrays.append(np.array([float(size) for size in self._sides[side].values()]))
        self.digests[self._update_id] = book_digest(*arrays)
        now_ms = time.time_ns() // 1_000_000
        event = {"e": "depthUpdate", "E": now_ms, "s": "BTCUSDT", "U": former + 1}
        if self.category == "linear":
            event |= {"T": now_ms - 1, "pu": former}
        event |= {"u": self._update_id, "b": data["b"], "a": data["a"]}
        return json.dumps({"stream": "btcusdt@depth@100ms", "data": event}, separators=(",", ":"))

    def _next_trade(self, number: int) -> str:
        now_ms = time.time_ns() // 1_000_000
        name, key = ("trade", "t") if self.category == "spot" else ("aggTrade", "a")
        self.trades[str(number + 1)] = now_ms
        event = {"e": name, "E": now_ms, "s": "BTCUSDT", key: number + 1, "p": "60000.10", "q": "0.5"}
        event |= {"T": now_ms, "m": bool(number % 2)}
        return json.dumps({"stream": f"btcusdt@{name}", "data": event}, separators=(",", ":"))

    def _snapshot(self) -> bytes:
        levels = {side: [list(level) for level in self._sides[side].items()] for side in ("b", "a")}
        return json.dumps(
            {"lastUpdateId": self._update_id, "bids": levels["b"], "asks": levels["a"]}
        ).encode()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        self.paths.append(request.path)
        if path == "/stream":
            return None
        assert path == ("/api/v3/depth" if self.category == "spot" else "/fapi/v1/depth")
        body = self._snapshot()
        if self.stale_snapshots:
            self.stale_snapshots -= 1
            body = self._first_snapshot
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
        return Response(HTTPStatus.OK, "OK", headers, body)

    async def _handle(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            self._connections.discard(connection)


@contextmanager
def run_binance_market(category: str = "linear") -> Iterator[BinanceMarket]:
    """The market until the block ends."""
    market = BinanceMarket(category)
    market._thread.start()
    try:
        assert market._ready.wait(10)
        yield market
    finally:
        market._loop.call_soon_threadsafe(market._stop.set)
        market._thread.join()
        market._loop.close()
