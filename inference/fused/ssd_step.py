"""One row through a whole SSD model, as a part of a kernel; the plain definition is `models/ssd.py`."""

import numpy as np

from inference.fused.inlined import inlined
from inference.fused.lane_math import exp2_decay, silu, softplus
from inference.fused.lanes import Words, add, fma, load, mul, splat, splat_at, store, sum_lanes
from inference.fused.projection import project
from inference.fused.sizes import SSDSizes
from inference.fused.step_parts import add_update, convolve, embed, inverse_rms, read_out

_ZERO = np.float32(0)


@inlined
def ssd_step(row: Words, params: Words, state: Words, scratch: Words, sizes: SSDSizes) -> None:
    """Logits of `row` (F,) into the first words of `scratch`, `state` moved on; `sizes` is a constant.

    State of a layer: the convolution's last inputs (K - 1, E + 2 N), then the scan's (H, N, P). Parameters:
    as `inference.fused.model_weights` lays them.
    """
    D, E, N, H = sizes.width_words, sizes.inner_words, sizes.state_words, sizes.head_words
    P, channels, offsets = sizes.head_width, sizes.inner_words + 2 * sizes.state_words, sizes.offsets
    residual, projected = scratch[offsets.residual :], scratch[offsets.projected :]
    u, y, q = scratch[offsets.signal :], scratch[offsets.gated :], scratch[offsets.quantised :]
    x, steps = scratch[offsets.row :], scratch[offsets.steps :]
    squares_in = embed(row, params, x, residual, sizes)
    p, st = sizes.row_words * (2 + D), 0
    for _ in range(sizes.layers):
        # z (E), then x (E), k (N) and q (N), then dt (H)
        p = project(sizes.weights, params, p, residual, D, projected, (E + channels + H) // 16, q)
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
        p += 2 * H + E
        st += sizes.layer_state_words
        p = project(sizes.weights, params, p, y, E, projected, D // 16, q)
        scale = inverse_rms(sum_lanes(squares), sizes.inner, sizes.epsilon)
        squares_in = add_update(residual, projected, scale, D)
    read_out(params, p, residual, squares_in, x, projected, scratch, sizes)
