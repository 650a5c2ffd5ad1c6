import gc
import json
import re

import pytest

from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.instrument import Instrument
from lob.sync import SymbolState
from lob.trade_tape import TradeTape
from lob.venues import make_decoder
from serve.bybit_stream import BybitStream
from serve.clock import AnchoredClock
from serve.feed_policies import LagPolicy
from serve.hub import Hub, Mailbox
from serve.publisher import PredictionPublisher
from serve.trade_consumer import TradeConsumer
from serve.venue_connection import ConnectionEndedError


class Setting:
    """A publisher, and a subscriber who takes every message at once."""

    def __init__(self, models_dir, lag: LagPolicy | None = None) -> None:
        instrument = Instrument(symbol="BTCUSDT", tick_size="0.10")
        self.pipeline = Pipeline.create(load_model("tiny", models_dir), instrument, stall_ms=100)
        self.hub = Hub(["BTCUSDT"], AnchoredClock())
        self.publisher = PredictionPublisher(self.pipeline, self.hub, lag=lag)
        self.mailbox = Mailbox()
        self.hub.subscribe(self.mailbox, ["prediction.BTCUSDT"])

    def heard(self) -> list[str]:
        """What has been published since the last call: states by name, predictions as such."""
        heard = []
        while (text := self.mailbox.take()) is not None:
            message = json.loads(text)
            heard.append(message["data"].get("state", "prediction"))
        return heard

    def play(self, frames: list[bytes], start_ns: int = 0) -> list[str]:
        heard = []
        for number, frame in enumerate(frames):
            self.publisher.on_frame(frame, start_ns + number)
            heard += self.heard()
        return heard


@pytest.fixture
def setting(models_dir) -> Setting:
    return Setting(models_dir)


def test_states_are_told_as_they_change_and_before_what_goes_with_them(setting, market_frames) -> None:
    assert setting.heard() == ["connecting"]
    setting.publisher.on_connected()
    assert setting.heard() == ["waiting_snapshot"]
    assert setting.publisher.awaits_snapshot
    heard = setting.play(market_frames[:60])
    assert heard[:3] == ["warming", "live", "prediction"]
    assert set(heard[3:]) == {"prediction"}
    assert not setting.publisher.awaits_snapshot
    assert setting.play(market_frames[61:100]) == ["stale"]
    assert setting.publisher.needs_resync
    assert setting.publisher.awaits_snapshot
    setting.publisher.resync_requested()
    assert not setting.publisher.needs_resync
    assert setting.play(market_frames)[:3] == ["warming", "live", "prediction"]
    setting.publisher.on_disconnected("the cable")
    assert setting.heard() == ["connecting"]
    assert setting.hub.topic_of("BTCUSDT").reason == "connection lost: the cable"


def test_a_stall_is_told_once(setting, market_frames) -> None:
    setting.publisher.on_connected()
    setting.play(market_frames[:60], start_ns=1_000_000_000)
    for ms in range(0, 150, 10):
        setting.publisher.check_freshness(1_000_000_000 + ms * 1_000_000)
    assert setting.heard() == ["stale"]
    assert setting.publisher.needs_resync


def test_after_the_stop_nothing_is_published(setting, market_frames) -> None:
    setting.publisher.on_connected()
    setting.play(market_frames[:60])
    setting.publisher.stop("enough")
    assert setting.heard() == ["stale"]
    assert setting.play(market_frames) == []
    setting.publisher.on_disconnected("gone")
    setting.publisher.on_connected()
    setting.publisher.stop("again")
    assert setting.heard() == []
    topic = setting.hub.topic_of("BTCUSDT")
    assert (topic.state, topic.reason) == (SymbolState.STALE, "enough")


