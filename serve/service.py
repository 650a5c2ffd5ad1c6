"""The service: artifact, pipeline, feed, hub and application, wired in one process and one event loop."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI

from inference.artifact import Artifact, load_artifact
from inference.engines.engine import Engine
from inference.engines.selection import choose_engine, offered_precisions
from inference.pipeline import Pipeline
from inference.registry import known_models, load_model
from inference.rehearsal import warm_up
from lob.errors import ArtifactError, InputError
from lob.instrument import Instrument
from lob.trade_tape import TradeTape
from lob.venues import Venue, make_decoder
from serve.admin_access import AdminAccess, AdminToken
from serve.admin_routes import add_admin_routes
from serve.app import create_app
from serve.bybit_stream import public_address
from serve.clock import AnchoredClock
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.feed_policies import (
    IdlePolicy,
    LagPolicy,
    ResyncPolicy,
    SilencePolicy,
    SnapshotPolicy,
    StallPolicy,
)
from serve.frame_consumer import FrameConsumer
from serve.http_protocol import ConnectionLimits
from serve.hub import Hub
from serve.instrument_cache import InstrumentCache, InstrumentInfo
from serve.instrument_watch import ASK_TIMEOUT_S, InstrumentWatch
from serve.instruments import find_instrument
from serve.keep_warm import KeepWarmPolicy, WarmKeeper
from serve.listener import address_of, listen
from serve.metrics import ServiceMetrics
from serve.model_switcher import ModelSwitcher
from serve.publisher import PredictionPublisher
from serve.publisher_batch import BatchPolicy, publisher_batch
from serve.ready_model import ModelSource
from serve.reconnect import ReconnectPolicy
from serve.responses import ModelList, ModelSummary, SymbolList
from serve.server import Server
from serve.shadow_log import ShadowLog, ShadowLogConfig
from serve.stream import GOING_AWAY, StreamLimits, StreamServer
from serve.symbol_service import SymbolService
from serve.trade_consumer import TradeConsumer
from serve.turns import Turns
from serve.venue_stream import Topic
from serve.venue_topics import book_topic, trade_topic, venue_stream

logger = logging.getLogger(__name__)

STOPPING = "the service is stopping"

SYMBOLS_A_TURN = 8
"""Symbols described between two turns of the event loop, some twenty microseconds each."""

PLAIN_CONNECTIONS = 256
"""How many connections may stand beside the subscribers' own, for requests and for handshakes."""


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """What to serve, from where, with which model, and on which port.

    `tick_sizes` holds those of the symbols whose exchange need not be asked; `cache_dir` is where the
    answers of the exchange are kept for the time when it does not answer, None keeps none. `trades` takes the
    public trades in as well. `depth` is that of Bybit's topic, `lob.messages.WHOLE_BOOK` for all
    levels; Binance sends the whole book. `port` 0 takes any free one. Without `admin_token` no routes change
    models; `shadow_log` is where models in the shadow are written down, None only counts them. `batch` says
    where the steps of several symbols are one call.
    """

    symbols: tuple[str, ...]
    url: str
    category: str
    model: str
    venue: Venue = "bybit"
    depth: int = 50
    trades: bool = False
    models_dir: Path | None = None
    engine: str = "auto"
    precision: str = "float32"
    tick_sizes: Mapping[str, str] = field(default_factory=dict)
    cache_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    allow_plaintext: bool = False
    stall: StallPolicy = field(default_factory=StallPolicy)
    lag: LagPolicy = field(default_factory=LagPolicy)
    idle: IdlePolicy = field(default_factory=IdlePolicy)
    keep_warm: KeepWarmPolicy = field(default_factory=KeepWarmPolicy)
    batch: BatchPolicy = field(default_factory=BatchPolicy)
    reconnect: ReconnectPolicy = field(default_factory=ReconnectPolicy)
    resync: ResyncPolicy = field(default_factory=ResyncPolicy)
    silence: SilencePolicy = field(default_factory=SilencePolicy)
    snapshot: SnapshotPolicy = field(default_factory=SnapshotPolicy)
    limits: StreamLimits = field(default_factory=StreamLimits)
    admin_token: AdminToken | None = None
    shadow_log: ShadowLogConfig | None = None

    def __post_init__(self) -> None:
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise InputError(
                f"symbols: {', '.join(self.symbols) or 'none'} came; allowed: at least one, and each once"
            )
        for name, given in (("tick_sizes", self.tick_sizes), ("stall", self.stall.by_symbol)):
            strange = [symbol for symbol in given if symbol not in self.symbols]
            if strange:
                raise InputError(f"{name}: {', '.join(strange)} came; allowed: {', '.join(self.symbols)}")


