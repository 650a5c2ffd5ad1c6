"""How late a symbol's frames are: in the process by one clock, and by the exchange's time in them."""

from serve.feed_policies import LagPolicy

CLOCK_DRIFT_PER_NS = 1e-4
"""Two undisciplined clocks drift apart by at most this share; disciplined ones by far less."""


class Lateness:
    """Judges frames of one connection, in the order in which they are handled.

    A frame's exchange time and the time now are of two clocks, so their difference holds the clocks' skew,
    which may be larger than any lag. The smallest difference seen on the connection is the skew and the
    path's own delay; what a later frame has beyond it is time spent waiting somewhere: at the exchange, in
    the network, in a socket's buffer, in the process. That smallest difference may rise by the rate at which
    two clocks can drift apart and no faster, so that a feed which stays late does not become the usual.

    A new connection begins anew (`reset`): nothing waits in it yet.
    """

    __slots__ = ("_baseline_ns", "_maximum_lag_ns", "_maximum_wait_ns", "_now_ns")

    def __init__(self, policy: LagPolicy) -> None:
        self._maximum_wait_ns = _nanoseconds(policy.maximum_wait_ms)
        self._maximum_lag_ns = _nanoseconds(policy.maximum_lag_ms)
        self.reset()

    def reset(self) -> None:
        """A new connection stands."""
        self._baseline_ns: float | None = None
        self._now_ns = 0

    def verdict(self, exchange_ms: int, receive_ns: int, now_ns: int) -> str:
        """Why a frame with `exchange_ms`, received at `receive_ns`, is too late at `now_ns`; else empty."""
        maximum_wait_ns = self._maximum_wait_ns
        if maximum_wait_ns is not None and now_ns - receive_ns > maximum_wait_ns:
            return _late(now_ns - receive_ns, maximum_wait_ns, "in the process")
        maximum_lag_ns = self._maximum_lag_ns
        if maximum_lag_ns is None:
            return ""
        difference_ns = now_ns - exchange_ms * 1_000_000
        baseline_ns = self._baseline_ns
        if baseline_ns is None:
            baseline_ns = difference_ns
        else:
            baseline_ns += (now_ns - self._now_ns) * CLOCK_DRIFT_PER_NS
            if difference_ns < baseline_ns:
                baseline_ns = difference_ns
        self._baseline_ns = baseline_ns
        self._now_ns = now_ns
        lag_ns = difference_ns - baseline_ns
        return _late(lag_ns, maximum_lag_ns, "by the exchange's time") if lag_ns > maximum_lag_ns else ""


def _late(late_ns: float, allowed_ns: int, measured: str) -> str:
    return f"by {late_ns / 1e6:.0f} ms {measured}, {allowed_ns // 1_000_000} ms are allowed"


def _nanoseconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds * 1_000_000
