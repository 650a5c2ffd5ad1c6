"""The metrics as Prometheus' own parser reads them."""

import asyncio
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from inference.engines.engine import Engine
from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.instrument import Instrument
from lob.sync import SymbolState
from lob.trade_tape import TradeTape
from lob.venues import make_decoder
from serve.bybit_stream import BookTopic
from serve.clock import AnchoredClock
from serve.exposition import SAMPLES_A_TURN
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.frame_consumer import FrameConsumer
from serve.http_protocol import ConnectionLimits
from serve.hub import Hub
from serve.keep_warm import KeepWarmPolicy, WarmKeeper
from serve.listener import listen
from serve.metrics import ServiceMetrics
from serve.publisher import PredictionPublisher
from serve.responses import TradeCounts
from serve.server import Server
from serve.shadow_log import ShadowLog
from serve.stream import StreamLimits, StreamServer
from serve.symbol_metrics import SymbolFamilies
from serve.symbol_service import SymbolService
from serve.trade_consumer import TradeConsumer
from serve.turns import Turns
from serve.venue_stream import Topic
from tests.serve.turn_count import counting_turns

pytestmark = pytest.mark.anyio


async def _say_nothing() -> None:
    """The last words of a server that is not run."""


def make_metrics(models_dir, symbols: list[str]) -> tuple[ServiceMetrics, list[SymbolService], Feed, Hub]:
    """The metrics of a service that nobody runs."""
    clock = AnchoredClock()
    hub = Hub(symbols, clock)
    made: list[SymbolService] = []
    consumers: dict[Topic, FrameConsumer] = {}
    engine: str | Engine = "ort-step"
    for symbol in symbols:
        instrument = Instrument(symbol=symbol, tick_size="0.10")
        pipeline = Pipeline.create(load_model("tiny", models_dir), instrument, engine=engine)
        engine = pipeline.engine
        publisher = PredictionPublisher(pipeline, hub)
        topic = BookTopic(symbol=symbol, depth=50)
        trades = TradeConsumer(make_decoder("bybit"), TradeTape(instrument))
        made.append(
            SymbolService(
                topic=topic, pipeline=pipeline, publisher=publisher, trades=trades, trade_topic=None
            )
        )
        consumers[topic] = publisher
    feed = Feed(FeedConfig(url="ws://127.0.0.1:1"), consumers, clock)
    streams = StreamServer(hub, StreamLimits())
    listener = listen("127.0.0.1", 0)
    listener.close()  # nobody connects here
    metrics = ServiceMetrics(
        symbols=dict(zip(symbols, made, strict=True)),
        feed=feed,
        hub=hub,
        streams=streams,
        server=Server(FastAPI(), listener, _say_nothing, ConnectionLimits()),
        warm_keeper=WarmKeeper(KeepWarmPolicy(), feed, [one.pipeline for one in made]),
        shadow_log=ShadowLog(None),
        clock=clock,
        information={"model": "tiny"},
    )
    return metrics, made, feed, hub


async def test_every_count_is_the_one_its_part_keeps(models_dir, market_frames) -> None:
    metrics, (one,), feed, hub = make_metrics(models_dir, ["BTCUSDT"])
    clock, publisher, trades = hub.clock, one.publisher, one.trades
    assert trades is not None
    started_ns = clock.now_ns()

    async def read() -> dict[tuple, float]:
        text = b"".join(await metrics.page(Turns())).decode()
        families = text_string_to_metric_families(text)
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    symbol = ("symbol", "BTCUSDT")
    before = await read()
    assert before["mambalob_info", ("model", "tiny")] == 1
    assert before["mambalob_predictions_total", symbol] == 0
    assert before["mambalob_symbol_state", ("state", "connecting"), symbol] == 1
    publisher.on_connected()
    for frame in [*market_frames[:300], b"no JSON", *market_frames[301:303]]:
        publisher.on_frame(frame, clock.now_ns())
    feed.counters.connections = 3
    feed.counters.full_queues = 4
    feed.subscriptions[one.topic.name].counters.resyncs = 2
    trade = b'{"i":"1","T":1,"p":"100.1","v":"1","S":"Buy","s":"BTCUSDT"}'
    trades.on_frame(b'{"topic":"publicTrade.BTCUSDT","ts":1,"data":[%s,%s]}' % (trade, trade), 1)
    trades.on_frame(b'{"topic":"publicTrade.BTCUSDT","ts":1,"data":[{}]}', 1)
    metrics._streams.cut_off = 5
    cut_off = metrics._server.connection_counters
    cut_off.full, cut_off.late = 6, 7
    after = await read()
    counters = one.pipeline.counters
    assert after["mambalob_predictions_total", symbol] == counters["predictions"] > 100
    assert after["mambalob_rows_total", symbol] == counters["row"] + counters["snapshot"]
    assert after["mambalob_gaps_total", symbol] == 1
    assert after["mambalob_malformed_total", symbol] == 1
    assert after["mambalob_frames_total", ("status", "waiting"), symbol] == 1
    assert after["mambalob_symbol_state", ("state", "stale"), symbol] == 1
    assert after["mambalob_symbol_state", ("state", "connecting"), symbol] == 0
    assert after["mambalob_feed_reconnects_total", symbol] == 2
    assert after["mambalob_feed_resyncs_total", symbol] == 2
    assert after["mambalob_feed_full_queues_total",] == 4
    assert after["mambalob_trades_total", ("status", "taped"), symbol] == 2
    assert after["mambalob_trades_total", ("status", "malformed"), symbol] == 1
    seconds = {
        state.value: after["mambalob_symbol_state_seconds_total", ("state", state.value), symbol]
        for state in SymbolState
    }
    assert seconds["live"] > 0
    assert seconds["stale"] > 0
    assert abs(sum(seconds.values()) - (clock.now_ns() - started_ns) / 1e9) < 1
    view = one.view(hub, feed)
    assert (view.state, view.gaps, view.resyncs, view.reconnects) == ("stale", 1, 2, 2)
    assert view.predictions == counters["predictions"]
    assert view.trades == TradeCounts(trades=2, late=0, dropped=0, malformed=1)
    assert set(view.seconds) == set(seconds)
    assert after["mambalob_stream_cut_off_total",] == 5
    assert after["mambalob_http_cut_off_total", ("reason", "full")] == 6
    assert after["mambalob_http_cut_off_total", ("reason", "late")] == 7
    assert after["mambalob_http_connections",] == 0
    latencies = after["mambalob_tick_latency_seconds_count", symbol]
    assert latencies == counters["predictions"]
    assert after["mambalob_tick_latency_seconds_bucket", ("le", "+Inf"), symbol] == latencies
    assert 0 < after["mambalob_tick_latency_seconds_sum", symbol] < 60
    assert abs(after["mambalob_clock_drift_seconds",]) < 1


