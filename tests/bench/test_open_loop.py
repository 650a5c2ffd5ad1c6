"""Intended send times: when frames are due, and that waiting behind a slow tick is in their latency."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from bench.frame_source import FrameSource, seeded_source
from bench.open_loop import SCHEDULES, WATCH_NS, OpenLoopTick, Schedule, wait_until
from inference.artifact import Artifact
from lob.errors import InputError
from lob.sync import SymbolState


def test_frames_are_due_at_their_times() -> None:
    steady = Schedule(name="steady", interval_ns=10)
    assert steady.due_ns(4).tolist() == [0, 10, 20, 30]
    bursts = Schedule(name="bursts", interval_ns=100, together=3)
    assert bursts.due_ns(7).tolist() == [0, 0, 0, 100, 100, 100, 200]


@pytest.mark.parametrize(("name", "frames"), [("1x", 150), ("10x", 1500), ("100x", 15_000), ("burst", 150)])
def test_schedules_send_at_multiples_of_the_venues_rate(name: str, frames: int) -> None:
    (schedule,) = (one for one in SCHEDULES if one.name == name)
    assert schedule.frames_in(3.0) == frames
    assert schedule.frames_in(0.0001) == schedule.together


class Clock:
    """A clock that moves by what is slept, and a little with every reading."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.slept_s: list[float] = []

    def read(self) -> int:
        self.now_ns += 1_000
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_ns += round(seconds * 1e9)


def test_waiting_sleeps_first_then_watches_the_clock() -> None:
    clock = Clock()
    wait_until(20_000_000, clock.read, clock.sleep)
    assert clock.slept_s == [pytest.approx(0.0195, abs=1e-5)]
    assert 20_000_000 <= clock.now_ns <= 20_002_000


@pytest.mark.parametrize("due_ns", [-5, WATCH_NS // 2])
def test_what_is_due_soon_or_past_is_not_slept_for(due_ns: int) -> None:
    clock = Clock()
    wait_until(due_ns, clock.read, clock.sleep)
    assert clock.slept_s == []
    assert clock.now_ns >= due_ns


def test_a_slow_tick_delays_those_behind_it_in_their_figures(nano_artifact: Artifact) -> None:
    tick = OpenLoopTick(seeded_source(1), nano_artifact, "nano", Schedule(name="x", interval_ns=1_000_000))
    pipeline, calls = tick.pipeline, []
    on_frame = pipeline.on_frame

    def slow_first(frame: bytes, receive_ns: int) -> object:
        calls.append(receive_ns)
        if len(calls) == 1:
            time.sleep(0.03)
        return on_frame(frame, receive_ns)

    pipeline.on_frame = slow_first  # type: ignore[method-assign,assignment]  # a tick that takes 30 ms
    durations_ns = np.zeros(10, dtype=np.int64)
    tick.measure(durations_ns)
    waited_ns = [30_000_000 - index * 1_000_000 for index in range(10)]
    assert all(found >= least for found, least in zip(durations_ns.tolist(), waited_ns, strict=True))


def test_no_frame_is_answered_before_its_time_and_all_are(nano_artifact: Artifact) -> None:
    for schedule in SCHEDULES:
        tick = OpenLoopTick(seeded_source(1), nano_artifact, "nano", schedule)
        durations_ns = np.zeros(5, dtype=np.int64)
        tick.measure(durations_ns)
        assert durations_ns.min() > 0
        assert tick.pipeline.state is SymbolState.LIVE
        assert tick.name == f"on_frame-{schedule.name}"
        assert (tick.model, tick.precision) == ("nano", "float32")


def test_a_frame_without_a_prediction_is_an_error(
    nano_artifact: Artifact, make_short_source: Callable[[int], FrameSource]
) -> None:
    tick = OpenLoopTick(make_short_source(200), nano_artifact, "nano", SCHEDULES[2])
    tick.pipeline.on_disconnected("the line is cut")
    with pytest.raises(InputError, match="on_frame-100x: frame 0 gave no prediction"):
        tick.measure(np.zeros(3, dtype=np.int64))
