"""The service of a run over sockets: that of `mambalob serve`, with readings of the clock around its steps.

Everything is the service's own, its event loop, its garbage collector and its policies among it; only how
long a feed may be silent or late is not bounded, since phases have pauses and an overload is to be seen.
"""

import asyncio
import gc
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.machine import preemptions_since, preemptions_so_far
from inference.pipeline import Pipeline
from inference.prediction import Prediction
from lob.errors import MambalobError
from lob.instrument import Instrument
from serve.clock import AnchoredClock
from serve.feed_policies import IdlePolicy, LagPolicy, StallPolicy
from serve.hub import Hub
from serve.keep_warm import KeepWarmPolicy
from serve.process import freeze_start_up, run_until_signalled
from serve.service import Service, ServiceConfig

NEVER_S: Final = 86_400.0
CLOCK_READINGS: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Served:
    """What is served, and where."""

    port: int
    model: str
    engine: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class Stamps:
    """When each update reached each step, by `perf_counter_ns`, 0 where it did not; all (updates,) int64."""

    received_ns: NDArray[np.int64]
    """Read from the socket."""
    handled_ns: NDArray[np.int64]
    """Handed to the pipeline."""
    predicted_ns: NDArray[np.int64]
    """The prediction is there."""
    emitted_ns: NDArray[np.int64]
    """Stamped by the hub, before it is encoded."""


class Collections:
    """Passes of the service's garbage collector, from the start of service to its end."""

    def __init__(self) -> None:
        self.durations_ns: list[list[int]] = [[], [], []]
        """By generation."""
        self._began_ns = 0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """To be put into `gc.callbacks`."""
        if phase == "start":
            self._began_ns = perf_counter_ns()
        else:
            self.durations_ns[info["generation"]].append(perf_counter_ns() - self._began_ns)

    def __str__(self) -> str:
        """One line."""
        passes = ", ".join(
            f"{len(taken)} of generation {generation} ({median(taken) / 1000:,.0f} us p50, "
            f"{max(taken) / 1000:,.0f} us at most)"
            for generation, taken in enumerate(self.durations_ns)
            if taken
        )
        return f"of the service on, what was there at its start frozen; passes: {passes or 'none'}"


@dataclass(frozen=True, kw_only=True)
class Account:
    """What the service has to say at its end."""

    stamps: Stamps
    collections: str
    preemptions: int | None


class Probe:
    """Reads the clock where a pipeline is entered and left, and where the hub is."""

    def __init__(self, updates: int) -> None:
        """Make room for updates numbered below `updates`."""
        times_ns = np.zeros((4, updates), dtype=np.int64)
        self._times_ns = times_ns
        self._received, self._handled, self._predicted, self._emitted = (row.data for row in times_ns)

    def attach(self, pipeline: Pipeline, hub: Hub) -> None:
        """Stand around the calls of `pipeline.on_frame` and `hub.publish` from now on."""
        on_frame, publish, clock = pipeline.on_frame, hub.publish, perf_counter_ns
        handled, predicted = self._handled, self._predicted
        received, emitted = self._received, self._emitted

        def timed_on_frame(frame: bytes, receive_ns: int) -> Prediction | None:
            start_ns = clock()
            prediction = on_frame(frame, receive_ns)
            end_ns = clock()
            if prediction is not None:
                handled[prediction.update_id] = start_ns
                predicted[prediction.update_id] = end_ns
            return prediction

        def noted_publish(prediction: Prediction) -> None:
            publish(prediction)
            received[prediction.update_id] = prediction.receive_ns
            emitted[prediction.update_id] = prediction.emit_ns

        pipeline.on_frame = timed_on_frame  # type: ignore[method-assign]
        hub.publish = noted_publish  # type: ignore[method-assign]

    def stamps(self, ahead_ns: int) -> Stamps:
        """All that was read; the service's own clock runs `ahead_ns` ahead of `perf_counter_ns`."""
        received, handled, predicted, emitted = self._times_ns
        return Stamps(
            received_ns=np.where(received > 0, received - ahead_ns, 0),
            handled_ns=handled,
            predicted_ns=predicted,
            emitted_ns=np.where(emitted > 0, emitted - ahead_ns, 0),
        )


def ahead_ns(clock: AnchoredClock) -> int:
    """By how much `clock` is ahead of `perf_counter_ns`: read between two readings, the narrowest of many."""
    narrowest_ns, found_ns = 1_000_000_000, 0
    for _ in range(CLOCK_READINGS):
        before_ns = perf_counter_ns()
        now_ns = clock.now_ns()
        after_ns = perf_counter_ns()
        if after_ns - before_ns < narrowest_ns:
            narrowest_ns, found_ns = after_ns - before_ns, now_ns - (before_ns + after_ns) // 2
    return found_ns


def run_service(
    pipe: Connection,
    url: str,
    instrument: Instrument,
    model: Path,
    keep_warm: KeepWarmPolicy,
    updates: int,
) -> None:
    """Serve until the pipe is told something, or ends; says a `Served` at first, an `Account` at last.

    Where it cannot start it says why, as text.
    """
    try:
        service = Service(
            ServiceConfig(
                symbols=(instrument.symbol,),
                url=url,
                category="linear",
                model=str(model),
                tick_sizes={instrument.symbol: instrument.tick_size},
                port=0,
                stall=StallPolicy(after_ms=int(NEVER_S * 1000)),
                lag=LagPolicy(maximum_wait_ms=None),
                keep_warm=keep_warm,
                idle=IdlePolicy(probe_after_s=NEVER_S, ping_interval_s=NEVER_S),
            )
        )
    except MambalobError as error:
        pipe.send(str(error))
        return
    (symbol,) = service.symbols.values()
    probe = Probe(updates)
    probe.attach(symbol.pipeline, service.hub)
    collections = Collections()
    freeze_start_up()
    gc.callbacks.append(collections)
    preemptions_before = preemptions_so_far()
    pipe.send(
        Served(
            port=service.address[1],
            model=service.artifact.name,
            engine=service.engine_name,
            precision=symbol.pipeline.precision,
        )
    )

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(pipe.fileno(), service.stop)
        try:
            await service.run()
        finally:
            loop.remove_reader(pipe.fileno())
            os.set_blocking(pipe.fileno(), True)  # the event loop leaves what it has watched otherwise

    run_until_signalled(serve(), service.stop)
    gc.callbacks.remove(collections)
    preemptions = preemptions_since(preemptions_before)
    pipe.send(
        Account(
            stamps=probe.stamps(ahead_ns(service.clock)),
            collections=str(collections),
            preemptions=preemptions,
        )
    )
