"""Several symbols' vectors times one matrix: each weight is read once for all of them.

A model's weights do not fit the fastest cache, and reading them is most of a step. A panel is therefore cut
into tiles of a few of its vectors and a few symbols, whose running sums fill the registers: a weight that is
loaded serves every symbol of the tile. Each symbol's sums are added in the order in which
`inference.fused.projection` adds them for it alone, so the bits are the same.

All symbols' vectors stand in one scratch, those of symbol s `s * stride` words behind the first one's.
"""

from typing import Any

from numba.extending import overload

from inference.fused.inlined import INLINED, inlined
from inference.fused.lanes import Words, load, store
from inference.fused.panels import make_panel, make_tiled_panel
from inference.fused.projection import make_walk, quantise, scale_bytes, scale_halves
from inference.fused.weight_format import BFloat16, Float32, Int16, Precision, WeightFormat


def _make_multiply_all(precision: Precision) -> Any:
    """multiply(params, at, x, i, k, out, o, vectors, stride, count): as `project_all`, without scales."""

    def make(width: int) -> Any:
        alone, tiled = make_panel(precision, width), make_tiled_panel(precision, width)
        tile, tile_vectors, tile_symbols = tiled.tile, tiled.vectors, tiled.symbols

        @inlined
        def panel(
            params: Words, at: int, x: Words, i: int, k: int, out: Words, o: int, stride: int, count: int
        ) -> None:
            # Symbols that fill no tile take the panel one by one.
            in_tiles = count // tile_symbols() * tile_symbols() if tile_symbols() > 1 else 0
            for v in range(0, width, tile_vectors()):
                for first in range(0, in_tiles * stride, tile_symbols() * stride):
                    tile(params, at + v * 16, x, i + first, stride, k, out, o + first + v * 16, stride)
            for first in range(in_tiles * stride, count * stride, stride):
                alone(params, at, x[i + first :], k, out, o + first)

        return panel

    return make_walk(precision, make)


multiply_all_float32 = _make_multiply_all("float32")
_multiply_all_bfloat16 = _make_multiply_all("bfloat16")
_multiply_all_halves = _make_multiply_all("int16")
_multiply_all_bytes = _make_multiply_all("int8")


@inlined
def _multiply_all_int16(
    params: Words, at: int, scratch: Words, i: int, k: int, o: int, vectors: int, stride: int, count: int
) -> int:
    at = _multiply_all_halves(params, at, scratch, i, k, scratch, o, vectors, stride, count)
    for first in range(0, count * stride, stride):
        scale_halves(params, at, scratch[o + first :], vectors)
    return at + vectors * 16


@inlined
def _multiply_all_int8(
    params: Words,
    at: int,
    scratch: Words,
    i: int,
    k: int,
    o: int,
    vectors: int,
    q: int,
    stride: int,
    count: int,
) -> int:
    for first in range(0, count * stride, stride):  # what a step is worth stands behind the bytes
        step = quantise(scratch[i + first :], k, scratch[q + first :])
        store(scratch, q + first + k // 4, step)
    at = _multiply_all_bytes(params, at, scratch, q, k, scratch, o, vectors, stride, count)
    for first in range(0, count * stride, stride):
        scale_bytes(params, at, scratch[o + first :], vectors, load(scratch, q + first + k // 4))
    return at + vectors * 32


def project_all(
    weights: WeightFormat,
    params: Words,
    at: int,
    scratch: Words,
    i: int,
    k: int,
    o: int,
    vectors: int,
    q: int,
    stride: int,
    count: int,
) -> int:
    """For symbols s below `count`: word o + s * stride on = word i + s * stride on (k,) @ the matrix at `at`.

    `q` is where the bytes of the first symbol's vector have room, k / 4 + 16 words. Answers the word after
    the matrix. In a kernel the type of `weights` picks the code.
    """
    if isinstance(weights, Float32):
        return int(multiply_all_float32(params, at, scratch, i, k, scratch, o, vectors, stride, count))
    if isinstance(weights, BFloat16):
        return int(_multiply_all_bfloat16(params, at, scratch, i, k, scratch, o, vectors, stride, count))
    if isinstance(weights, Int16):
        return _multiply_all_int16(params, at, scratch, i, k, o, vectors, stride, count)
    return _multiply_all_int8(params, at, scratch, i, k, o, vectors, q, stride, count)


@overload(project_all, jit_options=INLINED, strict=False)
def _compiled_project_all(
    weights: Any,
    params: Any,
    at: Any,
    scratch: Any,
    i: Any,
    k: Any,
    o: Any,
    vectors: Any,
    q: Any,
    stride: Any,
    count: Any,
) -> Any:
    kind = weights.instance_class
    if kind is Float32:
        return lambda weights, params, at, scratch, i, k, o, vectors, q, stride, count: multiply_all_float32(
            params, at, scratch, i, k, scratch, o, vectors, stride, count
        )
    if kind is BFloat16:
        return lambda weights, params, at, scratch, i, k, o, vectors, q, stride, count: (
            _multiply_all_bfloat16(params, at, scratch, i, k, scratch, o, vectors, stride, count)
        )
    if kind is Int16:
        return lambda weights, params, at, scratch, i, k, o, vectors, q, stride, count: _multiply_all_int16(
            params, at, scratch, i, k, o, vectors, stride, count
        )
    return lambda weights, params, at, scratch, i, k, o, vectors, q, stride, count: _multiply_all_int8(
        params, at, scratch, i, k, o, vectors, q, stride, count
    )
