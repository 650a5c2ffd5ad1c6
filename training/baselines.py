"""What a model has to beat: the class shares, the microprice's sign, and a linear model of the last row."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lob.errors import InputError
from lob.labels import DOWN, FLAT, UP
from training.metrics import CLASSES, Floats, Integers, checked_labels, class_shares

LOGISTIC_ITERATIONS = 2000
SMALLEST_SHARE = 1e-6


def prior_log_probabilities(training_labels: NDArray[np.integer]) -> Floats:
    """(3,) logarithms of the training part's class shares, none taken as less than one in a million."""
    return np.asarray(np.log(np.maximum(class_shares(training_labels), SMALLEST_SHARE)))


@dataclass(frozen=True, kw_only=True)
class MicropriceRule:
    """Down below `lower`, up above `upper`, flat between: on microprice - mid, in ticks."""

    lower: float
    upper: float

    def decide(self, microprice_ticks: NDArray[np.floating]) -> Integers:
        """(N,) classes for (N,) values of microprice - mid."""
        decisions = np.full(len(microprice_ticks), FLAT, dtype=np.int64)
        decisions[microprice_ticks < self.lower] = DOWN
        decisions[microprice_ticks > self.upper] = UP
        return decisions


def fit_microprice_rule(
    microprice_ticks: NDArray[np.floating], labels: NDArray[np.integer]
) -> MicropriceRule:
    """The rule that decides each class as often as it came in training, as nearly as ties allow."""
    shares = class_shares(checked_labels(labels, len(microprice_ticks)))
    values = np.sort(np.asarray(microprice_ticks, dtype=np.float64))
    return MicropriceRule(
        lower=cut_below(values, float(shares[DOWN])), upper=cut_below(values, 1.0 - float(shares[UP]))
    )


def cut_below(values: Floats, share: float) -> float:
    """A number between the sorted `values` (N,) with `share` of them below it, as nearly as ties allow."""
    steps = np.flatnonzero(np.diff(values)) + 1  # how many values lie below each cut between two neighbours
    counts = np.r_[0, steps, len(values)]
    cuts = np.r_[values[0] - 1.0, (values[steps - 1] + values[steps]) / 2, values[-1] + 1.0]
    return float(cuts[np.abs(counts - share * len(values)).argmin()])


class LogisticBaseline:
    """Multinomial logistic regression on one row, each feature standardised on the rows it was fitted on."""

    def __init__(self, rows: NDArray[np.float32], labels: NDArray[np.integer]) -> None:
        """Fit to training rows (N, F) and labels (N,); InputError unless all three classes are there."""
        classes = checked_labels(labels, len(rows))
        if len(np.unique(classes)) != CLASSES:
            raise InputError(
                f"labels: only the classes {np.unique(classes).tolist()} came, all of 0, 1, 2 are needed"
            )
        self.scaler = StandardScaler()
        self.regression = LogisticRegression(max_iter=LOGISTIC_ITERATIONS)
        scaled = self.scaler.fit_transform(rows.astype(np.float64))
        self.regression.fit(scaled, classes)

    def logits(self, rows: NDArray[np.float32]) -> Floats:
        """(N, 3) for rows (N, F): logits, of which the softmax are the probabilities."""
        scaled: Any = self.scaler.transform(rows.astype(np.float64))
        return np.asarray(scaled @ self.regression.coef_.T + self.regression.intercept_, dtype=np.float64)
