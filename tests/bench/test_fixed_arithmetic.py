"""The arithmetic that tells how quiet a core was: its numbers, and what is said of its samples."""

import numpy as np

from bench.fixed_arithmetic import ROUNDS, FixedArithmetic, _mix, quiet_core
from bench.harness import Measured


def plain_mix(rounds: int, seed: int) -> int:
    """The chains one after the other."""
    total = 0
    for place, (shift, step) in enumerate(((3, 1), (7, 3), (2, 5), (5, 7), (4, 9))):
        one = seed + place
        for _ in range(rounds):
            one = (one ^ (one >> shift)) + step
        total ^= one
    return total


def test_the_numbers_are_computed_and_not_left_out() -> None:
    for rounds, seed in ((0, 1), (1, 1), (7, -5), (ROUNDS, 1)):
        assert _mix(rounds, seed) == plain_mix(rounds, seed)


def test_calls_are_timed() -> None:
    durations_ns = np.full(100, -1, dtype=np.int64)
    FixedArithmetic().measure(durations_ns)
    assert durations_ns.min() > 0


def test_slowed_calls_of_all_runs_are_counted_against_the_least() -> None:
    def run(*durations_ns: int) -> Measured:
        return Measured(subject=FixedArithmetic(), durations_ns=np.array(durations_ns, dtype=np.int64))

    found = quiet_core([run(3_000, 3_100, 3_300), run(2_000, 2_200, 2_201, 2_100, 2_000)])
    assert (found.least_us, found.p50_us, found.p99_us) == (2.0, 2.201, 3.3)
    assert found.slowed == 0.5
    assert str(found).startswith(
        "core: the same arithmetic took 2.00 us at least, 2.20 p50, 3.30 p99; 50.0% of its calls were slowed"
    )
