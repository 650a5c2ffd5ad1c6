"""The local exchange: Bybit v5's public stream on a port of this machine, from captures or a simulation.

The demo, the tests and the benchmarks connect to it over a real socket, with the same subscriber that
connects to Bybit. It answers `instruments-info`, `full_orderbook` and `healthz` over HTTP on the
same port.
"""

import asyncio
import logging
import socket
import time
from dataclasses import asdict, dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self, cast
from urllib.parse import parse_qsl, urlsplit

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from lob.bybit import book_topic
from lob.errors import InputError
from lob.messages import WHOLE_BOOK
from serve.bybit_stream import CATEGORIES, Category, category_of
from serve.bybit_whole_book import SNAPSHOT_PATH
from serve.exchange_client import ExchangeClient, ExchangeCounters
from serve.fault_injection import FaultInjector
from serve.fault_journal import BookJournal, FaultJournal
from serve.fault_plan import FaultPlan, FaultRule
from serve.instruments_info import instruments_info
from serve.listener import address_of, listen
from serve.listing import Listing
from serve.outbox import CLOSING_S, Outbox
from serve.playback import Ending, Pace, Player, Timeline
from serve.whole_book_market import WholeBookDesk, changes_alone
from serve.wire_faults import FaultyConnection

logger = logging.getLogger(__name__)

STREAM_PATH = "/v5/public/"
INSTRUMENTS_PATH = "/v5/market/instruments-info"
HEALTH_PATH = "/healthz"
MAXIMUM_REQUEST_BYTES = 64 * 1024
"""A longer message of a client ends its connection (1009); Bybit allows 21,000 characters of topics."""

HANDSHAKE_S = 3.0
"""How long a connection may take to say what it wants."""

IDLE_SCAN_S = 30.0
"""How often idle connections are looked for, at the least."""

REOPENING_S = 0.1
"""After so long a port that was given up is asked for again."""

# Websocket close codes.
NORMAL_CLOSURE, GOING_AWAY = 1000, 1001


@dataclass(frozen=True, kw_only=True)
class ExchangeConfiguration:
    """How the exchange plays its markets, and what it allows a client. Port 0 is any free one."""

    host: str = "127.0.0.1"
    port: int = 9001
    pace: Pace = field(default_factory=Pace)
    ending: Ending = "idle"
    drop_every: int | None = None
    """Send none of every n-th delta of a topic: a rule before those of `faults`."""
    maximum_waiting_frames: int = 4_096
    """A client for whom more wait is too slow, and its connection is ended."""
    patience_s: float = 30.0
    """At the pace of the subscribers: how long the market waits for one that takes nothing."""
    idle_s: float = 600.0
    """A connection on which neither the client nor the exchange says anything for so long is ended: ten
    minutes at Bybit, where neither ping nor stream data came (documentation v5, "Connect")."""
    maximum_connections: int = 1_000
    """More are answered with HTTP 403; Bybit's limit for an address and category."""
    faults: FaultPlan = field(default_factory=FaultPlan)
    fault_log: Path | None = None
    book_log: Path | None = None
    kept_books: int = 0
    """Of how many updates of each topic the exchange's own book can be asked for."""

    def __post_init__(self) -> None:
        if not self.idle_s > 0:
            raise InputError(f"idle_s: {self.idle_s} came; allowed: a number of seconds above 0")
        if self.maximum_connections < 1:
            raise InputError(f"maximum_connections: {self.maximum_connections} came; allowed: 1 and above")


