"""A vector times a panel of a matrix: up to 16 x 16 outputs at a time, held in registers across all inputs.

A panel is `width` vectors of 16 outputs; it is stored input by input and read once, front to back:

    float32    [K][width * 16] float32
    bfloat16   [K / 2][width * 16] words: low half row k, high half row k + 1
    int16      [K / 2][width * 16] words: the same halves, signed
    int8       [K / 4][width * 16][4] signed bytes; the inputs are unsigned bytes, packed four in a word

The high half of a word is read with the low half's bits still below it, which saves a mask; packing chooses
it so that the number so read is nearest. Several sums run side by side over parts of the inputs, since one
would wait for itself: a multiply-add takes four cycles and two begin in each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from inference.fused.lanes import (
    BYTE,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    LANES,
    Words,
    call,
    define,
    element,
    spread,
)
from inference.fused.processor import byte_products, wide_registers
from inference.fused.weight_format import Precision, weight_format

WIDTHS = (16, 8, 4, 2, 1)
MOST_SYMBOLS = 4  # of a tile: then the multiply-adds take longer than the loads of weights

Panel = Callable[[Words, int, Words, int, Words, int], None]
"""panel(params, at, x, k, out, o): out[o : o + width * 16] = x[:k] @ the panel at word `at` of params."""

Tile = Callable[[Words, int, Words, int, int, int, Words, int, int], None]
"""tile(params, at, x, i, x_stride, k, out, o, out_stride): some vectors of a panel, the first at word `at`,
for some symbols s: out[o + s * out_stride :][: vectors * 16] = x[i + s * x_stride :][:k] @ them."""


def panel_widths() -> tuple[int, ...]:
    """The widths in use here, widest first: a panel's sums must fit the processor's registers."""
    return WIDTHS if wide_registers() else WIDTHS[2:]


def split_outputs(vectors: int) -> list[int]:
    """The widths of the panels that a matrix of `vectors` x 16 outputs is cut into."""
    widths = []
    for width in panel_widths():
        count, vectors = divmod(vectors, width)
        widths += [width] * count
    return widths


def _number(plain: Callable[[], int]) -> Callable[[], int]:
    """`plain()`, which depends on the processor alone, as a number of the compiled code."""

    def typing(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return context.get_constant(types.intp, plain())

        return types.intp(), generate

    return define(plain, typing)


def _widest_panel() -> int:
    return panel_widths()[0]


widest_panel = _number(_widest_panel)
"""`panel_widths()[0]`, a number of the compiled code."""


def make_panel(precision: Precision, width: int) -> Panel:
    """The panel of `width` vectors in the format called `precision`."""
    return define(_plain_panel(precision, width), _type_panel(precision, width))


@dataclass(frozen=True, kw_only=True)
class TiledPanel:
    """A panel that several symbols' inputs meet at once, and how it is cut into tiles on this processor."""

    tile: Tile
    vectors: Callable[[], int]
    symbols: Callable[[], int]
    """At least 2 where it is worth while; 1 where there are not enough registers."""


def make_tiled_panel(precision: Precision, width: int) -> TiledPanel:
    """The panel of `width` vectors as tiles: each weight is loaded once for all symbols of a tile.

    Every symbol's sums are those that `make_panel` gives it alone, added in the same order.
    """
    return TiledPanel(
        tile=define(_plain_tile(precision, width), _type_tile(precision, width)),
        vectors=_number(lambda: _tile_sizes(precision, width)[0]),
        symbols=_number(lambda: _tile_sizes(precision, width)[1]),
    )


def _tile_sizes(precision: Precision, width: int) -> tuple[int, int]:
    """(vectors, symbols) of a tile: its sums fill the registers."""
    room = _registers() // _parallel_sums(precision, width)
    symbols = min(room, MOST_SYMBOLS)
    return room // symbols, symbols


def _plain_tile(precision: Precision, width: int) -> Tile:
    panel, rows = _plain_panel(precision, width), weight_format(precision).rows

    def tile(
        params: Words, at: int, x: Words, i: int, x_stride: int, k: int, out: Words, o: int, out_stride: int
    ) -> None:
        vectors, symbols = _tile_sizes(precision, width)
        size = k // rows * width * LANES
        words = np.zeros(size, params.dtype)  # behind the tile's own vectors anything may stand, or nothing
        words[: params[at : at + size].size] = params[at : at + size]
        whole = np.empty(width * LANES, out.dtype)
        for s in range(symbols):
            panel(words, 0, x[i + s * x_stride :], k, whole, 0)
            first = o + s * out_stride
            out[first : first + vectors * LANES] = whole[: vectors * LANES]

    tile.__name__ = f"tile_{precision}_{width}"
    return tile