class Whole:
    """The plain twin of a page: all families at once, for `generate_latest`."""

    def __init__(self, metrics: ServiceMetrics, feed: Feed, hub: Hub) -> None:
        self.metrics, self.feed, self.hub = metrics, feed, hub

    def collect(self) -> Iterator[Metric]:
        yield from self.metrics._service_families()
        families = SymbolFamilies(self.feed, self.hub)
        for one in self.metrics._symbols.values():
            families.add(one)
        yield from families
        yield from self.metrics._process.collect()


MOVING = ("process_", "mambalob_clock_drift", "mambalob_symbol_state_seconds")
"""What is another a moment later."""


def standing(text: bytes) -> list[bytes]:
    return [line for line in text.splitlines() if not any(name in line.decode() for name in MOVING)]


async def test_a_page_of_many_symbols_is_the_whole_collectors_and_gives_way_all_along(
    models_dir, market_frames
) -> None:
    symbols = [f"COIN{number}USDT" for number in range(60)]
    metrics, made, feed, hub = make_metrics(models_dir, symbols)
    for number, one in enumerate(made):
        one.publisher.on_connected()
        for frame in market_frames[: 40 + number]:
            one.publisher.on_frame(
                frame.replace(b"BTCUSDT", one.pipeline.symbol.encode()), hub.clock.now_ns()
            )
    async with counting_turns() as count:
        before = count.now
        text = b"".join(await metrics.page(Turns()))
        turns = count.now - before
    expected = generate_latest(Whole(metrics, feed, hub))
    assert standing(text) == standing(expected)
    assert len(text.splitlines()) == len(expected.splitlines())
    assert turns > len(text.splitlines()) / SAMPLES_A_TURN
    # The parser would make two families of one whose samples do not stand together.
    names = [family.name for family in text_string_to_metric_families(text.decode())]
    assert len(names) == len(set(names)) > 40


async def test_a_symbols_values_are_of_one_instant_however_the_others_go_on_meanwhile(
    models_dir, market_frames
) -> None:
    symbols = [f"COIN{number}USDT" for number in range(20)]
    metrics, made, _, hub = make_metrics(models_dir, symbols)

    def take(one: SymbolService, frame: bytes) -> None:
        own = frame.replace(b"BTCUSDT", one.pipeline.symbol.encode())
        one.publisher.on_frame(own, hub.clock.now_ns())

    for one in made:
        one.publisher.on_connected()
        for frame in market_frames[:60]:
            take(one, frame)

    async def go_on() -> None:
        for frame in market_frames[60:]:
            for one in made:
                take(one, frame)
                await asyncio.sleep(0)

    going_on = asyncio.create_task(go_on())
    text = b"".join(await metrics.page(Turns())).decode()
    assert not going_on.done()
    going_on.cancel()
    values = {
        (sample.name, sample.labels.get("symbol")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in {"mambalob_predictions_total", "mambalob_tick_latency_seconds_count"}
    }
    predictions = [values["mambalob_predictions_total", symbol] for symbol in symbols]
    assert predictions == [values["mambalob_tick_latency_seconds_count", symbol] for symbol in symbols]
    assert predictions[-1] > predictions[0] > 0
