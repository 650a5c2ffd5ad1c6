"""One row through a whole S6 model, as a part of a kernel; the plain definition is `models/s6.py`."""

import numpy as np

from inference.fused.inlined import inlined
from inference.fused.lane_math import exp2_decay, silu, softplus
from inference.fused.lanes import Words, add, fma, load, mul, splat, splat_at, store
from inference.fused.projection import multiply_float32, project
from inference.fused.sizes import S6Sizes
from inference.fused.step_parts import add_update, convolve, embed, inverse_rms, read_out

_ZERO, _ONE = np.float32(0), np.float32(1)


@inlined
def s6_step(row: Words, params: Words, state: Words, scratch: Words, sizes: S6Sizes) -> None:
    """Logits of `row` (F,) into the first words of `scratch`, `state` moved on; `sizes` is a constant.

    State of a layer: the convolution's last inputs (K - 1, E), then the scan's (E / 16, N, 16). Parameters:
    as `inference.fused.model_weights` lays them.
    """
    D, E, N, R = sizes.width_words, sizes.inner_words, sizes.state_words, sizes.rank_words
    offsets = sizes.offsets
    residual, projected = scratch[offsets.residual :], scratch[offsets.projected :]
    u, y, q = scratch[offsets.signal :], scratch[offsets.gated :], scratch[offsets.quantised :]
    x, steps, selection = scratch[offsets.row :], scratch[offsets.steps :], scratch[offsets.selection :]
    squares_in = embed(row, params, x, residual, sizes)
    p, st = sizes.row_words * (2 + D), 0
    for _ in range(sizes.layers):
        # x (E), then z (E)
        p = project(sizes.weights, params, p, residual, D, projected, E // 8, q)
        scale = inverse_rms(squares_in, sizes.width, sizes.epsilon)
        p = convolve(params, p, state, st, projected, 0, scale, u, E, sizes.taps)
        p = project(sizes.weights, params, p, u, E, selection, (R + 2 * N) // 16, q)
        p = multiply_float32(params, p, selection, sizes.rank_rows, steps, E // 16)
        rates = p + E
        scan = st + (sizes.taps - 1) * E
        for c in range(0, E, 16):
            dt = softplus(add(load(steps, c), load(params, p + c)))
            signal = load(u, c)
            v = mul(dt, signal)
            even, odd = mul(load(params, rates + E * N + c), signal), splat(_ZERO)
            for n in range(0, N, 2):
                i = c * N + n * 16
                d0 = exp2_decay(mul(dt, load(params, rates + i)))
                d1 = exp2_decay(mul(dt, load(params, rates + i + 16)))
                s0 = fma(d0, load(state, scan + i), mul(splat_at(selection, R + n), v))
                s1 = fma(d1, load(state, scan + i + 16), mul(splat_at(selection, R + n + 1), v))
                store(state, scan + i, s0)
                store(state, scan + i + 16, s1)
                even = fma(splat_at(selection, R + N + n), s0, even)
                odd = fma(splat_at(selection, R + N + n + 1), s1, odd)
            store(y, c, mul(add(even, odd), silu(mul(load(projected, E + c), scale))))
        p = rates + E * N + E
        st += sizes.layer_state_words
        p = project(sizes.weights, params, p, y, E, projected, D // 16, q)
        squares_in = add_update(residual, projected, splat(_ONE), D)
    read_out(params, p, residual, squares_in, x, projected, scratch, sizes)
