"""A vector times a whole matrix in any weight format, as parts of a fused kernel."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import overload

from inference.fused.inlined import INLINED, inlined
from inference.fused.lanes import (
    Lanes,
    Words,
    absolute,
    add_ints,
    bits_of,
    div,
    fma,
    largest_lane,
    load,
    load_ints,
    maximum,
    mul,
    splat,
    splat_int,
    store,
    store_bytes,
    sub_ints,
    to_floats,
)
from inference.fused.panels import make_panel, widest_panel
from inference.fused.weight_format import (
    BFloat16,
    Float32,
    Int16,
    Precision,
    WeightFormat,
    weight_format,
)

_SMALLEST_PEAK = np.float32(1e-30)
_LARGEST_BYTE, _ITS_INVERSE = np.float32(127), np.float32(1 / 127)
_ROUNDING = np.float32(1.5 * 2**23)  # adding it rounds to a whole number, which its low bits then hold
_ZERO_POINT = np.int32(128)


def make_walk(precision: Precision, make: Callable[[int], Any]) -> Any:
    """walk(params, at, x, i, k, out, o, vectors, stride, count): a whole matrix, panels widest first.

    `make(width)` is what does a panel: panel(params, at, x, i, k, out, o, stride, count). Answers the word
    after the last.
    """
    rows = weight_format(precision).rows
    panel_16, panel_8, panel_4, panel_2, panel_1 = (make(width) for width in (16, 8, 4, 2, 1))

    @inlined
    def walk(
        params: Words,
        at: int,
        x: Words,
        i: int,
        k: int,
        out: Words,
        o: int,
        vectors: int,
        stride: int,
        count: int,
    ) -> int:
        vector_words = k // rows * 16
        if widest_panel() == 16:
            for _ in range(vectors // 16):
                panel_16(params, at, x, i, k, out, o, stride, count)
                at += vector_words * 16
                o += 256
            if vectors & 8:
                panel_8(params, at, x, i, k, out, o, stride, count)
                at += vector_words * 8
                o += 128
            if vectors & 4:
                panel_4(params, at, x, i, k, out, o, stride, count)
                at += vector_words * 4
                o += 64
        else:
            for _ in range(vectors // 4):
                panel_4(params, at, x, i, k, out, o, stride, count)
                at += vector_words * 4
                o += 64
        if vectors & 2:
            panel_2(params, at, x, i, k, out, o, stride, count)
            at += vector_words * 2
            o += 32
        if vectors & 1:
            panel_1(params, at, x, i, k, out, o, stride, count)
            at += vector_words
        return at

    return walk


def _make_multiply(precision: Precision) -> Any:
    """multiply(params, at, x, k, out, vectors): one vector times a matrix; answers the word after it."""

    def make(width: int) -> Any:
        alone = make_panel(precision, width)

        @inlined
        def panel(
            params: Words, at: int, x: Words, i: int, k: int, out: Words, o: int, stride: int, count: int
        ) -> None:
            alone(params, at, x[i:], k, out, o)

        return panel

    walk = make_walk(precision, make)

    @inlined
    def multiply(params: Words, at: int, x: Words, k: int, out: Words, vectors: int) -> int:
        after: int = walk(params, at, x, 0, k, out, 0, vectors, 0, 1)
        return after

    return multiply


multiply_float32 = _make_multiply("float32")
multiply_bfloat16 = _make_multiply("bfloat16")
_multiply_halves = _make_multiply("int16")
_multiply_bytes = _make_multiply("int8")


@inlined
def multiply_int16(params: Words, at: int, x: Words, k: int, out: Words, vectors: int) -> int:
    """int16 panels, then one scale an output; answers the word after them."""
    at = _multiply_halves(params, at, x, k, out, vectors)
    scale_halves(params, at, out, vectors)
    return at + vectors * 16


@inlined
def scale_halves(params: Words, at: int, out: Words, vectors: int) -> None:
    """What int16 panels gave, times the scales of the outputs at word `at`."""
    for o in range(0, vectors * 16, 16):
        store(out, o, mul(load(out, o), load(params, at + o)))


@inlined
def quantise(x: Words, k: int, q: Words) -> Lanes:
    """x (k,) to k unsigned bytes with zero point 128 in the words of q; answers what one step is worth.

    The largest magnitude becomes 127 steps. Not a number in x is one in the answer.
    """
    peak = splat(_SMALLEST_PEAK)
    for i in range(0, k, 16):
        peak = maximum(peak, absolute(load(x, i)))
    peak = splat(largest_lane(peak))
    steps, rounding, zero_point = div(splat(_LARGEST_BYTE), peak), splat(_ROUNDING), splat_int(_ZERO_POINT)
    for i in range(0, k, 16):
        store_bytes(q, i // 4, add_ints(bits_of(fma(load(x, i), steps, rounding)), zero_point))
    return mul(peak, splat(_ITS_INVERSE))


@inlined
def multiply_int8(params: Words, at: int, x: Words, k: int, out: Words, vectors: int, q: Words) -> int:
    """x to bytes in q, int8 panels, one scale an output, then 128 column sums, which the zero point added."""
    step = quantise(x, k, q)
    at = _multiply_bytes(params, at, q, k, out, vectors)
    scale_bytes(params, at, out, vectors, step)
    return at + vectors * 32


@inlined
def scale_bytes(params: Words, at: int, out: Words, vectors: int, step: Lanes) -> None:
    """What int8 panels gave to floats: less the column sums, times a scale an output and the inputs' step."""
    for o in range(0, vectors * 16, 16):
        total = to_floats(sub_ints(load_ints(out, o), load_ints(params, at + vectors * 16 + o)))
        store(out, o, mul(total, mul(load(params, at + o), step)))


def project(
    weights: WeightFormat, params: Words, at: int, x: Words, k: int, out: Words, vectors: int, q: Words
) -> int:
    """out (vectors * 16,) = x (k,) @ the matrix at word `at` of params; answers the word after the matrix.

    `q` is room for the bytes of x, k / 4 words. In a kernel the type of `weights` picks the code.
    """
    if isinstance(weights, Float32):
        return int(multiply_float32(params, at, x, k, out, vectors))
    if isinstance(weights, BFloat16):
        return int(multiply_bfloat16(params, at, x, k, out, vectors))
    if isinstance(weights, Int16):
        return multiply_int16(params, at, x, k, out, vectors)
    return multiply_int8(params, at, x, k, out, vectors, q)


@overload(project, jit_options=INLINED, strict=False)
def _compiled_project(
    weights: Any, params: Any, at: Any, x: Any, k: Any, out: Any, vectors: Any, q: Any
) -> Any:
    kind = weights.instance_class
    if kind is Float32:
        return lambda weights, params, at, x, k, out, vectors, q: multiply_float32(
            params, at, x, k, out, vectors
        )
    if kind is BFloat16:
        return lambda weights, params, at, x, k, out, vectors, q: multiply_bfloat16(
            params, at, x, k, out, vectors
        )
    if kind is Int16:
        return lambda weights, params, at, x, k, out, vectors, q: multiply_int16(
            params, at, x, k, out, vectors
        )
    return lambda weights, params, at, x, k, out, vectors, q: multiply_int8(params, at, x, k, out, vectors, q)
