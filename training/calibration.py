"""Temperature scaling (Guo et al. 2017): one number a horizon, fitted on the validation part.

Logits are divided by the temperature before the softmax; the arg max of a row, and so every decision by it,
stays as it was. Two things keep the fit from chasing one validation part's regime. Labels that look k rows
ahead share all but one of their mids with their neighbours', so N rows count as N / k. And the logarithm of
the temperature has a normal prior around 0, so a temperature far from 1 needs the evidence for it.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lob.errors import InputError
from training.metrics import checked_labels, log_loss, log_softmax

LOWEST, HIGHEST = 0.05, 20.0
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
LOG_TOLERANCE = 1e-6
PRIOR_SCALE = 0.2
"""Standard deviation of the prior of the logarithm: most temperatures are within a fifth of 1."""


def fit_temperature(
    logits: NDArray[np.floating], labels: NDArray[np.integer], *, overlap_rows: int = 1
) -> float:
    """The most probable temperature of logits (N, C) given labels (N,) that each look `overlap_rows` ahead.

    It is within [0.05, 20]. Raises InputError where a logit is not finite.
    """
    classes = checked_labels(labels, len(logits))
    wide = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise InputError("logits: a value that is not finite came, so no temperature can be fitted")
    independent_rows = len(wide) / overlap_rows

    def loss(log_temperature: float) -> float:
        evidence = log_loss(log_softmax(wide / math.exp(log_temperature)), classes) * independent_rows
        return evidence + 0.5 * (log_temperature / PRIOR_SCALE) ** 2

    low, high = math.log(LOWEST), math.log(HIGHEST)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > LOG_TOLERANCE:
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - GOLDEN * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + GOLDEN * (high - low)
            loss_right = loss(right)
    return math.exp((low + high) / 2)


def fit_temperatures(
    logits: NDArray[np.floating], labels: NDArray[np.integer], horizons: Sequence[int]
) -> list[float]:
    """One temperature for each of `horizons` (H) from logits (N, H, C) and labels (N, H), -1 for none."""
    if logits.shape[:2] != (len(labels), len(horizons)) or labels.shape != logits.shape[:2]:
        raise InputError(
            f"logits, labels: shapes {logits.shape} and {labels.shape} came, (N, H, C) and (N, H) with "
            f"H = {len(horizons)} are needed"
        )
    temperatures = []
    for index, horizon in enumerate(horizons):
        known = labels[:, index] >= 0
        temperatures.append(fit_temperature(logits[known, index], labels[known, index], overlap_rows=horizon))
    return temperatures
