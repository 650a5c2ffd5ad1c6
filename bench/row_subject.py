"""A subject fed with rows from memory: what one call of an engine takes, and nothing around it.

The row is written into the subject's ring outside the timed part, as the row path does it before an engine is
called. The tape is read again and again; where it starts anew the state is carried on.
"""

import math
import time
from collections.abc import Callable
from time import perf_counter_ns
from typing import Final

from bench.harness import Subject
from bench.row_tape import Rows
from bench.samples import Samples
from lob.errors import InputError
from lob.window import RingWindow

IDLE: Final = "-idle"
"""Ends the name of a subject that is called after idle."""


class RowSubject:
    """Anything with `push(row)`: an engine, or a peer made to look like one."""

    def __init__(
        self,
        *,
        name: str,
        model: str,
        precision: str,
        method: str,
        push: Callable[[Rows], object],
        ring: RingWindow,
        rows: Rows,
    ) -> None:
        """Fill `ring` (L, F) from `rows` (T, F) and push each, so that the first timed call is a warm one."""
        self.name, self.model, self.precision, self.method = name, model, precision, method
        self._push, self._ring, self._rows = push, ring, rows
        self._next = 0
        for _ in range(ring.length):
            push(self._advance())

    def measure(self, durations_ns: Samples) -> None:
        """Time as many calls as `durations_ns` (N,) has room for, a new row each."""
        push, advance, clock = self._push, self._advance, perf_counter_ns
        for index in range(len(durations_ns)):
            row = advance()
            start = clock()
            push(row)
            durations_ns[index] = clock() - start

    def _advance(self) -> Rows:
        """The next row, written into the ring."""
        rows = self._rows
        self._ring.append(rows[self._next])
        self._next = (self._next + 1) % len(rows)
        return self._ring.latest()


class IdleSubject:
    """Another subject's calls, each after the process has slept: what a tick meets on a quiet feed."""

    def __init__(
        self,
        warm: Subject,
        idle_ms: float,
        *,
        suffix: str = IDLE,
        pause: Callable[[float], None] = time.sleep,
        spent: str = "asleep",
    ) -> None:
        """Share the calls of `warm`; `suffix` ends its name. InputError where `idle_ms` is not above 0.

        `pause` is called with the seconds and returns when they are over; `spent` says how they are spent.
        """
        require_idle(idle_ms)
        self.name = warm.name + suffix
        self.model, self.precision = warm.model, warm.precision
        self.method = f"the same call after {idle_ms:g} ms {spent}"
        self._warm, self._idle_s, self._pause = warm, idle_ms / 1000, pause

    def measure(self, durations_ns: Samples) -> None:
        """Pause, then time one call, as often as `durations_ns` (N,) has room for."""
        for index in range(len(durations_ns)):
            self._pause(self._idle_s)
            self._warm.measure(durations_ns[index : index + 1])


def require_idle(idle_ms: float) -> None:
    """Raise InputError where that is no time to sleep."""
    if not 0 < idle_ms < math.inf:
        raise InputError(f"idle_ms is {idle_ms}; a number of milliseconds above 0 is needed")
