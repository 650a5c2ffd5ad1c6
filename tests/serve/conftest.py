"""Real sockets for this folder's tests: the application on a free port, over a hub the test publishes to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from inference.artifact import load_artifact, write_artifact
from inference.graph_interface import graph_metadata
from inference.model_store import ModelStore
from inference.prediction import HorizonPrediction, Prediction
from lob.market import MarketConfiguration, SimulatedMarket
from lob.sync import SymbolState
from serve.app import create_app
from serve.clock import AnchoredClock
from serve.http_protocol import ConnectionLimits
from serve.hub import Hub
from serve.listener import address_of, listen
from serve.responses import BookView, Level, ModelList, SymbolList
from serve.server import Server
from serve.stream import StreamLimits, StreamServer
from serve.turns import Turns
from tests.tiny_model import WINDOW_LENGTH, tiny_manifest, tiny_model
from tests.versions import as_version
from training.graph import graph_bytes


def make_prediction(
    *, symbol: str = "BTCUSDT", update_id: int = 1, receive_ns: int = 1, mid: float = 100.5
) -> Prediction:
    """A well-formed prediction; the hub stamps its emit time."""
    return Prediction(
        symbol=symbol,
        model="made-by-a-test",
        model_version="0",
        engine="none",
        precision="float32",
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
    *,
    symbols: tuple[str, ...] = ("BTCUSDT",),
    limits: StreamLimits | None = None,
    connection_limits: ConnectionLimits | None = None,
    metrics: list[bytes] | None = None,
) -> AsyncIterator[RunningApp]:
    """The application on a free port until the block ends, then stopped as the service stops it.

    `metrics` are the pieces of the page of metrics.
    """
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

    async def list_models() -> ModelList:
        return ModelList([])

    async def list_symbols() -> SymbolList:
        return SymbolList([])

    async def metrics_page() -> list[bytes]:
        return metrics or []

    app = create_app(
        hub=hub,
        streams=streams,
        list_models=list_models,
        books={symbol: book(symbol) for symbol in symbols},
        list_symbols=list_symbols,
        metrics_page=metrics_page,
        turns=Turns(),
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
    server = Server(app, listener, last_words, connection_limits or ConnectionLimits())
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


class ScriptedExchange:
    """A real websocket server that speaks Bybit's requests and pushes what the test tells it to.

    Each subscription is acknowledged and answered with a snapshot, unless the test says otherwise.
    """

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.connections: list[ServerConnection] = []
        self.snapshots = True
        self.pongs = True
        self.acknowledge: Callable[[dict], dict | None] = lambda request: {
            "success": True,
            "ret_msg": "",
            "conn_id": "test",
            "req_id": request.get("req_id", ""),
            "op": request["op"],
        }
        self.url = ""
        self.update_id = 1_000
        self._arrived = asyncio.Event()

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for text in connection:
            request = json.loads(text)
            self.requests.append(request)
            self._arrived.set()
            if request["op"] == "ping" and not self.pongs:
                continue
            if request["op"] == "ping":
                await connection.send('{"success":true,"ret_msg":"pong","conn_id":"test","op":"ping"}')
                continue
            reply = self.acknowledge(request)
            if reply is not None:
                await connection.send(json.dumps(reply))
                if reply["success"] and request["op"] == "subscribe" and self.snapshots:
                    await self.push("snapshot", [["100.0", "1"]], [["100.1", "2"]])

    async def push(self, kind: str, bids: list, asks: list, *, skip: int = 0) -> None:
        self.update_id += 1 + skip
        frame = {
            "topic": "orderbook.50.BTCUSDT",
            "type": kind,
            "ts": 1_700_000_000_000 + self.update_id,
            "data": {"s": "BTCUSDT", "b": bids, "a": asks, "u": self.update_id, "seq": self.update_id},
            "cts": 1_700_000_000_000 + self.update_id,
        }
        await self.connections[-1].send(json.dumps(frame, separators=(",", ":")))

    async def play(self, frames: Iterable[bytes], pause_s: float = 0.0) -> None:
        """Sends frames as they are, as text."""
        for frame in frames:
            await self.connections[-1].send(frame, text=True)
            await asyncio.sleep(pause_s)

    def asked(self) -> list[tuple[str, str]]:
        """What was asked of which topic, in order; a request may name several."""
        return [(request["op"], topic) for request in self.requests for topic in request.get("args", [])]

    def operations(self) -> list[str]:
        return [request["op"] for request in self.requests]


@asynccontextmanager
async def run_scripted_exchange(port: int = 0) -> AsyncIterator[ScriptedExchange]:
    exchange = ScriptedExchange()
    async with serve(exchange.handle, "127.0.0.1", port, compression=None, close_timeout=0.2) as server:
        host, port = server.sockets[0].getsockname()
        exchange.url = f"ws://{host}:{port}/v5/public/linear"
        yield exchange


@pytest.fixture
def scripted_exchange() -> Callable[..., object]:
    """`async with scripted_exchange() as exchange:` runs a server whose every push the test decides."""
    return run_scripted_exchange


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one artifact, `tiny`: one SSD layer with random weights, exported as any other."""
    model = tiny_model("ssd", layers=1, seed=11)
    streams = [{"symbol": "BTCUSDT", "thresholds": [1e-6, 5e-6, 1e-5]}]
    manifest = tiny_manifest(model, "tiny", details={"run": {"streams": streams}})
    graphs = graph_bytes(model, WINDOW_LENGTH, graph_metadata(manifest))
    folder = tmp_path_factory.mktemp("models")
    write_artifact(
        folder / "tiny",
        manifest,
        graphs,
        card="# tiny\n",
    )
    return folder


@pytest.fixture(scope="session")
def market_frames() -> list[bytes]:
    """The first 600 frames of the simulated market: BTCUSDT, 50 levels, a tick of 0.10."""
    return [frame for _, frame in SimulatedMarket(MarketConfiguration(seed=5)).generate(600)]


@pytest.fixture(scope="session")
def version_sources(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Versions 1, 2 and 3 of `tiny`, of different weights, each in a directory; not to be changed."""
    tiny = load_artifact(models_dir / "tiny")
    graphs = {kind: (tiny.directory / f"{kind}.onnx").read_bytes() for kind in tiny.manifest.graphs}
    folder = tmp_path_factory.mktemp("sources")
    for version in "123":
        manifest, relabelled = as_version(tiny.manifest, graphs, version=version)
        write_artifact(folder / version, manifest, relabelled, card="")
    return {version: folder / version for version in "123"}


@pytest.fixture
def versions_dir(version_sources: dict[str, Path], tmp_path: Path) -> Path:
    """A directory of models with those versions installed, 1 active."""
    store = ModelStore(tmp_path / "versions")
    for source in version_sources.values():
        store.install(source)
    return store.directory
