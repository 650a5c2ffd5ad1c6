"""Timelines: who gets which frames, and when; the exchange's own book; faults on the wire."""

import asyncio
import json
import selectors
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lob.captures import CapturedFrame, open_capture
from lob.errors import CaptureError, InputError
from lob.market import MarketConfiguration, SimulatedMarket
from serve.exchange_book import ExchangeBook
from serve.fault_injection import FaultInjector
from serve.fault_plan import FaultPlan, FaultRule
from serve.faults import Delivery, Sent
from serve.outbox import Outbox
from serve.playback import Pace, Player, Timeline
from tests.serve.waiting import until

BYBIT_SPOT = "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson"
BYBIT_ARCHIVE = "bybit/linear_xrpusdt_ob500_nautilus/xrpusdt-ob500.data.zip"


@dataclass
class Listener(Outbox):
    """Takes what an outbox would, and notes when it came; `put` waits for the room that `room` gives."""

    frames: list[bytes] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    room: asyncio.Semaphore | None = None

    def answer(self, frame: bytes) -> None:
        self.offer(frame)

    def offer(self, frame: Sent) -> None:
        assert isinstance(frame, bytes)
        self.frames.append(frame)
        self.times_s.append(asyncio.get_running_loop().time())

    async def put(self, frame: Sent) -> None:
        if self.room is not None:
            await self.room.acquire()
        self.offer(frame)


class NoWaiting(selectors.DefaultSelector):
    """Has a loop's clock go on by what the loop would have waited: exact, whatever the machine is doing."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is not None:
            self.now_s += timeout
        return ready

    def make_loop(self) -> asyncio.AbstractEventLoop:
        selector = self

        class Loop(asyncio.SelectorEventLoop):
            def time(self) -> float:
                return selector.now_s

        return Loop(selector)


def simulated(count: int) -> list[CapturedFrame]:
    return list(SimulatedMarket(MarketConfiguration(seed=4)).frames(count))


def play(topic: str, open_frames: Callable[[], Iterable[CapturedFrame]], **settings: Any) -> Timeline:
    """The timeline of a market with one topic."""
    player = Player([topic], lambda: ((topic, frame) for frame in open_frames()), **settings)
    return player.timelines[topic]


def plain_book(frames: list[bytes]) -> tuple[int, dict[float, str], dict[float, str]]:
    """Bybit's rules, once more: u, bids and asks after the frames."""
    bids: dict[float, str] = {}
    asks: dict[float, str] = {}
    update_id = 0
    for frame in frames:
        message = json.loads(frame)
        if message["type"] == "snapshot":
            bids, asks = {}, {}
        for side, levels in ((bids, message["data"]["b"]), (asks, message["data"]["a"])):
            for price, size in levels:
                side[float(price)] = size
                if float(size) == 0:
                    del side[float(price)]
        update_id = message["data"]["u"]
    return update_id, bids, asks


# --- timelines


@pytest.mark.anyio
async def test_nothing_plays_before_the_first_subscription() -> None:
    frames = simulated(50)
    timeline = play("t", lambda: frames, pace=Pace(speed=None))
    await asyncio.sleep(0.05)
    assert (timeline.played, timeline.is_running) == (0, False)
    listener = Listener()
    timeline.join(listener)
    await until(lambda: not timeline.is_running)
    assert listener.frames == [captured.frame for captured in frames]


@pytest.mark.parametrize("delay_s", [0.0, 0.1])
def test_pace_is_the_recorded_one_and_a_delay_does_not_last(delay_s: float) -> None:
    frames = [CapturedFrame(i * 10_000_000, b"%d" % i) for i in range(60)]  # every 10 ms
    selector = NoWaiting()

    class Delaying(Listener):
        def offer(self, frame: Sent) -> None:
            super().offer(frame)
            selector.now_s += delay_s if len(self.frames) == 21 else 0

    async def listen() -> list[float]:
        listener = Delaying()
        timeline = play("t", lambda: frames, pace=Pace(speed=2))
        timeline.join(listener)
        await until(lambda: not timeline.is_running)
        return listener.times_s

    with asyncio.Runner(loop_factory=selector.make_loop) as runner:
        times_s = runner.run(listen())
    recorded_s = [i * 0.005 for i in range(60)]
    behind_s = 20 * 0.005 + delay_s  # what was due meanwhile comes at once
    expected_s = recorded_s[:21] + [max(due_s, behind_s) for due_s in recorded_s[21:]]
    assert times_s == pytest.approx(expected_s, abs=1e-6)


