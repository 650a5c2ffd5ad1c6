"""A clock that compiled code can read: the time of one kernel call inside a jitted call, call by call.

A kernel of a few hundred nanoseconds cannot be timed from Python, where calling it costs as much again as it
does. Here the two readings stand around the kernel inside one compiled function, in which they cost some
20 ns together where the C library answers `clock_gettime` without entering the system; what they cost on this
machine is measured in the same run (`CompiledClockReading`). Each call is a sample of its own, on a book that
has just changed, so the tail is seen too, which a loop's time divided by its length does not show.

Nothing here is cached on disk: the C function's address is part of the compiled code.
"""

import ctypes
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from bench.samples import Samples
from lob.book import Floats, Integers
from lob.errors import InputError
from lob.features import sample_row

Words: TypeAlias = npt.NDArray[np.float32]

Stamp: TypeAlias = npt.NDArray[np.int64]
"""Room for two readings, (2, 2) int64: seconds and nanoseconds of each, as C's `struct timespec`."""

TimedSampleRow: TypeAlias = Callable[
    [Integers, Integers, Floats, Floats, bool, npt.NDArray[np.float32], int, Stamp], int
]


NOT_SAMPLED: Final = -1
"""What the timed kernel answers where the levels a row looks at did not change."""


def new_stamp() -> Stamp:
    """Room for two readings."""
    return np.zeros((2, 2), dtype=np.int64)


@cache
def timed_sample_row() -> TimedSampleRow:
    """The compiled function that calls `lob.features.sample_row` between two readings of the clock.

    Its arguments are those of `sample_row` and a stamp; it answers nanoseconds, or NOT_SAMPLED.
    """
    clock_gettime, clock = _clock_gettime(), time.CLOCK_MONOTONIC

    @njit
    def timed(
        header: Integers,
        keys: Integers,
        sizes: Floats,
        top: Floats,
        every_message: bool,
        storage: npt.NDArray[np.float32],
        slot: int,
        stamp: Stamp,
    ) -> int:
        clock_gettime(clock, stamp[0].ctypes)
        sampled = sample_row(header, keys, sizes, top, every_message, storage, slot)
        clock_gettime(clock, stamp[1].ctypes)
        if not sampled:
            return NOT_SAMPLED
        return int((stamp[1, 0] - stamp[0, 0]) * 1_000_000_000 + stamp[1, 1] - stamp[0, 1])

    compiled: TimedSampleRow = timed
    return compiled


@cache
def timed_step(
    step: Callable[[Words, Words, Words, Words], bool],
) -> Callable[[Words, Words, Words, Words, Stamp], int]:
    """The compiled function that calls the jitted `step` of an engine between two readings of the clock.

    Its arguments are those of `step` and a stamp; it answers nanoseconds. Compiled once a process and step.
    """
    clock_gettime, clock = _clock_gettime(), time.CLOCK_MONOTONIC

    @njit
    def timed(row: Words, params: Words, state: Words, scratch: Words, stamp: Stamp) -> int:
        clock_gettime(clock, stamp[0].ctypes)
        step(row, params, state, scratch)
        clock_gettime(clock, stamp[1].ctypes)
        return int((stamp[1, 0] - stamp[0, 0]) * 1_000_000_000 + stamp[1, 1] - stamp[0, 1])

    compiled: Callable[[Words, Words, Words, Words, Stamp], int] = timed
    return compiled


@cache
def timed_nothing() -> Callable[[Stamp], int]:
    """The compiled function that reads the clock twice and answers the nanoseconds between."""
    clock_gettime, clock = _clock_gettime(), time.CLOCK_MONOTONIC

    @njit
    def timed(stamp: Stamp) -> int:
        clock_gettime(clock, stamp[0].ctypes)
        clock_gettime(clock, stamp[1].ctypes)
        return int((stamp[1, 0] - stamp[0, 0]) * 1_000_000_000 + stamp[1, 1] - stamp[0, 1])

    compiled: Callable[[Stamp], int] = timed
    return compiled


class CompiledClockReading:
    """The subject that does nothing inside a compiled call: what two readings of its clock cost."""

    name = "clock_gettime in compiled code"
    model = ""
    precision = "none"
    method = "nothing between two readings inside one jitted call"

    def __init__(self) -> None:
        self._timed = timed_nothing()
        self._stamp = new_stamp()

    def measure(self, durations_ns: Samples) -> None:
        """Time as many empty spans as `durations_ns` (N,) has room for."""
        timed, stamp = self._timed, self._stamp
        for index in range(len(durations_ns)):
            durations_ns[index] = timed(stamp)


def _clock_gettime() -> Callable[[int, object], int]:
    """The C library's `clock_gettime`; raises InputError on a system without it."""
    if sys.platform == "win32":
        raise InputError("this system has no clock_gettime to time compiled code with; Linux and macOS have")
    function = ctypes.CDLL(None).clock_gettime
    function.argtypes = [ctypes.c_int, ctypes.c_void_p]
    function.restype = ctypes.c_int
    found: Callable[[int, object], int] = function
    return found
