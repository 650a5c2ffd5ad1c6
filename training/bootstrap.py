"""How sure a difference of scores is: the moving-block bootstrap (Künsch 1989).

Labels that look k rows ahead overlap, and so do their errors: rows are resampled in blocks of neighbours,
both forecasts of a pair on the same blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lob.errors import InputError
from training.metrics import Floats, Integers, direction_auc

BLOCK_ROWS = 500
RESAMPLES = 400
FEWEST_ROWS = 5 * BLOCK_ROWS
"""Of fewer blocks a resample is hardly another one, and an interval would say too much."""
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A difference as measured, and the bounds that 95 of 100 resamples fall between."""

    difference: float
    low: float
    high: float


class BlockResamples:
    """Resamples of so many rows, the same ones each time: whole blocks from random places, the last cut.

    Each is the numbers of its rows, (rows,), made when its turn comes. Raises InputError where there is no
    row.
    """

    def __init__(self, rows: int, *, block_rows: int, resamples: int, seed: int) -> None:
        if rows < 1:
            raise InputError(f"rows: {rows} came, at least 1 is needed to resample")
        self._rows = rows
        self._block = min(block_rows, rows)
        count = -(-rows // self._block)
        generator = np.random.default_rng(seed)
        self._starts = generator.integers(0, rows - self._block + 1, size=(resamples, count))

    def __iter__(self) -> Iterator[Integers]:
        for starts in self._starts:
            yield (starts[:, None] + np.arange(self._block)).reshape(-1)[: self._rows]


def log_loss_difference(ours: Floats, theirs: Floats, resamples: BlockResamples) -> Interval:
    """Interval of mean(ours - theirs), both the log losses (N,) of the same rows."""
    differences = ours - theirs
    sampled = np.array([differences[rows].mean() for rows in resamples])
    return interval(float(differences.mean()), sampled)


def direction_auc_difference(
    ours: Sequence[NDArray[np.floating]],
    theirs: NDArray[np.floating],
    labels: NDArray[np.integer],
    resamples: BlockResamples,
) -> Interval:
    """Interval of the mean direction AUC of several scores `ours` (each (N,)) less that of `theirs` (N,).

    Resamples in which nothing rose or nothing fell are left out.
    """

    def difference(rows: Integers | slice) -> float:
        own = [direction_auc(scores[rows], labels[rows]) for scores in ours]
        return float(np.mean(own)) - direction_auc(theirs[rows], labels[rows])

    sampled = np.array([difference(rows) for rows in resamples])
    return interval(difference(slice(None)), sampled[~np.isnan(sampled)])


def interval(difference: float, sampled: Floats) -> Interval:
    """The interval of `difference` by the quantiles of its resamples; nan where there are none."""
    if len(sampled) == 0:
        return Interval(difference=difference, low=float("nan"), high=float("nan"))
    low, high = np.quantile(sampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(difference=difference, low=float(low), high=float(high))
