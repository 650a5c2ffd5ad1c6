"""Rows through a whole SSD model, of one symbol or of several, as parts of a kernel.

The plain definition is `models/ssd.py`.
"""

import numpy as np

from inference.fused.addresses import Integers, words_at
from inference.fused.inlined import inlined
from inference.fused.lane_math import exp2_decay, silu, softplus
from inference.fused.lanes import Words, add, fma, load, mul, splat, splat_at, store, sum_lanes
from inference.fused.projection import project
from inference.fused.shared_projection import project_all
from inference.fused.sizes import SSDSizes
from inference.fused.step_parts import add_update, convolve, embed, inverse_rms, read_out

_ZERO = np.float32(0)


@inlined
def ssd_step(row: Words, params: Words, state: Words, scratch: Words, sizes: SSDSizes) -> None:
    """Logits of `row` (F,) into the first words of `scratch`, `state` moved on; `sizes` is a constant.

    State of a layer: the convolution's last inputs (K - 1, E + 2 N), then the scan's (H, N, P). Parameters:
    as `inference.fused.model_weights` lays them.
    """
    D, E, offsets = sizes.width_words, sizes.inner_words, sizes.offsets
    residual, projected = scratch[offsets.residual :], scratch[offsets.projected :]
    y, q, x = scratch[offsets.gated :], scratch[offsets.quantised :], scratch[offsets.row :]
    squares_in = embed(row, params, x, residual, sizes)
    p, st = sizes.row_words * (2 + D), 0
    for _ in range(sizes.layers):
        p = project(sizes.weights, params, p, residual, D, projected, input_vectors(sizes), q)
        p, squares = ssd_mix(params, p, state, st, scratch, squares_in, sizes)
        st += sizes.layer_state_words
        p = project(sizes.weights, params, p, y, E, projected, D // 16, q)
        squares_in = add_update(residual, projected, inverse_rms(squares, sizes.inner, sizes.epsilon), D)
    read_out(params, p, residual, squares_in, x, projected, scratch, sizes)


@inlined
def ssd_step_all(
    rows: Integers, states: Integers, count: int, params: Words, scratch: Words, stride: int, sizes: SSDSizes
) -> None:
    """As `ssd_step` for `count` symbols, each weight read once for all; the bits are those of single steps.

    `rows` and `states`: the addresses of each symbol's; its scratch begins s * stride words into `scratch`.
    """
    D, E, offsets = sizes.width_words, sizes.inner_words, sizes.offsets
    for s in range(count):
        own = scratch[s * stride :]
        row = words_at(rows[s], sizes.features)
        own[offsets.squares] = embed(row, params, own[offsets.row :], own[offsets.residual :], sizes)
    p, st = sizes.row_words * (2 + D), 0
    for _ in range(sizes.layers):
        p = project_all(
            sizes.weights,
            params,
            p,
            scratch,
            offsets.residual,
            D,
            offsets.projected,
            input_vectors(sizes),
            offsets.quantised,
            stride,
            count,
        )
        mixed = p
        for s in range(count):
            own, state = scratch[s * stride :], words_at(states[s], sizes.layers * sizes.layer_state_words)
            mixed, own[offsets.squares] = ssd_mix(params, p, state, st, own, own[offsets.squares], sizes)
        p = project_all(
            sizes.weights,
            params,
            mixed,
            scratch,
            offsets.gated,
            E,
            offsets.projected,
            D // 16,
            offsets.quantised,
            stride,
            count,
        )
        st += sizes.layer_state_words
        for s in range(count):
            own = scratch[s * stride :]
            scale = inverse_rms(own[offsets.squares], sizes.inner, sizes.epsilon)
            own[offsets.squares] = add_update(own[offsets.residual :], own[offsets.projected :], scale, D)
    for s in range(count):
        own = scratch[s * stride :]
        residual, projected = own[offsets.residual :], own[offsets.projected :]
        read_out(params, p, residual, own[offsets.squares], own[offsets.row :], projected, own, sizes)


@inlined
def input_vectors(sizes: SSDSizes) -> int:
    """Outputs of a layer's first projection in vectors: z (E), then x (E), k (N) and q (N), then dt (H)."""
    return (2 * sizes.inner_words + 2 * sizes.state_words + sizes.head_words) // 16


@inlined
def ssd_mix(
    params: Words, p: int, state: Words, st: int, scratch: Words, squares_in: np.float32, sizes: SSDSizes
) -> tuple[int, np.float32]:
    """What a layer does between its projections: convolution, scan and gate, the state at word `st` moved on.

    Answers the word after its parameters and the sum of squares of what it leaves as `gated`. `squares_in`:
    that of the residual stream.
    """
    E, N, H = sizes.inner_words, sizes.state_words, sizes.head_words
    P, channels, offsets = sizes.head_width, sizes.inner_words + 2 * sizes.state_words, sizes.offsets
    projected, u = scratch[offsets.projected :], scratch[offsets.signal :]
    y, steps = scratch[offsets.gated :], scratch[offsets.steps :]
    scale = inverse_rms(squares_in, sizes.width, sizes.epsilon)
    p = convolve(params, p, state, st, projected, E, scale, u, channels, sizes.taps)
    for h in range(0, H, 16):
        dt = softplus(fma(load(projected, E + channels + h), scale, load(params, p + h)))
        store(steps, h, dt)
        store(steps, H + h, exp2_decay(mul(dt, load(params, p + H + h))))
    squares = splat(_ZERO)
    scan = st + (sizes.taps - 1) * channels
    for h in range(sizes.heads):
        dt, decay = splat_at(steps, h), splat_at(steps, H + h)
        for c in range(h * P, h * P + P, 16):
            signal = load(u, c)
            v = mul(dt, signal)
            even, odd = mul(load(params, p + 2 * H + c), signal), splat(_ZERO)
            a = scan + h * P * N + c - h * P
            for n in range(0, N, 2):
                s0 = fma(splat_at(u, E + n), v, mul(decay, load(state, a + n * P)))
                s1 = fma(splat_at(u, E + n + 1), v, mul(decay, load(state, a + n * P + P)))
                store(state, a + n * P, s0)
                store(state, a + n * P + P, s1)
                even = fma(splat_at(u, E + N + n), s0, even)
                odd = fma(splat_at(u, E + N + n + 1), s1, odd)
            gated = mul(add(even, odd), silu(mul(load(projected, c), scale)))
            squares = fma(gated, gated, squares)
            store(y, c, gated)
    return p + 2 * H + E, sum_lanes(squares)