@pytest.mark.anyio
async def test_at_a_set_speed_the_market_goes_on_without_subscribers() -> None:
    frames = simulated(100)
    timeline = play("t", lambda: frames, pace=Pace(speed=20))
    timeline.leave(timeline.join(Listener()))
    await until(lambda: timeline.played == 100)


@pytest.mark.anyio
async def test_at_the_subscribers_pace_the_market_waits_for_each_of_them() -> None:
    frames = simulated(100)
    quick, slow = Listener(), Listener(room=asyncio.Semaphore(10))
    timeline = play("t", lambda: frames, pace=Pace(speed=None))
    timeline.join(quick)
    timeline.join(slow)
    await until(lambda: len(slow.frames) == 10)
    await asyncio.sleep(0.05)
    assert len(quick.frames) <= 11
    assert slow.room is not None
    for _ in range(90):
        slow.room.release()
    await until(lambda: not timeline.is_running)
    assert quick.frames == slow.frames == [captured.frame for captured in frames]


@pytest.mark.anyio
async def test_at_the_subscribers_pace_the_market_waits_for_the_next_one() -> None:
    frames = simulated(200)
    first = Listener(room=asyncio.Semaphore(20))
    timeline = play("t", lambda: frames, pace=Pace(speed=None))
    subscription = timeline.join(first)
    await until(lambda: len(first.frames) == 20)
    timeline.leave(subscription)
    assert first.room is not None
    first.room.release()
    await asyncio.sleep(0.05)
    played = timeline.played
    assert played < 25
    second = Listener()
    timeline.join(second)
    await until(lambda: not timeline.is_running)
    assert second.frames[1:] == [captured.frame for captured in frames[played:]]
    assert json.loads(second.frames[0])["data"]["u"] == json.loads(frames[played - 1].frame)["data"]["u"]


@pytest.mark.anyio
async def test_who_comes_later_starts_from_the_book_of_that_moment() -> None:
    frames = simulated(400)
    timeline = play("t", lambda: frames, pace=Pace(speed=20))
    early = Listener()
    timeline.join(early)
    later: list[Listener] = []
    while timeline.is_running:
        await asyncio.sleep(0.03)
        later.append(Listener())
        timeline.join(later[-1])
    assert len(later) > 5
    for listener in later:
        snapshot = json.loads(listener.frames[0])
        played = next(
            i for i, f in enumerate(frames) if json.loads(f.frame)["data"]["u"] == snapshot["data"]["u"]
        )
        before = [captured.frame for captured in frames[: played + 1]]
        assert snapshot["type"] == "snapshot"
        assert plain_book([listener.frames[0]]) == plain_book(before)
        bids = [float(price) for price, _ in snapshot["data"]["b"]]
        asks = [float(price) for price, _ in snapshot["data"]["a"]]
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert listener.frames[1:] == [captured.frame for captured in frames[played + 1 :]]


@pytest.mark.anyio
async def test_loop_plays_again_from_the_start() -> None:
    frames = simulated(20)
    listener = Listener()
    timeline = play("t", lambda: frames, pace=Pace(speed=None), ending="loop")
    timeline.join(listener)
    await until(lambda: len(listener.frames) >= 60)
    await timeline.stop()
    texts = [captured.frame for captured in frames]
    assert listener.frames[:60] == texts * 3


@pytest.mark.anyio
async def test_loop_of_nothing_ends() -> None:
    ends: list[Exception | None] = []
    timeline = play("t", list, pace=Pace(speed=None), ending="loop", on_end=ends.append)
    timeline.join(Listener())
    await until(lambda: ends == [None])


@pytest.mark.anyio
async def test_a_damaged_capture_ends_the_timeline_after_what_precedes_the_damage() -> None:
    frames = simulated(10)

    def damaged() -> Iterator[CapturedFrame]:
        yield from frames
        raise CaptureError("day.gz: line 11: cut")

    ends: list[Exception | None] = []
    listener = Listener()
    timeline = play("t", damaged, pace=Pace(speed=None), on_end=ends.append)
    timeline.join(listener)
    await until(lambda: bool(ends))
    assert len(listener.frames) == 10
    assert str(ends[0]) == "day.gz: line 11: cut"


