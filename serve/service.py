"""The service: artifact, pipeline, feed, hub and application, wired in one process and one event loop."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI

from inference.artifact import Artifact, load_artifact
from inference.pipeline import DEFAULT_STALL_MS, Pipeline
from inference.registry import known_models, load_model
from lob.errors import ArtifactError
from lob.instrument import Instrument
from serve.app import create_app
from serve.bybit_stream import BookTopic, public_address
from serve.clock import AnchoredClock
from serve.feed import Feed, FeedConfig
from serve.hub import Hub
from serve.instruments import fetch_instrument
from serve.listener import address_of, listen
from serve.metrics import ServiceCollector, make_renderer
from serve.publisher import PredictionPublisher
from serve.reconnect import ReconnectPolicy
from serve.responses import BookView, Level, ModelList, ModelSummary
from serve.server import Server
from serve.stream import GOING_AWAY, StreamLimits, StreamServer
from serve.warmup import warm_up

logger = logging.getLogger(__name__)

STOPPING = "the service is stopping"


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """What to serve, from where, with which model, and on which port.

    `tick_size` None asks the exchange for it; `port` 0 takes any free one.
    """

    topic: BookTopic
    url: str
    category: str
    model: str
    models_dir: Path | None = None
    engine: str = "auto"
    tick_size: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    stall_ms: int = DEFAULT_STALL_MS
    reconnect: ReconnectPolicy = field(default_factory=ReconnectPolicy)
    limits: StreamLimits = field(default_factory=StreamLimits)


class Service:
    """One symbol's predictions, from an exchange's stream to subscribers.

    Making one does all that can fail: it takes the port, loads the model, asks for the instrument, compiles
    the kernels and warms the engine; every failure is a `MambalobError`. `run` then serves until `stop`.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self.clock = AnchoredClock()
        self._listener = listen(config.host, config.port)
        try:
            artifact = load_model(config.model, config.models_dir)
            self.pipeline = self._make_pipeline(artifact)
            feed_config = FeedConfig(url=config.url, topic=config.topic, reconnect=config.reconnect)
            warm_up(self.pipeline, artifact)
        except BaseException:
            self._listener.close()
            raise
        symbol = config.topic.symbol
        self.hub = Hub([symbol], self.clock)
        self.streams = StreamServer(self.hub, config.limits)
        self.publisher = PredictionPublisher(self.pipeline, self.hub)
        self.feed = Feed(feed_config, self.publisher, self.clock)
        self._failure: BaseException | None = None
        collector = ServiceCollector(
            pipelines={symbol: self.pipeline},
            feeds={symbol: self.feed},
            hub=self.hub,
            streams=self.streams,
            clock=self.clock,
            information={
                "version": version("mambalob"),
                "model": artifact.name,
                "model_version": artifact.manifest.version,
                "engine": self.pipeline.engine.name,
                "symbol": symbol,
            },
        )
        app = create_app(
            hub=self.hub,
            streams=self.streams,
            models=self._list_models(artifact),
            books={symbol: self._read_book},
            render_metrics=make_renderer(collector),
            clock=self.clock,
            version=version("mambalob"),
            lifespan=self._lifespan,
        )
        self._server = Server(app, self._listener, self._say_last_words)

    @property
    def address(self) -> tuple[str, int]:
        """Host, as a URL writes it, and port of the HTTP and websocket routes."""
        return address_of(self._listener)

    async def run(self) -> None:
        """Serve until `stop`, or until the feed fails for good: then its error is raised."""
        host, port = self.address
        logger.info(
            "serving %s with %s (%s) on http://%s:%d, fed by %s",
            self.config.topic.name,
            self.pipeline.artifact.name,
            self.pipeline.engine.name,
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

    def _make_pipeline(self, artifact: Artifact) -> Pipeline:
        config = self.config
        symbol = config.topic.symbol
        if config.tick_size is None:
            instrument = fetch_instrument(config.url, config.category, symbol)
        else:
            instrument = Instrument(symbol=symbol, tick_size=config.tick_size)
        return Pipeline.create(
            artifact, instrument, engine=config.engine, depth=config.topic.depth, stall_ms=config.stall_ms
        )

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        feed = asyncio.create_task(self.feed.run(), name="feed")
        sweeper = asyncio.create_task(self.streams.sweep_forever(), name="stream-sweeper")
        feed.add_done_callback(self._on_feed_end)
        try:
            yield
        finally:
            feed.cancel()
            sweeper.cancel()
            await asyncio.gather(feed, sweeper, return_exceptions=True)

    def _on_feed_end(self, feed: asyncio.Task[None]) -> None:
        """A feed ends by being cancelled or by an error; the error ends the service."""
        if not feed.cancelled():
            self._failure = feed.exception()
            self.stop()

    async def _say_last_words(self) -> None:
        self.publisher.stop(STOPPING)
        await self.streams.close_all(GOING_AWAY, STOPPING)

    def _read_book(self, levels: int) -> BookView:
        rows = self.pipeline.rows
        bids, asks = rows.book.printed(levels)
        return BookView(
            rows.symbol,
            rows.update_id,
            rows.exchange_ms,
            [Level(*level) for level in bids],
            [Level(*level) for level in asks],
        )

    def _list_models(self, serving: Artifact) -> ModelList:
        """The model in use first, then every other that can be asked for by name and verifies."""
        summaries = [self._summary(serving, self.pipeline.engine.name, [self.config.topic.symbol])]
        for name, directory in known_models(self.config.models_dir).items():
            if directory.resolve() == serving.directory.resolve():
                continue
            try:
                summaries.append(self._summary(load_artifact(directory), "", []))
            except ArtifactError as error:
                logger.warning("model %s is left out of the list: %s", name, error)
        return ModelList(summaries)

    @staticmethod
    def _summary(artifact: Artifact, engine: str, symbols: list[str]) -> ModelSummary:
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
            symbols=symbols,
        )
