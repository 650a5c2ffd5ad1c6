"""The number formats that a model can be asked to answer in.

Which of them an engine has for a model is `inference.engines.selection`'s question: `fused` packs the
exported float32 weights in its own formats, onnxruntime's engines run the graphs that came with the model.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from lob.errors import InputError

Precision = Literal["float32", "bfloat16", "int16", "int8", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

GraphPrecision = Literal["float32", "float16", "int8"]
"""The formats that an ONNX graph of an artifact comes in."""


def require_precision(precision: str) -> None:
    """Raise InputError where no engine has a format of that name."""
    if precision not in PRECISIONS:
        raise InputError(f"precision: {precision!r} came; allowed: {', '.join(PRECISIONS)}")


TOLERANCES: dict[str, float] = {
    "float32": 1e-5,
    "bfloat16": 2e-2,
    "int16": 5e-4,
    "int8": 0.15,
    "float16": 2e-2,
}
"""How far two engines' logits may be apart, as `logit_difference` counts it.

float32 is the project's own: engines add in another order, and differ by 2e-6 or so. The others are four to
six times the largest difference on trained models and real rows (`docs/precision.md`).
"""


def logit_difference(came: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    """The largest difference of a logit, relative to that wanted where it is above 1; nan where one is."""
    return float((np.abs(came - wanted) / np.maximum(np.abs(wanted), 1)).max())
