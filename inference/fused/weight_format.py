"""The number formats that the large matrices of a fused step come in.

    float32    as they are
    bfloat16   the upper half of a float32, two in a word
    int16      whole numbers and one scale an output, two in a word
    int8       whole numbers and one scale an output, four in a word; what they multiply becomes bytes, too

A format is a type of its own, so that a kernel is compiled for one and holds no trace of the others.
"""

from typing import Literal, NamedTuple, TypeAlias, get_args

from lob.errors import InputError

Precision = Literal["float32", "bfloat16", "int16", "int8"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class Float32(NamedTuple):
    """One weight a word."""

    rows: int = 1  # inputs that share one 32-bit word
    output_words: int = 0  # words an output has behind the matrix


class BFloat16(NamedTuple):
    """Two weights a word."""

    rows: int = 2
    output_words: int = 0


class Int16(NamedTuple):
    """Two weights a word; behind the matrix the scales."""

    rows: int = 2
    output_words: int = 1


class Int8(NamedTuple):
    """Four weights a word; behind the matrix the scales, then what the inputs' zero point adds."""

    rows: int = 4
    output_words: int = 2


WeightFormat: TypeAlias = Float32 | BFloat16 | Int16 | Int8

_FORMATS: dict[str, WeightFormat] = {
    "float32": Float32(),
    "bfloat16": BFloat16(),
    "int16": Int16(),
    "int8": Int8(),
}


def weight_format(precision: str) -> WeightFormat:
    """The format called `precision`; raises InputError for an unknown one."""
    try:
        return _FORMATS[precision]
    except KeyError:
        raise InputError(f"precision: {precision!r} came; allowed: {', '.join(PRECISIONS)}") from None


def matrix_words(weights: WeightFormat, inputs: int, outputs: int) -> int:
    """32-bit words that a packed matrix (inputs, outputs) takes, with what stands behind it."""
    return inputs * outputs // weights.rows + outputs * weights.output_words
