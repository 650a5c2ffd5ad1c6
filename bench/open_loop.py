"""The tick in an open loop: frames are due at fixed times, whether or not the one before is done.

A closed loop sends the next frame when the last one is answered, so a slow answer delays the load and hides
what would have waited behind it. Here every frame has an intended send time, and its latency runs from that
time to its prediction: what queues up behind a slow tick is in it.

Until half a millisecond before a frame is due the process sleeps, then it watches the clock: the figures hold
processing and queueing, and the waking of a process only where the system is late by more than that.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.delta_stream import INTERVAL_MS
from bench.frame_source import FrameSource, FrameTape
from bench.samples import Samples
from inference.artifact import Artifact
from inference.pipeline import Pipeline
from lob.errors import InputError

WATCH_NS: Final = 500_000
START_NS: Final = 2_000_000
"""From the call to the first frame's time."""
BURST: Final = 50
"""Frames that are due at one instant in a burst: a second's worth of Bybit's depth 50."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When frames are due: `together` of them every `interval_ns`."""

    name: str
    interval_ns: int
    together: int = 1

    def due_ns(self, count: int) -> NDArray[np.int64]:
        """The intended times of `count` frames after the start, (count,) int64."""
        return np.arange(count, dtype=np.int64) // self.together * self.interval_ns

    def frames_in(self, seconds: float) -> int:
        """How many frames are due in that time; at least one turn."""
        return max(int(seconds * 1e9 // self.interval_ns), 1) * self.together


_INTERVAL_NS: Final = INTERVAL_MS * 1_000_000
SCHEDULES: Final = (
    Schedule(name="1x", interval_ns=_INTERVAL_NS),
    Schedule(name="10x", interval_ns=_INTERVAL_NS // 10),
    Schedule(name="100x", interval_ns=_INTERVAL_NS // 100),
    Schedule(name="burst", interval_ns=_INTERVAL_NS * BURST, together=BURST),
)
"""Bybit's rate for a book of 50 levels, ten and a hundred times it, and a second's frames all at once."""


class OpenLoopTick:
    """A subject whose samples are times from a frame's intended send time to its prediction."""

    def __init__(
        self,
        source: FrameSource,
        artifact: Artifact,
        model: str,
        schedule: Schedule,
        *,
        precision: str = "float32",
    ) -> None:
        """A connected pipeline, warm after `warm_up`; raises as `Pipeline.create`."""
        self.name = f"on_frame-{schedule.name}"
        self.model = model
        self.pipeline = Pipeline.create(artifact, source.instrument, precision=precision, venue=source.venue)
        self.pipeline.on_connected()
        self.precision = self.pipeline.precision
        frames = "a frame" if schedule.together == 1 else f"{schedule.together} frames at once"
        self.method = (
            f"{frames} every {schedule.interval_ns / 1e6:g} ms; from its intended send time to its prediction"
        )
        self.schedule = schedule
        self._tape = FrameTape(source)
        for receive_ns, frame in self._tape.take(1 + artifact.manifest.window_length):
            self.pipeline.on_frame(frame, receive_ns)

    def measure(self, durations_ns: Samples) -> None:
        """Send as many frames as `durations_ns` (N,) has room for, each at its time or as soon as it can.

        Raises InputError where a frame gives no prediction.
        """
        frames = self._tape.take(len(durations_ns))
        due_ns = (self.schedule.due_ns(len(frames)) + perf_counter_ns() + START_NS).tolist()
        on_frame = self.pipeline.on_frame
        for index, ((receive_ns, frame), due) in enumerate(zip(frames, due_ns, strict=True)):
            wait_until(due)
            prediction = on_frame(frame, receive_ns)
            durations_ns[index] = perf_counter_ns() - due
            if prediction is None:
                raise InputError(f"{self.name}: frame {index} gave no prediction: {self.pipeline.reason}")


def wait_until(
    due_ns: int,
    clock: Callable[[], int] = perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
    *,
    watch_ns: int = WATCH_NS,
) -> None:
    """Return at `due_ns` of the clock, or at once where that has passed; watch it for the last `watch_ns`."""
    early_ns = due_ns - clock()
    if early_ns > watch_ns:
        sleep((early_ns - watch_ns) / 1e9)
    while clock() < due_ns:
        pass
