"""The metrics as Prometheus' own parser reads them."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.instrument import Instrument
from serve.bybit_stream import BookTopic
from serve.clock import AnchoredClock
from serve.feed import Feed, FeedConfig
from serve.hub import Hub
from serve.metrics import ServiceCollector, make_renderer
from serve.publisher import PredictionPublisher
from serve.stream import StreamLimits, StreamServer

pytestmark = pytest.mark.anyio


async def test_every_count_is_the_one_its_part_keeps(models_dir, market_frames) -> None:
    clock = AnchoredClock()
    hub = Hub(["BTCUSDT"], clock)
    instrument = Instrument(symbol="BTCUSDT", tick_size="0.10")
    pipeline = Pipeline.create(load_model("tiny", models_dir), instrument, engine="ort-step")
    publisher = PredictionPublisher(pipeline, hub)
    config = FeedConfig(url="ws://127.0.0.1:1", topic=BookTopic(symbol="BTCUSDT", depth=50))
    feed = Feed(config, publisher, clock)
    streams = StreamServer(hub, StreamLimits())
    render = make_renderer(
        ServiceCollector(
            pipelines={"BTCUSDT": pipeline},
            feeds={"BTCUSDT": feed},
            hub=hub,
            streams=streams,
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
    feed.counters.resyncs = 2
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
    assert after["mambalob_stream_cut_off_total",] == 5
    latencies = after["mambalob_tick_latency_seconds_count", symbol]
    assert latencies == counters["predictions"]
    assert after["mambalob_tick_latency_seconds_bucket", ("le", "+Inf"), symbol] == latencies
    assert 0 < after["mambalob_tick_latency_seconds_sum", symbol] < 60
    assert abs(after["mambalob_clock_drift_seconds",]) < 1
