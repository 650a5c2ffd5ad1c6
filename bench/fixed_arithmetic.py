"""Arithmetic in registers that takes turns with the subjects: it tells how quiet the core was.

The same additions and shifts every time, no memory: left alone they take the same time at every call. What
slows them slows every subject, whatever the system reports: a clock rate that sinks, or other work on the
second hardware thread of the same core, which a virtual machine cannot see. Five chains that do not wait for
each other fill the execution units: these are what two threads of a core share.
"""

from collections.abc import Sequence
from time import perf_counter_ns
from typing import Final

import msgspec
import numpy as np

from bench.harness import Measured
from bench.samples import Samples, summarize
from lob.kernel import kernel

ROUNDS: Final = 2_400
"""About 3 us, as long as a short tick."""
SEED: Final = 1
SLOWED: Final = 1.1
"""A call that took more than this many times the least one was slowed."""


class QuietCore(msgspec.Struct, frozen=True, kw_only=True):
    """What calls of the same arithmetic took over all runs, microseconds."""

    least_us: float
    p50_us: float
    p99_us: float
    slowed: float
    """The share of calls, 0 to 1, that took more than 1.1 times the least."""

    def __str__(self) -> str:
        return (
            f"core: the same arithmetic took {self.least_us:.2f} us at least, {self.p50_us:.2f} p50, "
            f"{self.p99_us:.2f} p99; {self.slowed:.1%} of its calls were slowed (over {SLOWED:g} times the "
            "least), and with them whatever was timed then"
        )


class FixedArithmetic:
    """The subject that computes the same numbers at every call and touches no memory."""

    name = "fixed arithmetic"
    model = ""
    precision = "none"
    method = "the same additions and shifts in registers"

    def __init__(self) -> None:
        _mix(ROUNDS, SEED)  # which compiles it

    def measure(self, durations_ns: Samples) -> None:
        """Time as many calls as `durations_ns` (N,) has room for."""
        clock, rounds, seed = perf_counter_ns, ROUNDS, SEED
        for index in range(len(durations_ns)):
            start = clock()
            _mix(rounds, seed)
            durations_ns[index] = clock() - start


def quiet_core(runs: Sequence[Measured]) -> QuietCore:
    """How quiet the core was while `runs` of FixedArithmetic took their turns."""
    durations_ns = np.concatenate([run.durations_ns for run in runs])
    found, least_ns = summarize(durations_ns), int(durations_ns.min())
    return QuietCore(
        least_us=least_ns / 1000,
        p50_us=found.p50_ns / 1000,
        p99_us=found.p99_ns / 1000,
        slowed=float((durations_ns > SLOWED * least_ns).mean()),
    )


@kernel
def _mix(rounds: int, seed: int) -> int:
    """Five chains of three operations, `rounds` times; all are in the answer, so that none is left out."""
    a, b, c, d, e = seed, seed + 1, seed + 2, seed + 3, seed + 4
    for _ in range(rounds):
        a = (a ^ (a >> 3)) + 1
        b = (b ^ (b >> 7)) + 3
        c = (c ^ (c >> 2)) + 5
        d = (d ^ (d >> 5)) + 7
        e = (e ^ (e >> 4)) + 9
    return a ^ b ^ c ^ d ^ e
