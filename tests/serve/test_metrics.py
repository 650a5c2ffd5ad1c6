"""The metrics as Prometheus' own parser reads them."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.instrument import Instrument
from lob.sync import SymbolState
from lob.trade_tape import TradeTape
from lob.venues import make_decoder
from serve.bybit_stream import BookTopic
from serve.clock import AnchoredClock
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.hub import Hub
from serve.keep_warm import KeepWarmPolicy, WarmKeeper
from serve.metrics import ServiceCollector, make_renderer
from serve.publisher import PredictionPublisher
from serve.responses import TradeCounts
from serve.shadow_log import ShadowLog
from serve.stream import StreamLimits, StreamServer
from serve.symbol_service import SymbolService
from serve.trade_consumer import TradeConsumer

pytestmark = pytest.mark.anyio


async def test_every_count_is_the_one_its_part_keeps(models_dir, market_frames) -> None:
    clock = AnchoredClock()
    started_ns = clock.now_ns()
    hub = Hub(["BTCUSDT"], clock)
    instrument = Instrument(symbol="BTCUSDT", tick_size="0.10")
    pipeline = Pipeline.create(load_model("tiny", models_dir), instrument, engine="ort-step")
    publisher = PredictionPublisher(pipeline, hub)
    topic = BookTopic(symbol="BTCUSDT", depth=50)
    trades = TradeConsumer(make_decoder("bybit"), TradeTape(instrument))
    feed = Feed(FeedConfig(url="ws://127.0.0.1:1"), {topic: publisher}, clock)
    one = SymbolService(topic=topic, pipeline=pipeline, publisher=publisher, trades=trades, trade_topic=None)
    streams = StreamServer(hub, StreamLimits())
    warm_keeper = WarmKeeper(KeepWarmPolicy(), feed, [pipeline])
    render = make_renderer(
        ServiceCollector(
            symbols={"BTCUSDT": one},
            feed=feed,
            hub=hub,
            streams=streams,
            warm_keeper=warm_keeper,
            shadow_log=ShadowLog(None),
            clock=clock,
            information={"model": "tiny"},
        )
    )

    def read() -> dict[tuple, float]:
        families = text_string_to_metric_families(render().decode())
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    symbol = ("symbol", "BTCUSDT")
    before = read()
    assert before["mambalob_info", ("model", "tiny")] == 1
    assert before["mambalob_predictions_total", symbol] == 0
    assert before["mambalob_symbol_state", ("state", "connecting"), symbol] == 1
    publisher.on_connected()
    for frame in [*market_frames[:300], b"no JSON", *market_frames[301:303]]:
        publisher.on_frame(frame, clock.now_ns())
    feed.counters.connections = 3
    feed.counters.full_queues = 4
    feed.subscriptions[topic.name].counters.resyncs = 2
    trade = b'{"i":"1","T":1,"p":"100.1","v":"1","S":"Buy","s":"BTCUSDT"}'
    trades.on_frame(b'{"topic":"publicTrade.BTCUSDT","ts":1,"data":[%s,%s]}' % (trade, trade), 1)
    trades.on_frame(b'{"topic":"publicTrade.BTCUSDT","ts":1,"data":[{}]}', 1)
    streams.cut_off = 5
    await asyncio.sleep(0)
    after = read()
    counters = pipeline.counters
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
    latencies = after["mambalob_tick_latency_seconds_count", symbol]
    assert latencies == counters["predictions"]
    assert after["mambalob_tick_latency_seconds_bucket", ("le", "+Inf"), symbol] == latencies
    assert 0 < after["mambalob_tick_latency_seconds_sum", symbol] < 60
    assert abs(after["mambalob_clock_drift_seconds",]) < 1
