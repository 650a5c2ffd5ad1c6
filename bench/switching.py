"""Ticks at 100 times an exchange's rate while models are switched: is any missed, doubled or late?

What runs is a service's own: pipeline, publisher, hub with a subscriber, and `serve.model_switcher` with the
thread and the process that load, on one event loop. Frames are handed to the publisher at their intended
times instead of coming off a socket; a tick's latency runs from that time to its publication.

A tick can also be late because the system gave the core to somebody else. On Linux the time that this thread
waited for a core is known (`schedstat`), and taken off lateness apart: what remains is of our own doing, or
of what cannot be seen from inside, such as a hypervisor's.
"""

import asyncio
import gc
import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns
from typing import Final, Literal

import msgspec
import numpy as np

from bench.delta_stream import INTERVAL_MS
from bench.frame_source import FrameSource
from inference.pipeline import Pipeline
from inference.prediction import Prediction
from inference.registry import load_model
from inference.rehearsal import warm_up
from lob.captures import CapturedFrame
from lob.errors import InputError
from lob.sync import SymbolState
from serve.clock import AnchoredClock
from serve.hub import Hub, Mailbox
from serve.messages import Push, parse_push, topic_name
from serve.model_switcher import ModelSwitcher
from serve.publisher import PredictionPublisher
from serve.ready_model import ModelSource
from serve.shadow_log import ShadowLog

LATE_NS: Final = 1_000_000
RATE: Final = 100
INTERVAL_NS: Final = INTERVAL_MS * 1_000_000 // RATE
TICKS_AFTER: Final = 50
"""After the last switch, so that it shows."""
LONGEST_PAUSE_S: Final = 0.01
"""Between two switches, drawn at random: they fall anywhere between ticks."""

Mode = Literal["steady", "loaded", "anew"]
"""No switches; to and from a model that is loaded already; to one that is read from the disk each time."""


@dataclass
class Ticks:
    """What became of the ticks of one mode."""

    mode: Mode
    latency_ns: list[int] = field(default_factory=list)
    waited_ns: list[int] = field(default_factory=list)
    """How long the thread waited for a core since the tick before; zeros where that is not known."""
    texts: list[str] = field(default_factory=list)
    """What the subscriber got, in order."""
    expected: list[int] = field(default_factory=list)
    """The update of each frame that has to be answered."""
    switch_ns: list[int] = field(default_factory=list)
    """From the request of a switch to its end."""


class SwitchCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Ticks of one mode, and what was wrong with them."""

    mode: str
    ticks: int
    switches: int
    switches_seen: int
    """Changes of the model that the subscriber saw in the predictions."""
    missed: int
    doubled: int
    late: int
    """Published more than 1 ms after the intended time."""
    late_of_own_doing: int | None
    """Of these, late also without the time that the thread waited for a core; None where that is unknown."""


class SwitchingService:
    """One symbol of a service on `source`, its models in `models_dir`; call it within one event loop."""

    def __init__(self, source: FrameSource, models_dir: Path, models: list[str], engine: str) -> None:
        self.models = models
        self.artifact = load_model(models[0], models_dir)
        self.pipeline = Pipeline.create(self.artifact, source.instrument, engine=engine, venue=source.venue)
        warm_up(self.pipeline)
        self.hub = Hub([source.instrument.symbol], AnchoredClock())
        self.publisher = PredictionPublisher(self.pipeline, self.hub)
        self.switcher = ModelSwitcher(
            {source.instrument.symbol: self.publisher.models},
            self.hub,
            ModelSource(models_dir=models_dir, engine=engine, precision="float32", venue="bybit", depth=None),
            shadow_sink=ShadowLog(None).put,
            waiting_frames=lambda: 0,
        )
        self._mailbox = Mailbox()
        self.hub.subscribe(self._mailbox, [topic_name(source.instrument.symbol)])
        self._frames = list(source.passes())
        self._place = 0
        self._updates = [_update_id(frame) for frame in self._frames]
        self._pass = 0

    async def run(self, mode: Mode, *, switches: int, ticks: int, seed: int) -> Ticks:
        """Ticks at the rate until `switches` are done, at least `ticks`; raises what a switch raises."""
        found = Ticks(mode)
        work = asyncio.create_task(self.switcher.run())
        if mode == "loaded" and self.publisher.models.previous is None:
            await self.switcher.activate(self._next_model(), [], 60.0)  # the load is not what is timed here
        changes = asyncio.create_task(self._switches(mode, switches, found, random.Random(seed)))  # noqa: S311
        gc.collect()
        gc.freeze()  # as the service does at its start; automatic collection stays on
        try:
            await self._tick_until(lambda: changes.done() and len(found.latency_ns) >= ticks, found)
            await changes
            enough = len(found.latency_ns) + TICKS_AFTER
            await self._tick_until(lambda: len(found.latency_ns) >= enough, found)
        finally:
            for task in (changes, work):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        return found

    async def _tick_until(self, ended: Callable[[], bool], found: Ticks) -> None:
        """Hand frames over, each at its time or as soon as can be."""
        publisher, mailbox, now_ns = self.publisher, self._mailbox, self.hub.clock.now_ns
        clock, sleep = perf_counter_ns, asyncio.sleep
        warmup_rows = self.artifact.manifest.warmup_rows
        waiting = _waiting_clock()
        waited_before = waiting()
        due_ns = clock() + INTERVAL_NS
        while not ended():
            place, frame = self._place, self._next()
            while clock() < due_ns:
                await sleep(0)
            publisher.on_frame(frame.frame, now_ns())
            found.latency_ns.append(clock() - due_ns)
            waited = waiting()
            found.waited_ns.append(waited - waited_before)
            waited_before = waited
            if place + 1 >= warmup_rows:
                found.expected.append(self._pass * len(self._frames) + place)
            while (text := mailbox.take()) is not None:
                found.texts.append(text)
            due_ns += INTERVAL_NS
            await sleep(0)

    def _next(self) -> CapturedFrame:
        """The next frame; after the last one the first again, a snapshot."""
        if self._place == 0:
            self._pass += 1
            self.publisher.on_connected()
        frame = self._frames[self._place]
        self._place = (self._place + 1) % len(self._frames)
        return frame

    async def _switches(self, mode: Mode, count: int, found: Ticks, pauses: random.Random) -> None:
        if mode == "steady":
            return
        await asyncio.sleep(0.1)  # the window fills
        for _ in range(count):
            while self.pipeline.state is not SymbolState.LIVE:
                await asyncio.sleep(0)
            start_ns = perf_counter_ns()
            if mode == "loaded":
                await self.switcher.rollback([], 60.0)
            else:
                await self.switcher.activate(self._next_model(), [], 60.0)
            found.switch_ns.append(perf_counter_ns() - start_ns)
            await asyncio.sleep(pauses.uniform(0, LONGEST_PAUSE_S))

    def _next_model(self) -> str:
        place = self.models.index(self.publisher.models.serving.title)
        return self.models[(place + 1) % len(self.models)]

    def counts(self, found: Ticks) -> SwitchCounts:
        """What the subscriber got, held against what was sent."""
        frames = len(self._frames)
        first = self._updates[0]
        passes = found.expected[0] // frames
        got: list[int] = []
        titles: list[str] = []
        seq = None
        for text in found.texts:
            push: Push = parse_push(text.encode())
            if seq is not None and push.seq != seq + 1 + push.missed:
                raise InputError(f"seq: {push.seq} came after {seq}, {push.missed} missed")
            seq = push.seq
            if push.type != "prediction":
                continue
            prediction = _prediction_decoder.decode(push.data)
            place = prediction.update_id - first
            if got and place < got[-1] % frames:
                passes += 1
            got.append(passes * frames + place)
            titles.append(f"{prediction.model}@{prediction.model_version}")
        expected = set(found.expected)
        late, own = _late(found)
        return SwitchCounts(
            mode=found.mode,
            ticks=len(found.latency_ns),
            switches=len(found.switch_ns),
            switches_seen=sum(one != other for one, other in pairwise(titles)),
            missed=len(expected - set(got)),
            doubled=len(got) - len(set(got)),
            late=late,
            late_of_own_doing=own,
        )


_prediction_decoder = msgspec.json.Decoder(Prediction)


def _late(found: Ticks) -> tuple[int, int | None]:
    """Ticks that were late; and those late without the time that the thread waited for a core."""
    latency = np.array(found.latency_ns, np.int64)
    waited = np.array(found.waited_ns, np.int64)
    late = int((latency > LATE_NS).sum())
    if not waited.any():
        return late, None
    own, carried = 0, 0
    for took_ns, waited_ns, before_ns in zip(latency, waited, np.roll(latency, 1), strict=True):
        # A tick that was due before the one ahead of it was done waits for what that one waited for.
        carried = waited_ns + (carried if before_ns > INTERVAL_NS else 0)
        own += took_ns - carried > LATE_NS
    return late, int(own)


def _waiting_clock() -> Callable[[], int]:
    """Nanoseconds that this thread has waited for a core so far; always 0 where the system does not say."""
    try:
        handle = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        return lambda: 0
    return lambda: int(os.pread(handle, 128, 0).split()[1])


def _update_id(frame: CapturedFrame) -> int:
    update: int = msgspec.json.decode(frame.frame)["data"]["u"]
    return update
