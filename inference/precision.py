"""The number formats that a model can be asked to answer in.

Which of them an engine has for a model is `inference.engines.selection`'s question: `fused` packs the
exported float32 weights in its own formats, onnxruntime's engines run the graphs that came with the model.
"""

from typing import Literal, get_args

from lob.errors import InputError

Precision = Literal["float32", "bfloat16", "int16", "int8", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

GraphPrecision = Literal["float32", "float16", "int8"]
"""The formats that an ONNX graph of an artifact comes in."""


def require_precision(precision: str) -> None:
    """Raise InputError where no engine has a format of that name."""
    if precision not in PRECISIONS:
        raise InputError(f"precision: {precision!r} came; allowed: {', '.join(PRECISIONS)}")
