"""The measuring core: every subject's calls are timed one by one, in blocks that take turns.

Method, the same for every subject:

- One sample is one call between two readings of `time.perf_counter_ns`. The cost of the two readings is
  measured in the same run, in blocks of its own, and reported beside the figures; it is not subtracted.
- Subjects take turns in blocks of a few dozen calls, so that a noisy spell of the machine falls on all of
  them and the ratio of two subjects means something. Each block starts with some untimed calls, since the
  first calls after another subject's block meet that subject's caches.
- The garbage collector is emptied, frozen and switched off while a run lasts.
- Every sample is kept; percentiles come from the samples themselves (`bench.samples`), not from buckets.
"""

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns, thread_time_ns
from typing import Protocol

import numpy as np

from bench.samples import Samples
from lob.errors import InputError


class Named(Protocol):
    """What durations are of."""

    @property
    def name(self) -> str:
        """What is timed: a stage, an engine, a peer."""

    @property
    def model(self) -> str:
        """The model it is timed with, or the size of its input."""

    @property
    def precision(self) -> str:
        """The number format of its arithmetic; `none` where it does none."""

    @property
    def method(self) -> str:
        """One line: what lies between the two readings of the clock."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """What durations are of that do not come from calls of a subject; a `Named`."""

    name: str
    model: str
    precision: str
    method: str


class Subject(Named, Protocol):
    """Something whose calls can be timed; it draws its own input and restores its own state."""

    def measure(self, durations_ns: Samples) -> None:
        """Make and time as many calls as `durations_ns` (N,) int64 has room for.

        Input is prepared and state restored outside the timed part.
        """


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many calls are timed and how subjects take turns."""

    count: int = 10_000
    """Timed calls of each subject."""
    warmup: int = 500
    """Untimed calls of each subject before the first timed one."""
    block: int = 64
    """Timed calls of one subject before the next one's turn."""
    lead_in: int = 8
    """Untimed calls at the start of each block."""

    def __post_init__(self) -> None:
        for field, least in (("count", 1), ("warmup", 0), ("block", 1), ("lead_in", 0)):
            if getattr(self, field) < least:
                raise InputError(f"{field} is {getattr(self, field)}; at least {least} is needed")

    def with_block(self, block: int) -> "Plan":
        """As many turns, with `block` timed calls in each and untimed ones in proportion."""
        if block >= self.block:
            return self
        turns = -(-self.count // self.block)
        return Plan(
            count=turns * block,
            warmup=-(-self.warmup * block // self.block),
            block=block,
            lead_in=min(self.lead_in, block),
        )

    @property
    def calls(self) -> int:
        """Calls of each subject in all, timed or not."""
        return self.warmup + self.count + self.lead_in * len(range(0, self.count, self.block))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The samples of one subject in one run."""

    subject: Named
    durations_ns: Samples  # (count,) int64, in the order of the calls
    processor_ns: float = math.inf
    """Processor time of a timed call on average, with what the subject does around it; infinite if untold."""


class ClockReading:
    """The subject that does nothing: what two readings of the clock cost."""

    name = "perf_counter_ns"
    model = ""
    precision = "none"
    method = "nothing between two readings"

    def measure(self, durations_ns: Samples) -> None:
        """Time as many empty spans as `durations_ns` (N,) has room for."""
        clock = perf_counter_ns
        for index in range(len(durations_ns)):
            start = clock()
            durations_ns[index] = clock() - start


def run_interleaved(
    subjects: Sequence[Subject],
    plan: Plan,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    blocks: Sequence[int] | None = None,
) -> list[Measured]:
    """Warm every subject, then time all of them in turns; one result a subject, in their order.

    `on_progress(blocks done, blocks in all)` is called between blocks, outside every timed part. `blocks`:
    for each subject the timed calls of its turn, at most `plan.block`, where slow ones are to take fewer;
    they have as many turns as the others and so fewer samples, and a like share of the untimed calls.
    """
    plans = [plan] * len(subjects) if blocks is None else [plan.with_block(block) for block in blocks]
    durations_ns = [np.zeros(own.count, dtype=np.int64) for own in plans]
    processor_ns = [0] * len(plans)
    rounds = list(zip(*(_spans(own.count, own.block) for own in plans), strict=True))
    done, total = 0, len(subjects) * (len(rounds) + 1)
    with garbage_collector_off():
        for subject, own in zip(subjects, plans, strict=True):
            subject.measure(np.zeros(own.warmup, dtype=np.int64))
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        lead_ins = [np.zeros(own.lead_in, dtype=np.int64) for own in plans]
        for spans in rounds:
            for place, (subject, span) in enumerate(zip(subjects, spans, strict=True)):
                subject.measure(lead_ins[place])
                start_ns = thread_time_ns()
                subject.measure(durations_ns[place][span])
                processor_ns[place] += thread_time_ns() - start_ns
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
    return [
        Measured(subject=subject, durations_ns=taken, processor_ns=spent / taken.size)
        for subject, taken, spent in zip(subjects, durations_ns, processor_ns, strict=True)
    ]


def fitting_block(subject: Subject, plan: Plan, turn_ns: int) -> int:
    """How many calls of `subject` fit into a turn of `turn_ns`: at least 1, at most `plan.block`.

    Told from the shortest of three calls made now, after one that warms.
    """
    duration_ns = np.zeros(1, dtype=np.int64)
    subject.measure(duration_ns)
    each_ns = []
    for _ in range(3):
        start = perf_counter_ns()
        subject.measure(duration_ns)
        each_ns.append(perf_counter_ns() - start)
    return min(max(turn_ns // max(min(each_ns), 1), 1), plan.block)


def _spans(count: int, block: int) -> Iterator[slice]:
    for start in range(0, count, block):
        yield slice(start, min(start + block, count))


@contextmanager
def garbage_collector_off() -> Iterator[None]:
    """Collect once, then keep the collector away from the run; put back what was there."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
