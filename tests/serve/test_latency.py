from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from serve.latency import BUCKET_BOUNDS_US, LatencyHistogram


@given(st.lists(st.integers(0, 10**10), max_size=200))
def test_buckets_hold_what_is_at_most_their_bound(latencies_ns: list[int]) -> None:
    histogram = LatencyHistogram()
    for latency_ns in latencies_ns:
        histogram.record(latency_ns)
    assert histogram.count == len(latencies_ns)
    assert histogram.sum_ns == sum(latencies_ns)
    rows = histogram.cumulative()
    assert [bound for bound, _ in rows[:-1]] == [repr(bound / 1e6) for bound in BUCKET_BOUNDS_US]
    last, everything = rows[-1]
    assert (last, everything) == ("+Inf", len(latencies_ns))
    ordered = sorted(latencies_ns)
    for bound_us, (_, count) in zip(BUCKET_BOUNDS_US, rows, strict=False):
        assert count == bisect_left(ordered, bound_us * 1_000 + 1)
