"""Temperature scaling (Guo et al. 2017): one number a horizon, fitted on the validation part.

Logits are divided by the temperature before the softmax. The log loss as a function of
1 / temperature is convex, so a golden-section search on the logarithm of the temperature finds the
minimum; the arg max of a row, and so every decision by it, stays as it was.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lob.errors import InputError
from training.metrics import checked_labels, log_loss, log_softmax

LOWEST, HIGHEST = 0.05, 20.0
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
LOG_TOLERANCE = 1e-6


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature in [0.05, 20] at which logits (N, C) have the least log loss against labels (N,)."""
    classes = checked_labels(labels, len(logits))
    wide = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise InputError("logits: a value that is not finite came, so no temperature can be fitted")

    def loss(log_temperature: float) -> float:
        return log_loss(log_softmax(wide / math.exp(log_temperature)), classes)

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


def fit_temperatures(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> list[float]:
    """One temperature for each horizon of `logits` (N, H, C); rows whose label (N, H) is -1 are left out."""
    if logits.ndim != 3 or labels.shape != logits.shape[:2]:
        raise InputError(
            f"logits, labels: shapes {logits.shape} and {labels.shape} came, (N, H, C) and (N, H) are needed"
        )
    temperatures = []
    for horizon in range(logits.shape[1]):
        known = labels[:, horizon] >= 0
        temperatures.append(fit_temperature(logits[known, horizon], labels[known, horizon]))
    return temperatures
