"""The one clock of a serving process: nanoseconds since the epoch that never run backwards."""

import time


class AnchoredClock:
    """A monotonic clock anchored to the wall clock when it is made.

    Latencies need a clock that nobody sets; comparing with an exchange's time stamps needs one that
    starts at 1970. This one reads the monotonic counter and adds an offset taken once, so a step of the
    wall clock shows in `drift_ns` and nowhere else.
    """

    __slots__ = ("_offset_ns",)

    def __init__(self, samples: int = 16) -> None:
        # The wall clock is read between two readings of the monotonic one; the narrowest bracket is truest.
        narrowest_ns = -1
        self._offset_ns = 0
        for _ in range(samples):
            before_ns = time.perf_counter_ns()
            wall_ns = time.time_ns()
            after_ns = time.perf_counter_ns()
            if narrowest_ns < 0 or after_ns - before_ns < narrowest_ns:
                narrowest_ns = after_ns - before_ns
                self._offset_ns = wall_ns - (before_ns + after_ns) // 2

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC as of the anchor, plus the monotonic time since."""
        return time.perf_counter_ns() + self._offset_ns

    def drift_ns(self) -> int:
        """How far the wall clock stands ahead of this one now (it was 0 when the clock was made)."""
        return time.time_ns() - self.now_ns()
