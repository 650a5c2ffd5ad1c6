"""Figures of several runs: medians of percentiles, ratios within each, shorter turns for slow subjects."""

import time
from dataclasses import replace

import numpy as np
import pytest

from bench.harness import Measured, Plan, fitting_block, run_interleaved
from bench.repeated_runs import RepeatedRuns, run_repeatedly
from bench.samples import Samples
from lob.errors import InputError


class Taking:
    """A subject of known figures; `sleep_s` is what a call takes by the wall."""

    model, precision, method = "m", "float32", "known"

    def __init__(self, name: str, taken_ns: list[int], sleep_s: float = 0.0) -> None:
        self.name = name
        self.taken_ns = taken_ns
        self.sleep_s = sleep_s
        self.calls = 0

    def measure(self, durations_ns: Samples) -> None:
        for index in range(len(durations_ns)):
            time.sleep(self.sleep_s)
            durations_ns[index] = self.taken_ns[self.calls % len(self.taken_ns)]
            self.calls += 1


def measured(name: str, durations_us: list[int]) -> Measured:
    return Measured(subject=Taking(name, []), durations_ns=np.array(durations_us, dtype=np.int64) * 1000)


@pytest.fixture
def runs() -> RepeatedRuns:
    return RepeatedRuns(
        runs=[
            [measured("fast", [1, 2, 3]), measured("slow", [10, 20, 30])],  # 10 times
            [measured("fast", [2, 4, 90]), measured("slow", [80, 80, 80])],  # 20 times
            [measured("fast", [5, 5, 5]), measured("slow", [15, 15, 16])],  # 3 times
        ]
    )


def test_percentiles_are_medians_of_the_runs_and_the_largest_is_of_all(runs: RepeatedRuns) -> None:
    fast, slow = runs.results()
    assert (fast.subject, fast.count, fast.p50, fast.max) == ("fast", 9, 4.0, 90.0)
    assert fast.p99 == 5.0
    assert (slow.p50, slow.max) == (20.0, 80.0)


def test_a_ratio_is_the_median_of_those_within_the_runs(runs: RepeatedRuns) -> None:
    assert runs.speedup(0, 1) == pytest.approx(10.0)  # 20 / 4 of the medians would be 5
    assert runs.speedup(1, 0) == pytest.approx(0.1)


def test_a_ratio_takes_processor_time_where_calls_were_interrupted() -> None:
    fast, slow = measured("fast", [2, 2, 9]), measured("slow", [40, 60, 80])
    run = [replace(fast, processor_ns=2_500.0), replace(slow, processor_ns=30_000.0)]
    found = RepeatedRuns(runs=[run])
    assert found.speedup(0, 1) == pytest.approx(30 / 2)
    assert (found.processor_us(0), found.processor_us(1)) == (2.5, 30.0)


def test_processor_time_is_that_of_the_timed_calls() -> None:
    class Busy(Taking):
        def measure(self, durations_ns: Samples) -> None:
            end = time.thread_time_ns() + 2_000_000 * len(durations_ns)
            while time.thread_time_ns() < end:
                pass

    busy, asleep = Busy("busy", [1]), Taking("asleep", [1], sleep_s=0.004)
    found = run_interleaved([busy, asleep], Plan(count=4, warmup=0, block=2, lead_in=1))
    assert found[0].processor_ns >= 2_000_000
    assert found[1].processor_ns < 4_000_000


def test_every_run_times_every_subject() -> None:
    subjects = [Taking("a", [1000]), Taking("b", [2000])]
    seen: list[tuple[int, int]] = []
    found = run_repeatedly(
        subjects, Plan(count=10, warmup=2, block=5, lead_in=1), 3, lambda *at: seen.append(at)
    )
    assert [len(run) for run in found.runs] == [2, 2, 2]
    assert [result.count for result in found.results()] == [30, 30]
    assert found.subjects == subjects
    assert seen == [(done, 18) for done in range(1, 19)]


def test_no_run_is_refused() -> None:
    with pytest.raises(InputError, match="runs is 0"):
        run_repeatedly([Taking("a", [1])], Plan(count=1), 0)


def test_a_slow_subject_takes_fewer_calls_in_as_many_turns() -> None:
    plan = Plan(count=40, warmup=10, block=10, lead_in=4)
    slow, fast = Taking("slow", [1], sleep_s=0.02), Taking("fast", [1])
    blocks = [fitting_block(subject, plan, 45_000_000) for subject in (slow, fast)]
    assert blocks[1] == 10
    assert 1 <= blocks[0] <= 2
    slow.calls = fast.calls = 0
    found = run_interleaved([slow, fast], plan, blocks=[2, 10])
    assert [one.durations_ns.size for one in found] == [8, 40]
    assert slow.calls == plan.with_block(2).calls == 8 + 2 + 4 * 2
    assert fast.calls == plan.calls


def test_shorter_turns_keep_their_number() -> None:
    plan = Plan(count=45, warmup=100, block=10, lead_in=4)
    shorter = plan.with_block(3)
    assert (shorter.count, shorter.warmup, shorter.block, shorter.lead_in) == (15, 30, 3, 3)
    assert plan.with_block(10) is plan