def test_a_frame_that_waited_too_long_is_not_published_and_costs_the_book(models_dir, market_frames) -> None:
    setting = Setting(models_dir, LagPolicy(maximum_wait_ms=600_000))
    now_ns = setting.hub.clock.now_ns()
    setting.publisher.on_connected()
    heard = setting.play(market_frames[:60], start_ns=now_ns)
    assert heard[-1] == "prediction"
    hour_ago_ns = now_ns - 3_600_000_000_000
    assert setting.play(market_frames[60:90], start_ns=hour_ago_ns) == ["stale"]
    reason = setting.hub.topic_of("BTCUSDT").reason
    assert re.fullmatch(
        r"feed is late: by 36\d{5}(\.\d+)? ms in the process, 600000 ms are allowed", reason
    ), reason
    assert setting.publisher.needs_resync
    assert setting.pipeline.counters["late"] == 1
    setting.publisher.resync_requested()
    # A new snapshot in good time is the end of it ...
    assert setting.play(market_frames[:60], start_ns=now_ns)[:3] == ["warming", "live", "prediction"]
    assert setting.play(market_frames[60:61], start_ns=hour_ago_ns) == ["stale"]
    setting.publisher.resync_requested()
    # ... and one that is as late shows that the connection holds nothing else.
    with pytest.raises(ConnectionEndedError, match=r"BTCUSDT is late by 36\d{5}.* ms in the process"):
        setting.play(market_frames, start_ns=hour_ago_ns)
    assert "prediction" not in setting.heard()


def test_a_feed_behind_the_exchanges_time_is_late(models_dir, market_frames) -> None:
    setting = Setting(models_dir, LagPolicy(maximum_wait_ms=None, maximum_lag_ms=10_000))
    setting.publisher.on_connected()
    assert setting.play(market_frames[:60])[-1] == "prediction"  # whatever year the frames are of
    behind = [frame.replace(b'"cts":17', b'"cts":16') for frame in market_frames[60:62]]
    assert behind[0] != market_frames[60]
    assert setting.play(behind) == ["stale"]
    assert "by the exchange's time, 10000 ms are allowed" in setting.hub.topic_of("BTCUSDT").reason
    setting.publisher.on_disconnected("enough")
    setting.publisher.on_connected()
    assert setting.play(market_frames[:60])[-1] == "prediction"


def test_a_tick_leaves_nothing_for_the_garbage_collector(models_dir, market_frames) -> None:
    setting = Setting(models_dir)
    setting.publisher.on_connected()
    warming = 100
    for frame in market_frames[:warming]:
        setting.publisher.on_frame(frame, 1)
    setting.heard()
    gc.collect()
    gc.disable()
    try:
        for frame in market_frames[warming:]:
            setting.publisher.on_frame(frame, 1)
            setting.mailbox.take()
        unreachable = gc.collect()
    finally:
        gc.enable()
    assert setting.pipeline.counters["predictions"] > 300
    assert unreachable == 0


@pytest.mark.parametrize(
    "frame",
    [
        b'{"success":true,"ret_msg":"pong","conn_id":"test","op":"ping"}',
        b'{"success":true,"ret_msg":"","conn_id":"test","req_id":"1","op":"subscribe"}',
        b"no JSON",
        b"[]",
        b'{"topic":"',
    ],
)
def test_a_frame_that_names_no_topic_is_counted_as_a_book_would_count_it_and_changes_nothing(
    models_dir, market_frames, frame
) -> None:
    told, taken = Setting(models_dir), Setting(models_dir)
    for setting in (told, taken):
        setting.publisher.on_connected()
        setting.play(market_frames[:60])
    told.publisher.on_unnamed_frame(frame, 1_000, readable=BybitStream().is_readable(frame))
    taken.publisher.on_frame(frame, 1_000)
    assert told.pipeline.counters == taken.pipeline.counters
    assert told.publisher.unreadable_frames == taken.publisher.unreadable_frames
    assert told.heard() == taken.heard() == []
    assert told.play(market_frames[60:70]) == ["prediction"] * 10


def test_what_may_have_been_a_trade_is_counted_as_one_that_cannot_be_read() -> None:
    trades = TradeConsumer(make_decoder("bybit"), TradeTape(Instrument(symbol="BTCUSDT", tick_size="0.10")))
    trades.on_unnamed_frame(b"{}", 1, readable=True)
    assert trades.unreadable_frames == 0
    trades.on_unnamed_frame(b"no JSON", 1, readable=False)
    assert trades.unreadable_frames == trades.malformed == 1
