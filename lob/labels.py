"""What the models predict: where the mid price goes on average over the next k rows, as one of three classes.

The mean is over the future only. Labels smoothed over the past as well, as in much published work, can be
guessed from the past: a rule that repeats the last move then scores like a network.
"""

import numpy as np
import numpy.typing as npt

from lob.errors import InputError

Floats = npt.NDArray[np.float64]

INVALID, DOWN, FLAT, UP = -1, 0, 1, 2
"""Classes; INVALID is a row whose future is not known."""


def mean_future_mid_change(mid: npt.ArrayLike, horizon: int) -> Floats:
    """The mean of the next `horizon` mids less the mid now, relative to it: (T,) -> (T,) float64.

    `mid` is one unbroken stretch of rows, with no reset in it; its last `horizon` rows are nan. Where no mid
    moves the change is exactly 0. Raises InputError where `mid` is not one-dimensional, positive and finite,
    or `horizon` is below 1.
    """
    mids = np.asarray(mid, np.float64)
    if mids.ndim != 1:
        raise InputError(f"mid: came with shape {mids.shape}; allowed: one dimension")
    if not np.all((mids > 0) & np.isfinite(mids)):
        raise InputError("mid: came with values that are not positive and finite; allowed: prices above 0")
    if horizon < 1:
        raise InputError(f"horizon: came {horizon}; allowed: 1 row or more")
    changes = np.full(len(mids), np.nan)
    known = len(mids) - horizon
    if known > 0:
        now = mids[:known]
        moved = np.zeros(known)
        for ahead in range(1, horizon + 1):
            moved += mids[ahead : ahead + known] - now
        changes[:known] = moved / horizon / now
    return changes


def label_threshold(changes: npt.ArrayLike) -> float:
    """The threshold at which a third of `changes` (T,) is flat: take it from the training part only.

    Where more than a third does not move at all it is 0, and the classes cannot be of equal size. nan are
    left out; raises InputError where nothing else is there.
    """
    values = np.asarray(changes, np.float64)
    sizes = np.abs(values[~np.isnan(values)])
    if len(sizes) == 0:
        raise InputError("changes: came without a single number; allowed: one or more that are not nan")
    return float(np.quantile(sizes, 1 / 3, method="inverted_cdf"))


def classify(changes: npt.ArrayLike, threshold: float) -> npt.NDArray[np.int8]:
    """DOWN below -threshold, UP above it, FLAT between (ends included), INVALID for nan: (T,) -> (T,) int8.

    Raises InputError where `threshold` is negative or not finite.
    """
    if not (np.isfinite(threshold) and threshold >= 0):
        raise InputError(f"threshold: came {threshold}; allowed: 0 or more, finite")
    values = np.asarray(changes, np.float64)
    classes = np.full(values.shape, FLAT, np.int8)
    classes[values < -threshold] = DOWN
    classes[values > threshold] = UP
    classes[np.isnan(values)] = INVALID
    return classes