class Service:
    """Predictions of some symbols, from an exchange's stream to subscribers.

    Making one does all that can fail: it takes the port, loads the model, asks for the instruments, compiles
    the kernels and warms the engines; every failure is a `MambalobError`. `run` then serves until `stop`.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self.clock = AnchoredClock()
        feed_config = FeedConfig(
            url=config.url,
            allow_plaintext=config.allow_plaintext,
            idle=config.idle,
            reconnect=config.reconnect,
            resync=config.resync,
            silence=config.silence,
            snapshot=config.snapshot,
        )
        topics = [book_topic(config.venue, symbol, config.depth) for symbol in config.symbols]
        self.hub = Hub(list(config.symbols), self.clock)
        self._listener = listen(config.host, config.port)
        try:
            self.artifact = load_model(config.model, config.models_dir)
            choose_engine(config.engine, self.artifact, config.precision)  # before the exchange is asked
            self.symbols = self._make_symbols(topics)
            batch = publisher_batch([one.publisher for one in self.symbols.values()], config.batch)
        except BaseException:
            self._listener.close()
            raise
        self.engine_name = next(iter(self.symbols.values())).pipeline.engine.name
        self.streams = StreamServer(self.hub, config.limits)
        self.feed = Feed(
            feed_config,
            self._consumers(),
            self.clock,
            venue=venue_stream(config.venue, config.url, config.category),
            batch=batch,
        )
        self._turns = Turns(lambda: self.feed.waiting_frames)
        self.warm_keeper = WarmKeeper(
            config.keep_warm, self.feed, [one.pipeline for one in self.symbols.values()]
        )
        self._instrument_watch = InstrumentWatch(
            {
                one.pipeline.rows.instrument: one.pipeline
                for symbol, one in self.symbols.items()
                if symbol not in config.tick_sizes  # what the operator says is not held against the exchange
            },
            self._ask_instrument,
        )
        self._failure: BaseException | None = None
        self.shadow_log = ShadowLog(config.shadow_log)
        self.switcher = ModelSwitcher(
            {symbol: one.publisher.models for symbol, one in self.symbols.items()},
            self.hub,
            ModelSource(
                models_dir=config.models_dir,
                engine=config.engine,
                precision=config.precision,
                venue=config.venue,
                depth=self._depth,
                turns=self._turns,
            ),
            shadow_sink=self.shadow_log.put,
            waiting_frames=lambda: self.feed.waiting_frames,
        )
        self._models_at_start = self._summaries(self.artifact)
        app = create_app(
            hub=self.hub,
            streams=self.streams,
            list_models=self._list_models,
            books={symbol: one.book for symbol, one in self.symbols.items()},
            list_symbols=self._list_symbols,
            metrics_page=self._metrics_page,
            turns=self._turns,
            clock=self.clock,
            version=version("mambalob"),
            lifespan=self._lifespan,
        )
        if config.admin_token is not None:
            access = AdminAccess(config.admin_token, time.monotonic)
            add_admin_routes(app, self.switcher, access, self._known_models, self._turns)
        limits = ConnectionLimits(connections=config.limits.connections + PLAIN_CONNECTIONS)
        self._server = Server(app, self._listener, self._say_last_words, limits)
        self._metrics = ServiceMetrics(
            symbols=self.symbols,
            feed=self.feed,
            hub=self.hub,
            streams=self.streams,
            server=self._server,
            warm_keeper=self.warm_keeper,
            shadow_log=self.shadow_log,
            clock=self.clock,
            information={
                "version": version("mambalob"),
                "precision": config.precision,
                "symbols": ",".join(config.symbols),
            },
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host, as a URL writes it, and port of the HTTP and websocket routes."""
        return address_of(self._listener)

    async def run(self) -> None:
        """Serve until `stop`, or until the feed fails for good: then its error is raised."""
        host, port = self.address
        logger.info(
            "serving %s with %s %s (%s, %s) on http://%s:%d, fed by %s",
            ", ".join(self.feed.subscriptions),
            self.artifact.name,
            self.artifact.manifest.version,
            self.engine_name,
            self.config.precision,
            host,
            port,
            public_address(self.config.url),
        )
        try:
            await self._server.run_until_stopped()
        finally:
            self._listener.close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Begin the graceful stop: subscribers are told, then closed with 1001."""
        self._server.stop()

    def close(self) -> None:
        """Give the port back; for a service that is not run."""
        self._listener.close()

    @property
    def _depth(self) -> int | None:
        """The depth of the book's topic, where the venue has several."""
        return self.config.depth if self.config.venue == "bybit" else None

    def _make_symbols(self, topics: Sequence[Topic]) -> dict[str, SymbolService]:
        """Every symbol; the first one's engine loads the model and is warmed up, the others share it."""
        symbols: dict[str, SymbolService] = {}
        engine: str | Engine = self.config.engine
        for topic in topics:
            made = symbols[topic.symbol] = self._make_symbol(topic, engine)
            if isinstance(engine, str):
                engine = made.pipeline.engine
                warm_up(made.pipeline)
        return symbols

    def _make_symbol(self, topic: Topic, engine: str | Engine) -> SymbolService:
        config = self.config
        instrument = self._find_instrument(topic.symbol)
        pipeline = Pipeline.create(
            self.artifact,
            instrument,
            engine=engine,
            precision=config.precision,
            venue=config.venue,
            depth=self._depth,
            stall_ms=config.stall.of(topic.symbol),
        )
        tape = TradeTape(instrument) if config.trades else None
        publisher = PredictionPublisher(pipeline, self.hub, lag=config.lag, tape=tape)
        trades = None if tape is None else TradeConsumer(make_decoder(config.venue), tape)
        return SymbolService(
            topic=topic,
            pipeline=pipeline,
            publisher=publisher,
            trades=trades,
            trade_topic=trade_topic(config.venue, topic.symbol, config.category) if config.trades else None,
        )

    def _find_instrument(self, symbol: str) -> Instrument:
        config = self.config
        tick_size = config.tick_sizes.get(symbol)
        if tick_size is not None:
            return Instrument(symbol=symbol, tick_size=tick_size)
        cache = None if config.cache_dir is None else InstrumentCache(config.cache_dir)
        return find_instrument(
            config.url, config.category, symbol, venue=config.venue, cache=cache
        ).instrument

    async def _ask_instrument(self, symbol: str) -> InstrumentInfo:
        """What the exchange itself says of `symbol` now; kept, so that the next start has it in any case."""
        config = self.config
        info = await asyncio.to_thread(
            find_instrument,
            config.url,
            config.category,
            symbol,
            venue=config.venue,
            timeout_s=ASK_TIMEOUT_S,
        )
        if config.cache_dir is not None:
            InstrumentCache(config.cache_dir).write(info)
        return info

    def _consumers(self) -> dict[Topic, FrameConsumer]:
        consumers: dict[Topic, FrameConsumer] = {}
        for one in self.symbols.values():
            consumers[one.topic] = one.publisher
            if one.trades is not None and one.trade_topic is not None:
                consumers[one.trade_topic] = one.trades
        return consumers

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        feed = asyncio.create_task(self.feed.run(), name="feed")
        sweeper = asyncio.create_task(self.streams.sweep_forever(), name="stream-sweeper")
        warmer = asyncio.create_task(self.warm_keeper.run(), name="warm-keeper")
        switcher = asyncio.create_task(self.switcher.run(), name="model-switcher")
        shadow_log = asyncio.create_task(self.shadow_log.run(), name="shadow-log")
        instruments = asyncio.create_task(self._instrument_watch.run(), name="instrument-watch")
        feed.add_done_callback(self._on_end)
        instruments.add_done_callback(self._on_end)
        switcher.add_done_callback(self._on_end)
        tasks = (feed, sweeper, warmer, switcher, shadow_log, instruments)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.switcher.stop()

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Each ends by being cancelled or by an error; the error ends the service."""
        if not task.cancelled():
            self._failure = task.exception()
            self.stop()

    async def _say_last_words(self) -> None:
        switcher = asyncio.create_task(self.switcher.stop(), name="model-switcher-stop")
        for one in self.symbols.values():
            one.publisher.stop(STOPPING)
            await asyncio.sleep(0)
        await self.streams.close_all(GOING_AWAY, STOPPING)
        await switcher  # so that who asked for a model is answered before the connections are closed

    async def _metrics_page(self) -> list[bytes]:
        return await self._metrics.page(self._turns)

    async def _list_symbols(self) -> SymbolList:
        views = await self._turns.map(
            lambda one: one.view(self.hub, self.feed), self.symbols.values(), SYMBOLS_A_TURN
        )
        return SymbolList(views)

    async def _known_models(self) -> list[str]:
        """The names that a model can be asked for by now; the directory is read on another thread."""
        return list(await asyncio.to_thread(known_models, self.config.models_dir))

    async def _list_models(self) -> ModelList:
        """The models in use first, then the others that could be asked for when the service started."""
        serving: dict[tuple[str, str, str], ModelSummary] = {}

        def note(symbol: str) -> None:
            placed = self.switcher.symbols[symbol].serving
            key = (placed.artifact.name, placed.artifact.manifest.version, placed.engine.name)
            if key not in serving:
                serving[key] = self._summary(placed.artifact, placed.engine.name, self.config.precision, [])
            serving[key].symbols.append(symbol)

        await self._turns.map(note, self.switcher.symbols, SYMBOLS_A_TURN)
        names = {key[:2] for key in serving}
        others = [one for one in self._models_at_start if (one.name, one.version) not in names]
        return ModelList([*serving.values(), *others])

    def _summaries(self, serving: Artifact) -> list[ModelSummary]:
        """The model in use, then every other that can be asked for by name and verifies."""
        summaries = [self._summary(serving, "", "", [])]
        for name, directory in known_models(self.config.models_dir).items():
            if directory.resolve() == serving.directory.resolve():
                continue
            try:
                summaries.append(self._summary(load_artifact(directory), "", "", []))
            except ArtifactError as error:
                logger.warning("model %s is left out of the list: %s", name, error)
        return summaries

    @staticmethod
    def _summary(artifact: Artifact, engine: str, precision: str, symbols: list[str]) -> ModelSummary:
        manifest = artifact.manifest
        architecture = manifest.architecture
        return ModelSummary(
            name=manifest.name,
            version=manifest.version,
            architecture=f"{architecture.family} {architecture.block} {architecture.size}",
            parameters=architecture.parameters,
            context=manifest.context,
            features=manifest.schema.name,
            sampling=manifest.sampling,
            horizons=list(manifest.horizons),
            engine=engine,
            precision=precision,
            precisions=offered_precisions(artifact),
            symbols=symbols,
        )
