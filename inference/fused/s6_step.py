"""Rows through a whole S6 model, of one symbol or of several, as parts of a kernel.

The plain definition is `models/s6.py`.
"""

import numpy as np

from inference.fused.addresses import Integers, words_at
from inference.fused.inlined import inlined
from inference.fused.lane_math import exp2_decay, silu, softplus
from inference.fused.lanes import Lanes, Words, add, fma, load, mul, splat, splat_at, store
from inference.fused.projection import multiply_float32, project
from inference.fused.shared_projection import project_all
from inference.fused.sizes import S6Sizes
from inference.fused.step_parts import add_update, convolve, embed, inverse_rms, read_out

_ZERO, _ONE = np.float32(0), np.float32(1)


@inlined
def s6_step(row: Words, params: Words, state: Words, scratch: Words, sizes: S6Sizes) -> None:
    """Logits of `row` (F,) into the first words of `scratch`, `state` moved on; `sizes` is a constant.

    State of a layer: the convolution's last inputs (K - 1, E), then the scan's (E / 16, N, 16). Parameters:
    as `inference.fused.model_weights` lays them.
    """
    D, E, offsets = sizes.width_words, sizes.inner_words, sizes.offsets
    residual, projected = scratch[offsets.residual :], scratch[offsets.projected :]
    u, y, q = scratch[offsets.signal :], scratch[offsets.gated :], scratch[offsets.quantised :]
    x, selection = scratch[offsets.row :], scratch[offsets.selection :]
    squares = embed(row, params, x, residual, sizes)
    p, st = sizes.row_words * (2 + D), 0
    for _ in range(sizes.layers):
        # x (E), then z (E)
        p = project(sizes.weights, params, p, residual, D, projected, E // 8, q)
        scale = inverse_rms(squares, sizes.width, sizes.epsilon)
        p = convolve(params, p, state, st, projected, 0, scale, u, E, sizes.taps)
        p = project(sizes.weights, params, p, u, E, selection, selection_vectors(sizes), q)
        p = s6_mix(params, p, state, st, scratch, scale, sizes)
        st += sizes.layer_state_words
        p = project(sizes.weights, params, p, y, E, projected, D // 16, q)
        squares = add_update(residual, projected, splat(_ONE), D)
    read_out(params, p, residual, squares, x, projected, scratch, sizes)


@inlined
def s6_step_all(
    rows: Integers, states: Integers, count: int, params: Words, scratch: Words, stride: int, sizes: S6Sizes
) -> None:
    """As `s6_step` for `count` symbols, the weights of its projections read once for all.

    The bits are those of single steps. `rows` and `states`: the addresses of each symbol's; its scratch
    begins s * stride words into `scratch`.
    """
    D, E, offsets, q = sizes.width_words, sizes.inner_words, sizes.offsets, sizes.offsets.quantised
    weights, projected = sizes.weights, sizes.offsets.projected
    for s in range(count):
        own = scratch[s * stride :]
        row = words_at(rows[s], sizes.features)
        own[offsets.squares] = embed(row, params, own[offsets.row :], own[offsets.residual :], sizes)
    p, st = sizes.row_words * (2 + D), 0
    for _ in range(sizes.layers):
        p = project_all(weights, params, p, scratch, offsets.residual, D, projected, E // 8, q, stride, count)
        after = p
        for s in range(count):
            own, state = scratch[s * stride :], words_at(states[s], sizes.layers * sizes.layer_state_words)
            scale = inverse_rms(own[offsets.squares], sizes.width, sizes.epsilon)
            u = own[offsets.signal :]
            after = convolve(params, p, state, st, own[projected:], 0, scale, u, E, sizes.taps)
        vectors = selection_vectors(sizes)
        p = project_all(
            weights, params, after, scratch, offsets.signal, E, offsets.selection, vectors, q, stride, count
        )
        after = p
        for s in range(count):
            own, state = scratch[s * stride :], words_at(states[s], sizes.layers * sizes.layer_state_words)
            scale = inverse_rms(own[offsets.squares], sizes.width, sizes.epsilon)
            after = s6_mix(params, p, state, st, own, scale, sizes)
        p = project_all(
            weights, params, after, scratch, offsets.gated, E, projected, D // 16, q, stride, count
        )
        st += sizes.layer_state_words
        for s in range(count):
            own = scratch[s * stride :]
            own[offsets.squares] = add_update(own[offsets.residual :], own[projected:], splat(_ONE), D)
    for s in range(count):
        own = scratch[s * stride :]
        residual, x = own[offsets.residual :], own[offsets.row :]
        read_out(params, p, residual, own[offsets.squares], x, own[projected:], own, sizes)


@inlined
def selection_vectors(sizes: S6Sizes) -> int:
    """Outputs of the projection that selects, in vectors: the time step's R, then k (N) and q (N)."""
    return (sizes.rank_words + 2 * sizes.state_words) // 16


@inlined
def s6_mix(params: Words, p: int, state: Words, st: int, scratch: Words, scale: Lanes, sizes: S6Sizes) -> int:
    """What a layer does between its last two projections: time step, scan and gate, the state moved on.

    `st`: the word where the layer's state begins; `scale`: what multiplies the gate. Leaves `gated`; answers
    the word after its parameters.
    """
    E, N, R, offsets = sizes.inner_words, sizes.state_words, sizes.rank_words, sizes.offsets
    projected, u, y = scratch[offsets.projected :], scratch[offsets.signal :], scratch[offsets.gated :]
    steps, selection = scratch[offsets.steps :], scratch[offsets.selection :]
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
    return rates + E * N + E
