from hypothesis import given
from hypothesis import strategies as st

from serve.feed_policies import LagPolicy
from serve.lateness import Lateness

MS = 1_000_000
START_NS = 1_800_000_000_000 * MS


def test_waiting_in_the_process_is_measured_by_one_clock() -> None:
    lateness = Lateness(LagPolicy(maximum_wait_ms=100))
    assert lateness.verdict(0, START_NS, START_NS + 100 * MS) == ""
    late = lateness.verdict(0, START_NS, START_NS + 250 * MS)
    assert late == "by 250 ms in the process, 100 ms are allowed"
    assert Lateness(LagPolicy(maximum_wait_ms=None)).verdict(0, START_NS, START_NS + 3_600_000 * MS) == ""


@given(
    skew_ms=st.integers(-10_000_000, 10_000_000),
    delays_ms=st.lists(st.integers(0, 400), min_size=1, max_size=50),
)
def test_no_skew_of_clocks_makes_a_feed_late(skew_ms: int, delays_ms: list[int]) -> None:
    lateness = Lateness(LagPolicy(maximum_lag_ms=400))
    for number, delay_ms in enumerate(delays_ms):
        sent_ms = 1_800_000_000_000 + 20 * number
        now_ns = (sent_ms + skew_ms + delay_ms) * MS
        assert lateness.verdict(sent_ms, now_ns, now_ns) == ""


@given(skew_ms=st.integers(-10_000_000, 10_000_000))
def test_a_feed_that_falls_behind_is_late_under_any_skew_and_stays_so(skew_ms: int) -> None:
    lateness = Lateness(LagPolicy(maximum_lag_ms=400))

    def verdict(at_ms: int, delay_ms: int) -> str:
        now_ns = (1_800_000_000_000 + at_ms + skew_ms + delay_ms) * MS
        return lateness.verdict(1_800_000_000_000 + at_ms, now_ns, now_ns)

    assert verdict(0, 50) == ""
    assert verdict(100, 440) == ""
    assert verdict(200, 500) == "by 450 ms by the exchange's time, 400 ms are allowed"
    for minutes in range(1, 10):  # what stays late does not become the usual
        assert verdict(minutes * 60_000, 600).startswith("by ")
    assert verdict(10 * 60_000, 60) == ""
    lateness.reset()  # nothing waits in a new connection
    assert verdict(11 * 60_000, 600) == ""


def test_clocks_that_drift_apart_do_not_make_a_feed_late() -> None:
    lateness = Lateness(LagPolicy(maximum_lag_ms=400))
    for second in range(0, 100_000, 10):  # a day and more, 5 s of drift
        now_ns = START_NS + second * 1_000 * MS
        assert lateness.verdict((now_ns - second * 50_000) // MS, now_ns, now_ns) == ""
