"""Real sockets for this folder's tests: the application on a free port, over a hub the test publishes to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from inference.prediction import HorizonPrediction, Prediction
from lob.sync import SymbolState
from serve.app import create_app
from serve.clock import AnchoredClock
from serve.hub import Hub
from serve.responses import BookView, Level, ModelList
from serve.server import Server, address_of, listen
from serve.stream import StreamLimits, StreamServer


def make_prediction(
    *, symbol: str = "BTCUSDT", update_id: int = 1, receive_ns: int = 1, mid: float = 100.5
) -> Prediction:
    """A well-formed prediction; the hub stamps its emit time."""
    return Prediction(
        symbol=symbol,
        model="made-by-a-test",
        engine="none",
        update_id=update_id,
        exchange_ms=1_700_000_000_000,
        receive_ns=receive_ns,
        emit_ns=0,
        latency_us=0,
        mid=mid,
        horizons=[HorizonPrediction(10, 1, 0.5, [0.2, 0.3, 0.5])],
    )


@pytest.fixture(scope="session")
def prediction() -> Callable[..., Prediction]:
    """Makes predictions."""
    return make_prediction


@dataclass
class RunningApp:
    """The application while it serves; the test is its publisher."""

    hub: Hub
    streams: StreamServer
    server: Server
    host: str
    port: int
    clock: AnchoredClock
    task: asyncio.Task[None] = field(repr=False)

    @property
    def http(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def stream(self) -> str:
        return f"ws://{self.host}:{self.port}/v1/stream"

    def go_live(self, symbol: str = "BTCUSDT") -> None:
        self.hub.publish_state(symbol, SymbolState.LIVE, "")

    def publish(self, update_id: int, symbol: str = "BTCUSDT") -> None:
        now_ns = self.clock.now_ns()
        self.hub.publish(make_prediction(symbol=symbol, update_id=update_id, receive_ns=now_ns))


@asynccontextmanager
async def run_app(
    *, symbols: tuple[str, ...] = ("BTCUSDT",), limits: StreamLimits | None = None
) -> AsyncIterator[RunningApp]:
    """The application on a free port until the block ends, then stopped as the service stops it."""
    clock = AnchoredClock()
    hub = Hub(list(symbols), clock)
    streams = StreamServer(hub, limits or StreamLimits())

    def book(symbol: str) -> Callable[[int], BookView]:
        return lambda levels: BookView(
            symbol, 7, 1, [Level(100.0, 1.0)][:levels], [Level(101.0, 2.0)][:levels]
        )

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(streams.sweep_forever())
        yield
        sweeper.cancel()

    app = create_app(
        hub=hub,
        streams=streams,
        models=ModelList([]),
        books={symbol: book(symbol) for symbol in symbols},
        render_metrics=lambda: b"",
        clock=clock,
        version="0",
        lifespan=lifespan,
    )

    async def last_words() -> None:
        for symbol in symbols:
            hub.publish_state(symbol, SymbolState.STALE, "the service is stopping")
        await streams.close_all(1001, "the service is stopping")

    listener = listen("127.0.0.1", 0)
    host, port = address_of(listener)
    server = Server(app, listener, last_words)
    task = asyncio.create_task(server.run_until_stopped())
    while not server.started:
        await asyncio.sleep(0.01)
        assert not task.done() or task.exception() is None
    try:
        yield RunningApp(hub, streams, server, host, port, clock, task)
    finally:
        server.stop()
        await task
        listener.close()


@pytest.fixture
def running_app() -> Callable[..., object]:
    """`async with running_app() as app:` runs the application."""
    return run_app
