"""Ticks at 100 times an exchange's rate while models are switched: is any missed, doubled or late?

What runs is a service's own: pipeline, publisher, hub with a subscriber, and `serve.model_switcher` with the
process that loads, on one event loop. Frames are handed to the publisher at their intended times instead of
coming off a socket; a tick's latency runs from that time to its publication.

A tick can also be late because the loop's thread was without a core: another thread, another process or the
hypervisor had it. The loop never sleeps here, so on Linux the time that its thread did not run is known, and
ticks are also counted that would have been late without it. Whoever had the core may have been the process
that loads: that is in `late`, and only there. Where the thread has slept all the same, for a lock say, none
of that time is taken off. A hypervisor does not always tell what it takes: so the modes take turns of about a
second, with as many ticks each, and what the machine does to all of them is told from what switches do.
"""

import asyncio
import gc
import random
import resource
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from typing import Final, Literal, Self

import msgspec
import numpy as np

from bench.delta_stream import INTERVAL_MS
from bench.frame_source import FrameSource
from bench.samples import Samples
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
from serve.turns import Turns

LATE_NS: Final = 1_000_000
RATE: Final = 100
INTERVAL_NS: Final = INTERVAL_MS * 1_000_000 // RATE
TICKS_AFTER: Final = 50
"""After the last switch, so that it shows."""
LONGEST_PAUSE_S: Final = 0.01
"""Between two switches, drawn at random: they fall anywhere between ticks."""
SWITCHES_A_TURN: Final = 25
"""Of one mode, before the next mode has its turn; for `anew` about a second."""

OnProgress = Callable[[int, int], None]
"""Told how many switches of how many each mode has made."""

Mode = Literal["steady", "loaded", "anew"]
"""No switches; to and from a model that is loaded already; to one that is read from the disk each time."""


@dataclass
class Ticks:
    """What became of the ticks of one turn of a mode.

    In deques, since a list is copied as it grows, and one of 100,000 takes a millisecond for that.
    """

    mode: Mode
    latency_ns: deque[int] = field(default_factory=deque)
    without_core_ns: deque[int] = field(default_factory=deque)
    """How long the thread was without a core since the tick before; zeros where that is not known."""
    texts: deque[str] = field(default_factory=deque)
    """What the subscriber got, in order."""
    expected: deque[int] = field(default_factory=deque)
    """The update of each frame that has to be answered."""
    switch_ns: list[int] = field(default_factory=list)
    """From the request of a switch to its end."""


class SwitchCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Ticks of one or more turns of a mode, and what was wrong with them."""

    mode: Mode
    turns: int
    ticks: int
    switches: int
    switches_seen: int
    """Changes of the model that the subscriber saw in the predictions."""
    missed: int
    doubled: int
    late: int
    """Published more than 1 ms after the intended time."""
    late_with_core: int | None
    """Of these, late also if the thread had had a core all the time; None where that is unknown."""
    turns_with_late: int

    def __add__(self, other: Self) -> Self:
        """Those of the turns of both, which are of the same mode."""
        assert self.mode == other.mode, f"ticks of {self.mode} and of {other.mode}"
        sums = {}
        for name in self.__struct_fields__:
            if name != "mode":
                one, more = getattr(self, name), getattr(other, name)
                sums[name] = None if one is None or more is None else one + more
        return msgspec.structs.replace(self, **sums)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a mode: what was wrong with its ticks, and how long ticks and switches took."""

    counts: SwitchCounts
    latency_ns: Samples  # (ticks,)
    switch_ns: Samples  # (switches,)


