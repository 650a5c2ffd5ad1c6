import json

import pytest

from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.instrument import Instrument
from lob.sync import SymbolState
from serve.clock import AnchoredClock
from serve.hub import Hub, Mailbox
from serve.publisher import PredictionPublisher


class Setting:
    """A publisher, and a subscriber who takes every message at once."""

    def __init__(self, models_dir) -> None:
        instrument = Instrument(symbol="BTCUSDT", tick_size="0.10")
        self.pipeline = Pipeline.create(load_model("tiny", models_dir), instrument, stall_ms=100)
        self.hub = Hub(["BTCUSDT"], AnchoredClock())
        self.publisher = PredictionPublisher(self.pipeline, self.hub)
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
