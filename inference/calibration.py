"""From logits to calibrated probabilities: softmax of the logits divided by one temperature per horizon.

Temperature scaling: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017,
section 4.2.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lob.errors import InputError
from lob.kernel import kernel


@kernel
def temperature_softmax(
    logits: npt.NDArray[np.float32],  # (H, C)
    temperatures: npt.NDArray[np.float64],  # (H,)
    probabilities: npt.NDArray[np.float64],  # (H, C), written
    best: npt.NDArray[np.int64],  # (H,), written: the class of the highest probability, the first of equals
) -> bool:
    """Fill `probabilities` and `best` from `logits`; False, both undefined, where a logit is not finite."""
    horizons, classes = logits.shape
    for h in range(horizons):
        highest = -np.inf
        top = 0
        for c in range(classes):
            logit = np.float64(logits[h, c])
            if not np.isfinite(logit):
                return False
            if logit > highest:
                highest = logit
                top = c
        total = 0.0
        for c in range(classes):
            # The highest logit is taken off first: no exponent is above 0, and the sum is at least 1.
            weight = np.exp((np.float64(logits[h, c]) - highest) / temperatures[h])
            probabilities[h, c] = weight
            total += weight
        for c in range(classes):
            probabilities[h, c] /= total
        best[h] = top
    return True


class Calibration:
    """The temperatures of a model, with room for one answer."""

    def __init__(self, temperatures: Sequence[float], classes: int) -> None:
        """Keep `temperatures` (H,); raises InputError where one is not a positive finite number."""
        for temperature in temperatures:
            if not 0 < temperature < float("inf"):
                raise InputError(f"temperatures: {temperature!r} came; allowed: positive finite numbers")
        self._temperatures = np.array(temperatures, np.float64)  # (H,)
        self.probabilities = np.zeros((len(temperatures), classes), np.float64)  # (H, C)
        self.best = np.zeros(len(temperatures), np.int64)  # (H,)

    @property
    def memory(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """What `temperature_softmax` takes behind the logits, for a kernel that calls it."""
        return self._temperatures, self.probabilities, self.best

    def apply(self, logits: npt.NDArray[np.float32]) -> bool:
        """Write `probabilities` (H, C) and `best` (H,) for `logits` (H, C); False where one is not finite."""
        return bool(temperature_softmax(logits, self._temperatures, self.probabilities, self.best))