@pytest.mark.anyio
async def test_a_defect_ends_the_timeline_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(deliveries: Iterator[Delivery]) -> Iterator[Delivery]:
        yield next(deliveries)
        raise ZeroDivisionError

    ends: list[Exception | None] = []
    timeline = play("t", lambda: simulated(5), pace=Pace(speed=None), faults=(broken,), on_end=ends.append)
    timeline.join(Listener())
    await until(lambda: bool(ends))
    assert isinstance(ends[0], ZeroDivisionError)
    assert "t ends early" in caplog.text


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", ""])
def test_speeds_that_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="allowed: a number above 0, or max"):
        Pace.read(text)


def test_speeds() -> None:
    assert (Pace.read("2.5").speed, Pace.read("max").speed) == (2.5, None)


# --- the exchange's own book


@pytest.mark.parametrize("name", [BYBIT_SPOT, BYBIT_ARCHIVE])
def test_the_book_follows_real_captures(data_dir: Path, name: str) -> None:
    frames = [captured.frame for captured in open_capture(data_dir / name) if b'"topic"' in captured.frame]
    book = ExchangeBook()
    assert not book.is_known
    for i, frame in enumerate(frames):
        book.apply(frame)
        if i % 50 == 0:
            assert plain_book([book.snapshot()]) == plain_book(frames[: i + 1])
    assert book.update_id == json.loads(frames[-1])["data"]["u"]


def test_the_book_keeps_the_exchange_s_texts_and_times() -> None:
    first, second = simulated(2)
    book = ExchangeBook()
    book.apply(first.frame)
    assert book.snapshot() == first.frame
    book.apply(second.frame)
    snapshot, delta = json.loads(book.snapshot()), json.loads(second.frame)
    assert (snapshot["ts"], snapshot["cts"]) == (delta["ts"], delta["cts"])
    assert (snapshot["data"]["u"], snapshot["data"]["seq"]) == (delta["data"]["u"], delta["data"]["seq"])
    for level in delta["data"]["b"] + delta["data"]["a"]:
        assert level[1] == "0" or level in snapshot["data"]["b"] + snapshot["data"]["a"]


def test_the_book_is_unknown_from_a_gap_to_the_next_snapshot() -> None:
    frames = [captured.frame for captured in simulated(5)]
    book = ExchangeBook()
    book.apply(frames[1])  # a delta before the snapshot
    assert not book.is_known
    for frame in (frames[0], frames[1], frames[1], frames[0]):  # a repetition and a new snapshot are fine
        book.apply(frame)
        assert book.is_known
    book.apply(frames[3])
    assert (book.is_known, book.update_id) == (False, 0)
    book.apply(frames[4])
    assert not book.is_known
    book.apply(frames[0])
    assert book.snapshot() == frames[0]


@pytest.mark.parametrize(
    "bad", [b"", b"{", b"[1]", b'{"topic":"orderbook.50.X"}', b"[" * 10_000, b"\xff\xfe"]
)
def test_the_book_passes_over_what_it_cannot_read(bad: bytes) -> None:
    first, second = simulated(2)
    book = ExchangeBook()
    book.apply(first.frame)
    book.apply(bad)
    book.apply(second.frame.replace(b'","0.', b'","zero.', 1))
    assert book.snapshot() == first.frame


# --- faults


@pytest.mark.anyio
async def test_a_dropped_delta_is_in_the_exchange_s_book() -> None:
    frames = simulated(100)
    listener = Listener()
    drop = FaultInjector(FaultPlan(rules=(FaultRule(kind="drop", every=10),)))
    timeline = play("t", lambda: frames, pace=Pace(speed=None), faults=(drop.inject,))
    timeline.join(listener)
    await until(lambda: not timeline.is_running)
    ids = [json.loads(frame)["data"]["u"] for frame in listener.frames]
    assert sum(later - earlier == 2 for earlier, later in pairwise(ids)) == 9
    late = Listener()
    timeline.join(late)
    assert plain_book(late.frames) == plain_book([captured.frame for captured in frames])


@pytest.mark.anyio
async def test_a_fault_may_send_more_and_other_frames() -> None:
    frames = simulated(10)

    def twice_and_garbage(deliveries: Iterator[Delivery]) -> Iterator[Delivery]:
        for delivery in deliveries:
            yield Delivery(
                delivery.receive_ns, delivery.market, (delivery.market, b"{", delivery.market), "t"
            )

    listener = Listener()
    timeline = play("t", lambda: frames, pace=Pace(speed=None), faults=(twice_and_garbage,))
    timeline.join(listener)
    await until(lambda: not timeline.is_running)
    assert listener.frames == [part for f in frames for part in (f.frame, b"{", f.frame)]
    assert timeline.book.update_id == json.loads(frames[-1].frame)["data"]["u"]