def _plain_panel(precision: Precision, width: int) -> Panel:
    columns, rows = width * LANES, weight_format(precision).rows

    def panel(params: Words, at: int, x: Words, k: int, out: Words, o: int) -> None:
        words = params[at : at + k // rows * columns]
        if precision == "int8":
            quads = words.view(np.int8).reshape(k // 4, columns, 4)
            whole = quads.transpose(0, 2, 1).reshape(k, columns).astype(np.int32)
            bytes_in = x[: k // 4].view(np.uint8).astype(np.int32)
            out[o : o + columns] = (bytes_in @ whole).astype(np.int32).view(np.float32)
            return
        if precision == "float32":
            matrix = words.reshape(k, columns)
        else:
            pairs = words.view(np.uint32).reshape(k // 2, 1, columns)
            halves = np.concatenate([pairs << 16, pairs], axis=1).reshape(k, columns)
            whole = halves.view(np.int32)
            matrix = halves.view(np.float32) if precision == "bfloat16" else whole.astype(np.float32)
        out[o : o + columns] = x[:k] @ matrix

    panel.__name__ = f"panel_{precision}_{width}"
    return panel


def _parallel_sums(precision: Precision, width: int) -> int:
    """Sums side by side for each vector of outputs."""
    return max(1, min(_registers() // width, 4 if precision == "int8" else 8))


def _registers() -> int:
    """Sums of sixteen lanes that are held in registers: half of what there are, the rest is for operands."""
    return 16 if wide_registers() else 4


def _type_panel(precision: Precision, width: int) -> Callable[..., Any]:
    lanes, unit = _result_and_input(precision)

    def typing(typing_context: Any, params: Any, at: Any, x: Any, k: Any, out: Any, o: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = arguments[1].type
            weights = element(context, builder, signature.args[0], arguments[0], arguments[1], INTS)
            inputs = element(context, builder, signature.args[2], arguments[2], kind(0), unit)
            result = element(context, builder, signature.args[4], arguments[4], arguments[5], lanes)
            _add_products(builder, precision, width, width, weights, [inputs], arguments[3], [result])
            return context.get_dummy_value()

        return types.void(params, types.intp, x, types.intp, out, types.intp), generate

    return typing


def _type_tile(precision: Precision, width: int) -> Callable[..., Any]:
    lanes, unit = _result_and_input(precision)

    def typing(
        typing_context: Any,
        params: Any,
        at: Any,
        x: Any,
        i: Any,
        x_stride: Any,
        k: Any,
        out: Any,
        o: Any,
        out_stride: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vectors, symbols = _tile_sizes(precision, width)

            def places(array: int, stride: int, pointee: ir.Type) -> list[Any]:
                """Where each symbol's part of an argument begins."""
                index, found = arguments[array + 1], []
                for _ in range(symbols):
                    found.append(
                        element(context, builder, signature.args[array], arguments[array], index, pointee)
                    )
                    index = builder.add(index, arguments[stride])
                return found

            weights = element(context, builder, signature.args[0], arguments[0], arguments[1], INTS)
            inputs, results = places(2, 4, unit), places(6, 8, lanes)
            _add_products(builder, precision, width, vectors, weights, inputs, arguments[5], results)
            return context.get_dummy_value()

        whole = types.intp
        return types.void(params, whole, x, whole, whole, whole, out, whole, whole), generate

    return typing


def _result_and_input(precision: Precision) -> tuple[ir.Type, ir.Type]:
    """What a panel's sums are, and the unit in which its inputs are read."""
    return (INTS, INT) if precision == "int8" else (FLOATS, FLOAT)


def _add_products(
    builder: Any,
    precision: Precision,
    width: int,
    vectors: int,
    weights: Any,
    inputs: list[Any],
    k: Any,
    results: list[Any],
) -> None:
    """Each symbol's `vectors` sums over its k `inputs`, into its place of `results`.

    `weights` points to the first vector of a panel of `width`; each is loaded once for all symbols.
    """
    kind = k.type
    rows, accumulate = weight_format(precision).rows, _ACCUMULATE[precision]
    lanes, unit = _result_and_input(precision)
    sums = _parallel_sums(precision, width)
    fed = 2 if rows == 2 and sums > 1 else 1  # sums that one group of rows feeds
    groups = sums // fed  # taken together in one turn of the loop
    totals = [
        [[cgutils.alloca_once(builder, lanes) for _ in range(vectors)] for _ in range(sums)] for _ in inputs
    ]
    zero = ir.Constant(lanes, [0 if lanes is INTS else 0.0] * LANES)
    for slot in (slot for symbol in totals for row in symbol for slot in row):
        builder.store(zero, slot)
    count = builder.sdiv(k, kind(rows))
    with cgutils.for_range_slice(builder, kind(0), count, kind(groups), intp=kind) as (first, _):
        for s in range(groups):
            group = builder.add(first, kind(s))
            words_at = builder.gep(weights, [builder.mul(group, kind(width))])
            input_at = builder.mul(group, kind(1 if unit is INT else rows))
            inputs_at = [builder.gep(own, [input_at]) for own in inputs]
            for v in range(vectors):
                words = builder.load(builder.gep(words_at, [INT(v)]), align=4)
                for symbol, symbol_inputs_at in zip(totals, inputs_at, strict=True):
                    slots = [symbol[s * fed + e][v] for e in range(fed)]
                    before = [builder.load(slot) for slot in slots]
                    after = accumulate(builder, words, symbol_inputs_at, before)
                    for value, slot in zip(after, slots, strict=True):
                        builder.store(value, slot)
    plus = builder.add if lanes is INTS else builder.fadd
    for symbol, result in zip(totals, results, strict=True):
        for v in range(vectors):
            parts = [builder.load(row[v]) for row in symbol]
            while len(parts) > 1:
                parts = [plus(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            builder.store(parts[0], builder.gep(result, [INT(v)]), align=4)


def _input(builder: Any, inputs_at: Any, index: int, kind: ir.Type) -> Any:
    return spread(builder, builder.load(builder.gep(inputs_at, [INT(index)]), align=4), kind)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return call(builder, "llvm.fma.v16f32", FLOATS, [a, b, c])


def _add_float32(builder: Any, words: Any, inputs_at: Any, sums: list[Any]) -> list[Any]:
    x = _input(builder, inputs_at, 0, FLOATS)
    return [_multiply_add(builder, x, builder.bitcast(words, FLOATS), sums[0])]


def _add_pairs(widen: Callable[[Any, Any], Any]) -> Callable[..., list[Any]]:
    def accumulate(builder: Any, words: Any, inputs_at: Any, sums: list[Any]) -> list[Any]:
        low = widen(builder, builder.shl(words, ir.Constant(INTS, [16] * LANES)))
        sums = [_multiply_add(builder, _input(builder, inputs_at, 0, FLOATS), low, sums[0]), *sums[1:]]
        high = widen(builder, words)
        sums[-1] = _multiply_add(builder, _input(builder, inputs_at, 1, FLOATS), high, sums[-1])
        return sums

    return accumulate


def _add_bytes(builder: Any, words: Any, inputs_at: Any, sums: list[Any]) -> list[Any]:
    x, total, how = _input(builder, inputs_at, 0, INTS), sums[0], byte_products()
    if how == "vpdpbusd-512":
        operand = ir.VectorType(BYTE, 64)
        operands = [total, builder.bitcast(x, operand), builder.bitcast(words, operand)]
        return [call(builder, "llvm.x86.avx512.vpdpbusd.512", INTS, operands)]
    if how == "vpdpbusd-256":
        return [_add_bytes_in_halves(builder, words, x, total)]
    return [_add_bytes_portably(builder, words, x, total)]


def _add_bytes_in_halves(builder: Any, words: Any, x: Any, total: Any) -> Any:
    operand, half = ir.VectorType(BYTE, 32), ir.VectorType(INT, 8)
    undefined, halves = ir.Constant(INTS, ir.Undefined), []
    for first in (0, 8):
        lanes = ir.Constant(half, list(range(first, first + 8)))
        t, a, b = (builder.shuffle_vector(value, undefined, lanes) for value in (total, x, words))
        operands = [t, builder.bitcast(a, operand), builder.bitcast(b, operand)]
        halves.append(call(builder, "llvm.x86.avx512.vpdpbusd.256", half, operands))
    return builder.shuffle_vector(*halves, ir.Constant(INTS, list(range(LANES))))


def _add_bytes_portably(builder: Any, words: Any, x: Any, total: Any) -> Any:
    """Even and odd bytes as 16-bit numbers, multiplied and added in pairs: LLVM knows that as vpmaddwd."""
    short, wide = ir.VectorType(ir.IntType(16), 2 * LANES), ir.VectorType(INT, 2 * LANES)
    eight, undefined = ir.Constant(short, [8] * 2 * LANES), ir.Constant(wide, ir.Undefined)
    x, words = builder.bitcast(x, short), builder.bitcast(words, short)
    even = (
        builder.and_(x, ir.Constant(short, [255] * 2 * LANES)),
        builder.ashr(builder.shl(words, eight), eight),
    )
    odd = builder.lshr(x, eight), builder.ashr(words, eight)
    for a, b in (even, odd):
        products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
        first, second = (
            builder.shuffle_vector(products, undefined, ir.Constant(INTS, list(range(start, 2 * LANES, 2))))
            for start in (0, 1)
        )
        total = builder.add(total, builder.add(first, second))
    return total


_ACCUMULATE: dict[Precision, Callable[..., list[Any]]] = {
    "float32": _add_float32,
    "bfloat16": _add_pairs(lambda builder, words: builder.bitcast(words, FLOATS)),
    "int16": _add_pairs(lambda builder, words: builder.sitofp(words, FLOATS)),
    "int8": _add_bytes,
}
