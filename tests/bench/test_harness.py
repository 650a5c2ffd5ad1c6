"""The turns subjects take, what is timed, and what a run leaves behind."""

import gc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.harness import ClockReading, Plan, run_interleaved
from lob.errors import InputError

if TYPE_CHECKING:
    from bench.samples import Samples


class Recording:
    """A subject that writes down whose turn it was."""

    model, precision, method = "", "none", ""

    def __init__(self, name: str, turns: list[tuple[str, int]]) -> None:
        self.name = name
        self.turns = turns
        self.collector_was_on = False

    def measure(self, durations_ns: "Samples") -> None:
        self.turns.append((self.name, len(durations_ns)))
        self.collector_was_on |= gc.isenabled()
        durations_ns.fill(len(self.turns))


def test_subjects_take_turns_in_blocks_after_all_are_warm() -> None:
    turns: list[tuple[str, int]] = []
    subjects = [Recording("a", turns), Recording("b", turns)]
    measured = run_interleaved(subjects, Plan(count=10, warmup=5, block=4, lead_in=2))
    warm = [("a", 5), ("b", 5)]
    blocks = [(name, size) for block in (4, 4, 2) for name in "ab" for size in (2, block)]
    assert turns == warm + blocks
    assert Plan(count=10, warmup=5, block=4, lead_in=2).calls == sum(
        size for name, size in turns if name == "a"
    )
    assert measured[1].subject is subjects[1]
    assert measured[0].durations_ns.tolist() == [4] * 4 + [8] * 4 + [12] * 2  # no warm-up, no lead-in


def test_collector_is_off_while_timing_and_back_afterwards() -> None:
    subject = Recording("a", [])
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    run_interleaved([subject], Plan(count=4, warmup=1, block=4, lead_in=0))
    assert not subject.collector_was_on
    assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen


def test_collector_is_back_after_a_subject_that_fails() -> None:
    class Failing(Recording):
        def measure(self, durations_ns: "Samples") -> None:
            raise InputError("no input")

    with pytest.raises(InputError, match="no input"):
        run_interleaved([Failing("a", [])], Plan(count=1))
    assert gc.isenabled()


def test_progress_counts_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    run_interleaved(
        [Recording("a", []), Recording("b", [])],
        Plan(count=9, warmup=0, block=4, lead_in=0),
        lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 8) for done in range(1, 9)]


def test_reading_the_clock_takes_some_time_but_little() -> None:
    durations_ns = np.full(1000, -1, dtype=np.int64)
    ClockReading().measure(durations_ns)
    assert durations_ns.min() >= 0
    assert np.median(durations_ns) < 1_000_000


@pytest.mark.parametrize(("field", "value"), [("count", 0), ("warmup", -1), ("block", 0), ("lead_in", -1)])
def test_a_plan_that_cannot_be_run_is_refused(field: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{field} is {value}"):
        Plan(**{field: value})
