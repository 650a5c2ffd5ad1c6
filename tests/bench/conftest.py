"""Fixtures of the benchmark tests: a machine, a subject with known durations, a run made of them."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from bench.harness import Measured
from bench.machine import Machine
from bench.samples import Samples


@dataclass
class KnownSubject:
    """A subject that takes the times it is told, and keeps count of how it was called."""

    name: str = "known"
    model: str = "depth50"
    precision: str = "float64"
    method: str = "nothing: the durations are given"
    lengths: list[int] = field(default_factory=list)
    next_ns: int = 1

    def measure(self, durations_ns: Samples) -> None:
        self.lengths.append(len(durations_ns))
        durations_ns[:] = np.arange(self.next_ns, self.next_ns + len(durations_ns))
        self.next_ns += len(durations_ns)


@pytest.fixture
def known_subject() -> KnownSubject:
    return KnownSubject()


@pytest.fixture
def known_run() -> list[Measured]:
    """Two subjects: 1 .. 1000 us and 2 .. 2000 us."""
    one = np.arange(1, 1001, dtype=np.int64) * 1000
    return [
        Measured(subject=KnownSubject(name="decode"), durations_ns=one),
        Measured(subject=KnownSubject(name="book"), durations_ns=2 * one),
    ]


@pytest.fixture
def clock_run() -> Measured:
    """A clock whose two readings take 40 ns at the median and 55 ns at the 99th percentile."""
    durations_ns = np.full(1000, 40, dtype=np.int64)
    durations_ns[-11:] = 55
    return Measured(subject=KnownSubject(name="some clock"), durations_ns=durations_ns)


@pytest.fixture
def a_machine() -> Machine:
    """A machine of which the system tells little."""
    return Machine(
        processor="Some Processor",
        architecture="x86_64",
        cores=4,
        cores_allowed=2,
        frequency_mhz=None,
        frequency_max_mhz=None,
        governor=None,
        virtualised=True,
        memory_gib=8.0,
        system="Linux 6.1",
        load_average=(0.5, 0.25, 0.125),
    )
