"""Exponential, SiLU and softplus of sixteen float32 lanes, by range reduction and polynomial.

The build of LLVM that Numba comes with has no vector library of these. Largest errors against float64, in
units in the last place: `exp` 1.1, `exp2_decay` 0.9, `silu` 2.2, `softplus` 2.5.
"""

import math

import numpy as np

from inference.fused.inlined import inlined
from inference.fused.lanes import (
    Lanes,
    absolute,
    add,
    add_ints,
    bits_of,
    div,
    fma,
    from_bits,
    maximum,
    minimum,
    mul,
    shift_left,
    splat,
    splat_int,
    sub,
)

_ZERO, _ONE, _TWO, _MINUS_ONE = np.float32(0), np.float32(1), np.float32(2), np.float32(-1)
_LOG2_E = np.float32(math.log2(math.e))
_LN2_HIGH = np.float32(0.693359375)  # 9 bits: n times this is exact for |n| < 2**15
_LN2_LOW = np.float32(math.log(2) - 0.693359375)
_ROUNDING = np.float32(1.5 * 2**23)  # adding it rounds to a whole number, which its low bits then hold
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)
_LOWEST_EXPONENT = np.float32(-126.0)
_EXPONENT_SHIFT = np.int32(23)

# e**r = 1 + r + r**2 p(r) on |r| <= ln 2 / 2; p fitted at Chebyshev points in float64.
_E0, _E1, _E2, _E3, _E4 = (
    np.float32(c)
    for c in (0.5, 0.16666576266288757, 0.04166646674275398, 0.008363179862499237, 0.0013933650916442275)
)
# 2**r = 1 + r p(r) on |r| <= 1 / 2.
_P0, _P1, _P2, _P3, _P4, _P5 = (
    np.float32(c)
    for c in (
        0.6931471824645996,
        0.24022650718688965,
        0.055503569543361664,
        0.009618056938052177,
        0.0013390866806730628,
        0.00015461447765119374,
    )
)
# log(1 + t) = t p(2 t - 1) on 0 <= t <= 1.
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8, _L9 = (
    np.float32(c)
    for c in (
        0.8109301924705505,
        -0.14426355063915253,
        0.033152252435684204,
        -0.008460951037704945,
        0.0022897175513207912,
        -0.0006428624619729817,
        0.00018087650823872536,
        -5.267939923214726e-05,
        2.0521320038824342e-05,
        -6.360114184644772e-06,
    )
)


@inlined
def exp(x: Lanes) -> Lanes:
    """e**x for x in [-87, 88]; beyond, the value at that end."""
    x = minimum(maximum(x, splat(_LOWEST)), splat(_HIGHEST))
    rounding = splat(_ROUNDING)
    shifted = fma(x, splat(_LOG2_E), rounding)
    n = sub(shifted, rounding)
    r = fma(n, splat(-_LN2_LOW), fma(n, splat(-_LN2_HIGH), x))
    p = fma(fma(fma(fma(splat(_E4), r, splat(_E3)), r, splat(_E2)), r, splat(_E1)), r, splat(_E0))
    p = add(fma(mul(r, r), p, r), splat(_ONE))
    result: Lanes = from_bits(add_ints(bits_of(p), shift_left(bits_of(shifted), splat_int(_EXPONENT_SHIFT))))
    return result


@inlined
def exp2_decay(x: Lanes) -> Lanes:
    """2**x for x in [-126, 0], below that 2**-126: the decay of a state."""
    x = maximum(x, splat(_LOWEST_EXPONENT))
    rounding = splat(_ROUNDING)
    shifted = add(x, rounding)
    r = sub(x, sub(shifted, rounding))
    p = fma(fma(fma(splat(_P5), r, splat(_P4)), r, splat(_P3)), r, splat(_P2))
    p = fma(fma(fma(p, r, splat(_P1)), r, splat(_P0)), r, splat(_ONE))
    result: Lanes = from_bits(add_ints(bits_of(p), shift_left(bits_of(shifted), splat_int(_EXPONENT_SHIFT))))
    return result


@inlined
def silu(x: Lanes) -> Lanes:
    """x / (1 + e**-x)."""
    return div(x, add(splat(_ONE), exp(mul(x, splat(_MINUS_ONE)))))


@inlined
def softplus(x: Lanes) -> Lanes:
    """log(1 + e**x) = max(x, 0) + log(1 + e**-|x|)."""
    t = exp(mul(absolute(x), splat(_MINUS_ONE)))
    s = fma(t, splat(_TWO), splat(_MINUS_ONE))
    p = fma(splat(_L9), s, splat(_L8))
    p = fma(fma(fma(fma(p, s, splat(_L7)), s, splat(_L6)), s, splat(_L5)), s, splat(_L4))
    p = fma(fma(fma(fma(p, s, splat(_L3)), s, splat(_L2)), s, splat(_L1)), s, splat(_L0))
    return fma(t, p, maximum(x, splat(_ZERO)))