class Exchange:
    """A running exchange, as an asynchronous context manager.

    Entering it listens (InputError where the port is taken); leaving it ends all connections. `ended` is set
    when the markets are played out and their connections closed, which happens with the ending "close" alone;
    `failure` then is what made a market end early, such as the CaptureError of a damaged capture.
    """

    def __init__(self, listing: Listing, configuration: ExchangeConfiguration) -> None:
        configuration.faults.check_topics(listing.topics)
        self.faults = FaultJournal(configuration.fault_log)
        """Which faults were injected so far."""
        try:
            self.books = BookJournal(kept=configuration.kept_books, path=configuration.book_log)
            """The exchange's own book at each update."""
        except InputError:
            self.faults.discard()
            raise
        plan = configuration.faults
        if configuration.drop_every is not None:
            plan = replace(plan, rules=(FaultRule(kind="drop", every=configuration.drop_every), *plan.rules))
        self._injector = FaultInjector(
            plan,
            speed=configuration.pace.speed,
            on_injection=self.faults.record,
            is_heard=lambda topic: self.timelines[topic].is_heard,
        )
        faults = (changes_alone,) if plan.is_empty else (self._injector.inject, changes_alone)
        self._desk = WholeBookDesk(self._injector.snapshot_fault, keeps_past="old-snapshot" in plan.kinds)
        self.listing = listing
        self.counters = ExchangeCounters()
        self.ended = asyncio.Event()
        self.failure: Exception | None = None
        self.host, self.port = configuration.host, configuration.port
        self._configuration = configuration
        self._clients: set[ExchangeClient] = set()
        self._servers: list[Server] = []
        self._is_refusing = False
        self._refusal: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._finishing: asyncio.Task[None] | None = None
        opening_turn = asyncio.Lock()
        self._players = [
            Player(
                market.topics,
                market.open_frames,
                pace=configuration.pace,
                ending=configuration.ending,
                faults=faults,
                opening=self._injector.opening,
                on_applied=self._on_applied if self.books.is_needed or self._desk.keeps_past else None,
                on_refusal=self.refuse,
                on_end=self._on_market_end,
                opening_turn=opening_turn,
            )
            for market in listing.markets
        ]
        self.timelines = {
            topic: timeline for player in self._players for topic, timeline in player.timelines.items()
        }

    def url(self, category: Category = "linear") -> str:
        """The address of one category's stream; every category serves the same topics."""
        return f"ws://{self.host}:{self.port}{STREAM_PATH}{category}"

    async def __aenter__(self) -> Self:
        try:
            listener = listen(self._configuration.host, self._configuration.port)
        except InputError:
            self.faults.discard()
            self.books.discard()
            raise
        self.host, self.port = address_of(listener)
        self._servers = [await self._open(listener)]
        self._sweeper = asyncio.create_task(self._end_idle_connections(), name="exchange idle connections")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._servers, "left before it was entered"
        for task in (self._finishing, self._refusal, self._sweeper):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for player in self._players:
            await player.stop()
        outboxes = [client.outbox for client in self._clients]
        await asyncio.gather(*(outbox.cut(GOING_AWAY, "the exchange is stopping") for outbox in outboxes))
        for server in self._servers:
            server.close(code=GOING_AWAY, reason="the exchange is stopping")
            await server.wait_closed()
        self._close_journals()

    def refuse(self, seconds: float) -> None:
        """End all connections without a word, and refuse new ones for so long."""
        if self._refusal is None or self._refusal.done():
            self._refusal = asyncio.create_task(self._refuse(seconds), name="exchange refusal")

    def _close_journals(self) -> None:
        self.faults.close()
        self.books.close()

    async def _open(self, listener: socket.socket) -> Server:
        # Handshakes that fail are the client's affair; what goes wrong in `_serve` is logged there.
        silent = logging.getLogger(f"{__name__}.handshakes")
        silent.setLevel(logging.CRITICAL)
        return await serve(
            self._serve,
            sock=listener,
            create_connection=FaultyConnection,
            process_request=self._answer_http,
            compression=None,
            max_size=MAXIMUM_REQUEST_BYTES,
            ping_interval=None,  # Bybit sends none
            open_timeout=HANDSHAKE_S,
            close_timeout=CLOSING_S,
            logger=silent,
        )

    async def _refuse(self, seconds: float) -> None:
        until_s = asyncio.get_running_loop().time() + seconds
        self._is_refusing = True
        (server,) = self._servers
        server.close(close_connections=False)
        for client in self._clients:
            client.connection.transport.abort()
        try:
            # A connection whose handshake is under way ends as soon as it stands, see `_serve`.
            async with asyncio.timeout_at(until_s):
                await server.wait_closed()
        except TimeoutError:
            logger.info("a connection is still in its handshake; listening again all the same")
        await asyncio.sleep(max(0.0, until_s - asyncio.get_running_loop().time()))
        while True:
            try:
                listener = listen(self._configuration.host, self.port)
                break
            except InputError as error:  # somebody else has the port for a moment
                logger.warning("cannot listen again yet: %s", error)
                await asyncio.sleep(REOPENING_S)
        self._is_refusing = False
        self._servers = [await self._open(listener)]

    async def _end_idle_connections(self) -> None:
        clock = asyncio.get_running_loop().time
        idle_s = self._configuration.idle_s
        while True:
            await asyncio.sleep(min(idle_s / 4, IDLE_SCAN_S))
            for client in tuple(self._clients):
                if clock() - max(client.asked_s, client.outbox.sent_s) >= idle_s:
                    self.counters.idle += 1
                    await client.outbox.cut(NORMAL_CLOSURE, f"nothing was said for {idle_s:g} s")

    async def _serve(self, connection: ServerConnection) -> None:
        """One client, from its handshake to its end."""
        assert connection.request is not None, "a connection without a handshake"
        if self._is_refusing:
            connection.transport.abort()
            return
        category = cast(Category, category_of(connection.request.path))
        configuration = self._configuration
        outbox = Outbox(
            connection,
            maximum_frames=configuration.maximum_waiting_frames,
            patience_s=configuration.patience_s,
            on_overrun=self._count_overrun,
        )
        rejects = self._injector.rejects
        client = ExchangeClient(category, connection, self.timelines, outbox, self.counters, rejects=rejects)
        self._clients.add(client)
        self.counters.connections += 1
        writer = asyncio.create_task(outbox.run(), name="exchange outbox")
        try:
            async for message in connection:
                client.answer(message)
        except ConnectionClosed as error:
            logger.info("connection %s lost: %s", connection.id, error)
        except Exception:  # a defect: the server's own log of it is silent
            logger.exception("connection %s ended by an error", connection.id)
        finally:
            client.leave_all()
            self._clients.discard(client)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def _answer_http(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        """The response to a plain HTTP request; None lets a websocket handshake go on."""
        parts = urlsplit(request.path)
        if parts.path.startswith(STREAM_PATH) and category_of(parts.path) is not None:
            if len(self._clients) < self._configuration.maximum_connections:
                return None
            self.counters.turned_away += 1
            body = msgspec.json.encode(
                {"error": f"{len(self._clients)} connections stand; no more are allowed"}
            )
            return _json_response(HTTPStatus.FORBIDDEN, body)
        if parts.path == HEALTH_PATH:
            health = {
                "status": "ok",
                "topics": list(self.timelines),
                "source": self.listing.source,
                "counters": asdict(self.counters),
                "faults": dict(self.faults.counts),
            }
            return _json_response(HTTPStatus.OK, msgspec.json.encode(health))
        query = dict(parse_qsl(parts.query))
        if parts.path == SNAPSHOT_PATH:
            timeline = self.timelines.get(book_topic(WHOLE_BOOK, query.get("symbol", "")))
            return _json_response(*self._desk.answer(timeline, query, time.time_ns() // 1_000_000))
        if parts.path == INSTRUMENTS_PATH:
            body = instruments_info(self.listing.instruments, query, time.time_ns() // 1_000_000)
            return _json_response(HTTPStatus.OK, body)
        streams = [STREAM_PATH + category for category in CATEGORIES]
        places = [*streams, INSTRUMENTS_PATH, SNAPSHOT_PATH, HEALTH_PATH]
        body = msgspec.json.encode({"error": f"{parts.path} is not here; {', '.join(places)} are"})
        return _json_response(HTTPStatus.NOT_FOUND, body)

    def _on_applied(self, timeline: Timeline) -> None:
        """A topic's book has followed a frame of its market."""
        if self.books.is_needed:
            self.books.record(timeline)
        if self._desk.keeps_past:
            self._desk.follow(timeline)

    def _count_overrun(self) -> None:
        self.counters.overruns += 1

    def _on_market_end(self, failure: Exception | None) -> None:
        self.failure = self.failure or failure
        running = any(player.is_running for player in self._players)
        if self._configuration.ending == "close" and not running:
            self._finishing = asyncio.create_task(self._finish(), name="exchange finish")

    async def _finish(self) -> None:
        """Send what waits, close every connection, and say that it is over."""
        for client in self._clients:
            client.outbox.close(NORMAL_CLOSURE, "the market has ended")
        deadline_s = asyncio.get_running_loop().time() + self._configuration.patience_s
        while self._clients and asyncio.get_running_loop().time() < deadline_s:
            await asyncio.sleep(0.01)
        self.ended.set()


def _json_response(status: HTTPStatus, body: bytes) -> Response:
    headers = Headers(
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
    )
    return Response(status.value, status.phrase, headers, body)
