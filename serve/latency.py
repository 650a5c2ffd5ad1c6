"""A latency histogram of fixed microsecond buckets: one bisection a tick, read whole when somebody asks."""

from bisect import bisect_left

BUCKET_BOUNDS_US = (
    10, 15, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200, 250, 300, 400, 500, 650, 800,
    1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000,
)  # fmt: skip
_BOUNDS_NS = tuple(bound * 1_000 for bound in BUCKET_BOUNDS_US)


class LatencyHistogram:
    """Counts of latencies per bucket, the last bucket open-ended, and their sum."""

    __slots__ = ("counts", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKET_BOUNDS_US) + 1)
        self.sum_ns = 0

    def record(self, latency_ns: int) -> None:
        """Count one latency; a bucket holds what is at most its bound."""
        self.counts[bisect_left(_BOUNDS_NS, latency_ns)] += 1
        self.sum_ns += latency_ns

    @property
    def count(self) -> int:
        """How many latencies were recorded."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound in seconds as text, how many were at most that), ending with "+Inf"."""
        rows: list[tuple[str, float]] = []
        running = 0
        for bound_us, count in zip(BUCKET_BOUNDS_US, self.counts, strict=False):
            running += count
            rows.append((repr(bound_us / 1e6), float(running)))
        rows.append(("+Inf", float(running + self.counts[-1])))
        return rows
