"""Fixtures of the benchmark tests: a run of known durations, frames that end, a small model."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import pytest

from bench.frame_source import FrameSource, seeded_source
from bench.harness import Measured
from bench.machine import Machine
from bench.samples import Samples
from inference.artifact import Artifact


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


@pytest.fixture
def make_short_source() -> Callable[[int], FrameSource]:
    """Makes a source whose pass ends after so many frames, the first a snapshot, as a capture's does."""

    def make(frames: int) -> FrameSource:
        endless = seeded_source(1)
        return replace(endless, title="a short capture", passes=lambda: islice(endless.passes(), frames))

    return make


@pytest.fixture(scope="session")
def nano_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A nano model of SSD blocks with random weights, exported once for all tests."""
    pytest.importorskip("torch", reason="the training extra is not installed")
    from bench.random_model import export_random_model

    directory = tmp_path_factory.mktemp("models") / "nano-ssd-random"
    return export_random_model(directory, size="nano", block="ssd", seed=1)
