from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.errors import InputError
from serve.reconnect import ReconnectPolicy


@given(attempt=st.integers(0, 10_000), seed=st.integers(0, 2**32))
def test_every_wait_lies_between_the_unjittered_wait_and_its_jittered_share(attempt: int, seed: int) -> None:
    policy = ReconnectPolicy(initial_s=0.5, factor=2, cap_s=20, jitter=0.4)
    full_s = 20 if attempt > 5 else 0.5 * 2**attempt
    assert 0.6 * full_s <= policy.delay_s(attempt, Random(seed)) <= full_s


def test_waits_grow_to_the_cap_without_jitter() -> None:
    policy = ReconnectPolicy(initial_s=1, factor=3, cap_s=10, jitter=0)
    assert [policy.delay_s(attempt, Random(0)) for attempt in range(5)] == [1, 3, 9, 10, 10]


def test_jitter_spreads_clients_that_were_cut_off_together() -> None:
    policy = ReconnectPolicy()
    assert len({policy.delay_s(3, Random(seed)) for seed in range(50)}) == 50


def test_gives_up_only_when_told() -> None:
    assert not ReconnectPolicy().gives_up_after(1_000_000)
    assert not ReconnectPolicy(attempts=3).gives_up_after(2)
    assert ReconnectPolicy(attempts=3).gives_up_after(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial_s": 0}, "initial_s: 0 came"),
        ({"initial_s": 60}, "at most cap_s"),
        ({"factor": 0.5}, "factor: 0.5 came, at least 1"),
        ({"factor": float("nan")}, "factor: nan came"),
        ({"settled_s": -1}, "settled_s: -1 came, 0 or more"),
        ({"jitter": 1.5}, "jitter: 1.5 came, 0 to 1"),
        ({"attempts": 0}, "attempts: 0 came"),
    ],
)
def test_refuses_what_makes_no_sense(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReconnectPolicy(**arguments)
