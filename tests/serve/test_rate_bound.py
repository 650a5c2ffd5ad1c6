import pytest

from lob.errors import InputError
from serve.rate_bound import RateBound, RequestRate


def test_a_burst_goes_out_at_once_and_the_rest_at_the_rate() -> None:
    bound = RateBound(RequestRate(burst=3, per_s=2))
    for _ in range(3):
        assert bound.wait_s(100.0) == 0
        bound.take(100.0)
    assert bound.wait_s(100.0) == 0.5
    assert bound.wait_s(100.4) == pytest.approx(0.1)
    assert bound.wait_s(100.5) == 0
    bound.take(100.5)
    assert bound.wait_s(100.5) == 0.5
    for _ in range(3):  # a rest fills it up, and no further
        assert bound.wait_s(1_000.0) == 0
        bound.take(1_000.0)
    assert bound.wait_s(1_000.0) == 0.5


def test_a_pause_holds_all_and_the_longest_counts() -> None:
    bound = RateBound(RequestRate(burst=5, per_s=1))
    bound.pause(70.0)
    bound.pause(20.0)
    assert bound.wait_s(10.0) == 60
    assert bound.wait_s(70.0) == 0


def test_a_time_that_ran_back_gives_no_tokens() -> None:
    bound = RateBound(RequestRate(burst=1, per_s=1))
    bound.take(50.0)
    assert bound.wait_s(10.0) == 1
    assert bound.wait_s(50.5) == 0.5


@pytest.mark.parametrize(
    "rate", [{"burst": 0, "per_s": 1}, {"burst": 1, "per_s": 0}, {"burst": 1, "per_s": float("inf")}]
)
def test_a_rate_that_makes_no_sense_is_refused(rate: dict) -> None:
    with pytest.raises(InputError, match="came"):
        RequestRate(**rate)
