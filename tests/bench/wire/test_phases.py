"""What is sent in a phase: names, times, and what is refused."""

import pytest

from bench.wire.phases import make_phases
from lob.errors import InputError


def test_each_number_of_subscribers_has_a_closed_loop_and_every_open_one() -> None:
    phases = make_phases((1, 8), count=10, seconds=0.1)
    loops = ["closed", "1x", "10x", "100x", "burst"]
    assert [phase.name for phase in phases] == [f"{loop}/{number}" for number in (1, 8) for loop in loops]
    assert [phase.frames for phase in phases[:5]] == [10, 5, 50, 500, 50]
    assert [phase.slow for phase in phases] == [0] * 5 + [1] * 5


def test_times_are_those_of_the_schedule() -> None:
    closed, at_rate, *_, burst = make_phases((1,), count=3, seconds=2)
    assert closed.due_ns() is None
    due_ns, together_ns = at_rate.due_ns(), burst.due_ns()
    assert due_ns is not None
    assert together_ns is not None
    assert due_ns.tolist() == [number * 20_000_000 for number in range(100)]
    assert together_ns.tolist() == [0] * 50 + [1_000_000_000] * 50


def test_either_kind_of_loop_can_be_left_out() -> None:
    assert [phase.name for phase in make_phases((2,), count=5, seconds=0)] == ["closed/2"]
    open_loops = [f"{loop}/2" for loop in ("1x", "10x", "100x", "burst")]
    assert [phase.name for phase in make_phases((2,), count=0, seconds=1)] == open_loops


@pytest.mark.parametrize(
    ("subscribers", "count", "seconds", "message"),
    [
        ((), 1, 1.0, "--subscribers"),
        ((1, 1), 1, 1.0, "each once"),
        ((257,), 1, 1.0, "1 to 256"),
        ((1,), 1, float("nan"), "seconds is nan"),
        ((1,), 0, 0.0, "0 frames would be sent"),
        ((1,), 10**9, 0.0, "500,000"),
    ],
)
def test_what_cannot_be_run_is_refused(subscribers, count, seconds, message) -> None:
    with pytest.raises(InputError, match=message):
        make_phases(subscribers, count=count, seconds=seconds)
