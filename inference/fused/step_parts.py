"""The parts that the SSD and the S6 step share: the row's way in, convolution, residual stream, the way out.

The inverse root mean square of a norm is one number, so it multiplies what a projection gives instead of what
goes in: the sum of squares is then off the critical path. Norm weights are multiplied into the next matrix.
"""

import numpy as np

from inference.fused.inlined import inlined
from inference.fused.lane_math import silu
from inference.fused.lanes import (
    Lanes,
    Words,
    add,
    div,
    fma,
    load,
    maximum,
    minimum,
    mul,
    splat,
    splat_at,
    sqrt,
    store,
    sub,
    sum_lanes,
)
from inference.fused.projection import multiply_float32
from inference.fused.sizes import KernelSizes

_ZERO, _ONE = np.float32(0), np.float32(1)


@inlined
def embed(row: Words, params: Words, x: Words, residual: Words, sizes: KernelSizes) -> np.float32:
    """x = the normalised row (F,), residual (D,) = x @ embedding; answers the residual's sum of squares."""
    low, high, words = splat(sizes.clip_low), splat(sizes.clip_high), sizes.row_words
    for i in range(0, words, 16):
        c = min(i, sizes.features - 16)  # rows are not padded: the last vector overlaps the one before
        v = mul(sub(load(row, c), load(params, c)), load(params, words + c))
        store(x, c, minimum(maximum(v, low), high))
    multiply_float32(params, 2 * words, x, words, residual, sizes.width_words // 16)
    squares = splat(_ZERO)
    for c in range(0, sizes.width_words, 16):
        v = load(residual, c)
        squares = fma(v, v, squares)
    total: np.float32 = sum_lanes(squares)
    return total


@inlined
def inverse_rms(squares: np.float32, count: np.float32, epsilon: np.float32) -> Lanes:
    """1 / sqrt(squares / count + epsilon) in every lane."""
    return div(splat(_ONE), sqrt(add(div(splat(squares), splat(count)), splat(epsilon))))


@inlined
def convolve(
    params: Words,
    at: int,
    state: Words,
    st: int,
    x: Words,
    x0: int,
    scale: Lanes,
    out: Words,
    channels: int,
    taps: int,
) -> int:
    """out (channels,) = silu(causal convolution of scale * x[x0:]); answers the word after its weights.

    The state holds the last taps - 1 inputs, (taps - 1, channels), oldest first; the new one moves in.
    """
    for c in range(0, channels, 16):
        new = mul(load(x, x0 + c), scale)
        total = load(params, at + taps * channels + c)
        for tap in range(taps - 1):
            old = load(state, st + tap * channels + c)
            total = fma(old, load(params, at + tap * channels + c), total)
            if tap > 0:
                store(state, st + (tap - 1) * channels + c, old)
        store(state, st + (taps - 2) * channels + c, new)
        total = fma(new, load(params, at + (taps - 1) * channels + c), total)
        store(out, c, silu(total))
    return at + (taps + 1) * channels


@inlined
def add_update(residual: Words, update: Words, scale: Lanes, words: int) -> np.float32:
    """residual += scale * update; answers the new residual's sum of squares."""
    squares = splat(_ZERO)
    for c in range(0, words, 16):
        v = fma(load(update, c), scale, load(residual, c))
        store(residual, c, v)
        squares = fma(v, v, squares)
    total: np.float32 = sum_lanes(squares)
    return total


@inlined
def read_out(
    params: Words,
    at: int,
    residual: Words,
    squares: np.float32,
    x: Words,
    out: Words,
    logits: Words,
    sizes: KernelSizes,
) -> None:
    """logits = norm(residual) @ head + the linear path of the normalised row x + bias; `out` is scratch."""
    words = sizes.output_words
    at = multiply_float32(params, at, residual, sizes.width_words, out, words // 16)
    scale = inverse_rms(squares, sizes.width, sizes.epsilon)
    for o in range(0, words, 16):
        total = load(params, at + sizes.linear_count * words + o)
        for i in range(sizes.linear_count):
            total = fma(splat_at(x, sizes.linear_first + i), load(params, at + i * words + o), total)
        store(logits, o, fma(load(out, o), scale, total))
