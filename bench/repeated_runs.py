"""The same subjects timed in several runs, and figures that are medians of the runs.

One run interleaves its subjects, so a noisy spell of some milliseconds falls on all of them. A spell of
seconds spoils a run; the median of several is what is left of that. A ratio is taken within each run first.

Where other work shares the core, a call of milliseconds is interrupted every time and its p50 doubles, while
one of microseconds is hit once in a thousand calls: ratios of wall times would flatter the fast. So a ratio
takes for each side what a call takes uninterrupted: its p50, or its processor time where that is less.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.harness import Measured, Named, Plan, Subject, fitting_block, run_interleaved
from bench.report import Result, result_of
from bench.samples import percentile_ns
from lob.errors import InputError

TURN_NS: Final = 20_000_000
"""A turn's length for subjects so slow that a whole block of their calls would take longer."""


@dataclass(frozen=True, kw_only=True)
class RepeatedRuns:
    """What was measured: for every run the subjects in the same order."""

    runs: list[list[Measured]]

    def __post_init__(self) -> None:
        assert self.runs, "at least one run"

    @property
    def subjects(self) -> list[Named]:
        """In the order they were given."""
        return [one.subject for one in self.runs[0]]

    def results(self) -> list[Result]:
        """One result a subject, as `result_of` makes it."""
        return [result_of([run[place] for run in self.runs]) for place in range(len(self.runs[0]))]

    def processor_us(self, place: int) -> float:
        """Processor time of a call of the subject at `place`, the median of the runs; infinite if untold."""
        return median(run[place].processor_ns for run in self.runs) / 1000

    def speedup(self, place: int, other: int) -> float:
        """How many times faster the subject at `place` is than the one at `other`, both uninterrupted.

        The median over the runs of the ratio in each.
        """
        pairs = zip(self._uninterrupted_us(other), self._uninterrupted_us(place), strict=True)
        return median(slow / max(fast, 1e-3) for slow, fast in pairs)

    def _uninterrupted_us(self, place: int) -> list[float]:
        """p50 or processor time, whichever is less, of the subject at `place` in each run."""
        taken = [run[place] for run in self.runs]
        return [min(percentile_ns(one.durations_ns, 0.5), one.processor_ns) / 1000 for one in taken]


def run_repeatedly(
    subjects: Sequence[Subject],
    plan: Plan,
    runs: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> RepeatedRuns:
    """Time `subjects` in `runs` interleaved runs, slow ones with shorter turns.

    Raises InputError where `runs` is below 1.
    """
    if runs < 1:
        raise InputError(f"runs is {runs}; at least 1 is needed")
    blocks = [fitting_block(subject, plan, TURN_NS) for subject in subjects]
    found = []
    for done_runs in range(runs):

        def in_all(done: int, total: int, before: int = done_runs) -> None:
            if on_progress is not None:
                on_progress(before * total + done, runs * total)

        found.append(run_interleaved(subjects, plan, in_all, blocks=blocks))
    return RepeatedRuns(runs=found)