class SwitchingService:
    """One symbol of a service on `source`, its models in `models_dir`; call it within one event loop."""

    def __init__(
        self,
        source: FrameSource,
        models_dir: Path,
        models: list[str],
        engine: str,
        precision: str = "float32",
    ) -> None:
        self.models = models
        self.artifact = load_model(models[0], models_dir)
        self.pipeline = Pipeline.create(
            self.artifact, source.instrument, engine=engine, precision=precision, venue=source.venue
        )
        warm_up(self.pipeline)
        self.hub = Hub([source.instrument.symbol], AnchoredClock())
        self.publisher = PredictionPublisher(self.pipeline, self.hub)
        self.switcher = ModelSwitcher(
            {source.instrument.symbol: self.publisher.models},
            self.hub,
            ModelSource(
                models_dir=models_dir,
                engine=engine,
                precision=precision,
                venue="bybit",
                depth=None,
                turns=Turns(self._waiting_frames),
            ),
            shadow_sink=ShadowLog(None).put,
            waiting_frames=self._waiting_frames,
        )
        manifest, whole = self.artifact.manifest, self.pipeline.engine.describe()["context"] == "window"
        self._silent_rows = (manifest.window_length if whole else manifest.warmup_rows) - 1
        """After a snapshot, before the first answer."""
        self._due_ns = sys.maxsize
        self._mailbox = Mailbox()
        self.hub.subscribe(self._mailbox, [topic_name(source.instrument.symbol)])
        self._frames = list(source.passes())
        self._place = 0
        self._updates = [_update_id(frame) for frame in self._frames]
        self._pass = 0

    async def take_turns(
        self, switches: int, pauses: random.Random, on_progress: OnProgress | None = None
    ) -> list[dict[Mode, Turn]]:
        """What came of each round, by mode: all modes have a turn in it, and about as many ticks.

        There are as many rounds as it takes until each mode but `steady` has made `switches`.

        Raises what a switch raises.
        """
        rounds: list[dict[Mode, Turn]] = []
        for first in range(0, switches, SWITCHES_A_TURN):
            count = min(SWITCHES_A_TURN, switches - first)
            anew = await self.run("anew", switches=count, ticks=0, pauses=pauses)
            ticks = len(anew.latency_ns)
            steady = await self.run("steady", switches=0, ticks=ticks, pauses=pauses)
            loaded = await self.run("loaded", switches=count, ticks=ticks, pauses=pauses)
            rounds.append({one.mode: self._counted(one) for one in (steady, loaded, anew)})
            if on_progress is not None:
                on_progress(first + count, switches)
        return rounds

    def _counted(self, found: Ticks) -> Turn:
        return Turn(
            counts=self.counts(found),
            latency_ns=np.array(found.latency_ns, np.int64),
            switch_ns=np.array(found.switch_ns, np.int64),
        )

    async def run(self, mode: Mode, *, switches: int, ticks: int, pauses: random.Random) -> Ticks:
        """Ticks at the rate until TICKS_AFTER the last of `switches`, at least `ticks`.

        `pauses` draws how long after a switch the next is asked for. Raises what a switch raises.
        """
        found = Ticks(mode)
        work = asyncio.create_task(self.switcher.run())
        if mode == "loaded" and self.publisher.models.previous is None:
            await self.switcher.activate(self._next_model(), [], 60.0)  # the load is not what is timed here
        changes = asyncio.create_task(self._switches(mode, switches, found, pauses))
        gc.collect()
        gc.freeze()  # as the service does at its start; automatic collection stays on
        enough: int | None = None

        def ended() -> bool:
            nonlocal enough
            if enough is None and changes.done():
                enough = max(ticks, len(found.latency_ns) + TICKS_AFTER)
            return enough is not None and len(found.latency_ns) >= enough

        try:
            await self._tick_until(ended, found)
            await changes
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
        silent_rows = self._silent_rows
        without_core_ns = _core_watch()
        due_ns = self._due_ns = clock() + INTERVAL_NS
        while not ended():
            place, frame = self._place, self._next()
            while clock() < due_ns:
                await sleep(0)
            publisher.on_frame(frame.frame, now_ns())
            found.latency_ns.append(clock() - due_ns)
            found.without_core_ns.append(without_core_ns())
            if place >= silent_rows:
                found.expected.append(self._pass * len(self._frames) + place)
            while (text := mailbox.take()) is not None:
                found.texts.append(text)
            due_ns += INTERVAL_NS
            self._due_ns = due_ns
            await sleep(0)
        self._due_ns = sys.maxsize

    def _waiting_frames(self) -> int:
        """Frames whose time has come, which a service would find on its connection."""
        return max(0, (perf_counter_ns() - self._due_ns) // INTERVAL_NS + 1)

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
        """One that does not serve, and where there is one that is not in memory either."""
        models = self.publisher.models
        loaded = {one.title for one in models.placed()}
        others = [name for name in self.models if name != models.serving.title]
        return min(others, key=lambda name: name in loaded)

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
        late, late_with_core = _late(found)
        return SwitchCounts(
            mode=found.mode,
            turns=1,
            ticks=len(found.latency_ns),
            switches=len(found.switch_ns),
            switches_seen=sum(one != other for one, other in pairwise(titles)),
            missed=len(expected - set(got)),
            doubled=len(got) - len(set(got)),
            late=late,
            late_with_core=late_with_core,
            turns_with_late=int(late > 0),
        )


_prediction_decoder = msgspec.json.Decoder(Prediction)


def _late(found: Ticks) -> tuple[int, int | None]:
    """Ticks that were late; and those that would have been with a core all the time, None where unknown.

    Ticks queue: each begins when it is due or, where that is later, when the one before it is done. So the
    latency with a core is that of a queue (Lindley's recursion) whose ticks take what they took less the
    time without a core.
    """
    late = sum(latency_ns > LATE_NS for latency_ns in found.latency_ns)
    if not hasattr(resource, "RUSAGE_THREAD"):
        return late, None
    late_with_core = before_ns = with_core_ns = 0
    for latency_ns, lost_ns in zip(found.latency_ns, found.without_core_ns, strict=True):
        # From when this tick was due until the one before it was done; below 0 where that was done first.
        queued_ns = before_ns - INTERVAL_NS
        # Between two ticks a loss delays nothing. How much of it fell there is not known: as much as could.
        delay_ns = max(0, lost_ns + min(0, queued_ns))
        took_ns = latency_ns - max(0, queued_ns) - delay_ns
        with_core_ns = max(0, with_core_ns - INTERVAL_NS) + took_ns
        late_with_core += with_core_ns > LATE_NS
        before_ns = latency_ns
    return late, late_with_core


def _core_watch() -> Callable[[], int]:
    """A function that tells how many nanoseconds since its last call this thread was without a core.

    0 where the thread has slept meanwhile, by its own will, and where the system does not tell. Call it on
    the thread that made it.
    """
    which = getattr(resource, "RUSAGE_THREAD", None)
    if which is None:
        return lambda: 0
    wall_ns, ran_ns, sleeps = perf_counter_ns(), thread_time_ns(), resource.getrusage(which).ru_nvcsw

    def without_core_ns() -> int:
        nonlocal wall_ns, ran_ns, sleeps
        before = wall_ns, ran_ns, sleeps
        wall_ns, ran_ns, sleeps = perf_counter_ns(), thread_time_ns(), resource.getrusage(which).ru_nvcsw
        if sleeps != before[2]:
            return 0
        return max(0, (wall_ns - before[0]) - (ran_ns - before[1]))

    return without_core_ns


def _update_id(frame: CapturedFrame) -> int:
    update: int = msgspec.json.decode(frame.frame)["data"]["u"]
    return update
