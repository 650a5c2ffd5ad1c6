"""Ticks of no symbol while the feed is silent, so that the next real one does not find everything cold.

A tick after some milliseconds of silence takes several times what one right after another takes: other work
has had the core's caches, translation buffers and branch predictors. A rehearsal's step puts weights, code
and tables back.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns

from inference.pipeline import Pipeline
from inference.rehearsal import Rehearsal
from lob.errors import InputError
from serve.feed import Feed

LEAST_MS, MOST_MS = 0.1, 1_000.0


@dataclass(frozen=True, kw_only=True)
class KeepWarmPolicy:
    """What is done while no frame comes: after each `every_ms` of silence a rehearsal's step; None: nothing.

    A step is one call of a tick's length, so a frame that comes during it waits for so long and no longer;
    none begins while a frame waits in the process. `busy_poll`: the event loop looks at its sockets again and
    again instead of sleeping until one has something, which takes a core whole and is for one that nobody
    else needs.
    """

    every_ms: float | None = None
    busy_poll: bool = False

    def __post_init__(self) -> None:
        if self.every_ms is not None and not LEAST_MS <= self.every_ms <= MOST_MS:
            raise InputError(
                f"keep warm every_ms: {self.every_ms} came; {LEAST_MS:g} to {MOST_MS:g} or None is allowed"
            )


class WarmKeeper:
    """Steps rehearsals of the models that `pipelines` serve, between the frames of `feed`."""

    def __init__(self, policy: KeepWarmPolicy, feed: Feed, pipelines: Sequence[Pipeline]) -> None:
        self.policy = policy
        self.steps = 0
        """Steps so far."""
        self.spent_ns = 0
        """Time in them."""
        self.longest_ns = 0
        """The longest of them: what a frame may have had to wait."""
        self._feed = feed
        self._pipelines = pipelines
        self._rehearsals: dict[str, Rehearsal] = {}
        """By the checksum of the model."""

    async def run(self) -> None:
        """Do as the policy says until cancelled; returns at once where it says nothing."""
        policy = self.policy
        if policy.every_ms is None and not policy.busy_poll:
            return
        every_ns = math.inf if policy.every_ms is None else policy.every_ms * 1e6
        pause_s = 0.0 if policy.busy_poll else every_ns / 1e9
        counters, handled, since_ns = self._feed.counters, -1, perf_counter_ns()
        while True:
            await asyncio.sleep(pause_s)
            if counters.frames != handled:
                handled, since_ns = counters.frames, perf_counter_ns()
            elif not policy.busy_poll or perf_counter_ns() - since_ns >= every_ns:
                # The pause may have ended together with bytes on a socket: those go first.
                await asyncio.sleep(0)
                if counters.frames == handled and not self._feed.waiting_frames:
                    self._step()
                since_ns = perf_counter_ns()

    def _step(self) -> None:
        start_ns = perf_counter_ns()
        self._rehearsal().step()
        taken_ns = perf_counter_ns() - start_ns
        self.steps += 1
        self.spent_ns += taken_ns
        self.longest_ns = max(self.longest_ns, taken_ns)

    def _rehearsal(self) -> Rehearsal:
        """That of the model of each pipeline in turn; made where a pipeline has been given a new one."""
        pipeline = self._pipelines[self.steps % len(self._pipelines)]
        model = pipeline.artifact.sha256
        rehearsal = self._rehearsals.get(model)
        if rehearsal is None:
            served = {one.artifact.sha256 for one in self._pipelines}
            self._rehearsals = {sha256: one for sha256, one in self._rehearsals.items() if sha256 in served}
            rehearsal = self._rehearsals[model] = Rehearsal(pipeline)
        return rehearsal
