"""Sixteen float32 or int32 lanes as one value inside a jitted kernel.

Each operation is one LLVM instruction on `<16 x float>` or `<16 x i32>`: one AVX-512 register, two of AVX2,
four of NEON. The backend splits it, nothing is left to an auto-vectoriser, and no flag lets the compiler
reorder additions. Indices are those of a flat C-contiguous array and are not checked. Where
`NUMBA_DISABLE_JIT` is set the same names are plain numpy functions.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16

Lanes: TypeAlias = npt.NDArray[Any]
"""What a kernel's source handles as lanes: (16,) float32 or int32 where it runs without the jit."""

Words: TypeAlias = npt.NDArray[Any]
"""A flat array of 32-bit words."""

FLOAT = ir.FloatType()
INT = ir.IntType(32)
BYTE = ir.IntType(8)
FLOATS = ir.VectorType(FLOAT, LANES)
INTS = ir.VectorType(INT, LANES)

Function = TypeVar("Function", bound=Callable[..., Any])


class LanesType(types.Type):  # type: ignore[misc]  # Numba comes without type annotations
    """Sixteen lanes of one LLVM type, as Numba sees them."""

    def __init__(self, name: str, vector: ir.Type) -> None:
        self.vector = vector
        super().__init__(name=name)


float_lanes = LanesType("float_lanes", FLOATS)
int_lanes = LanesType("int_lanes", INTS)


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]  # Numba comes without type annotations
    def __init__(self, manager: Any, lanes_type: LanesType) -> None:
        super().__init__(manager, lanes_type, lanes_type.vector)


def define(plain: Function, typing: Callable[..., Any]) -> Function:
    """The intrinsic that `typing` gives; without the jit `plain`, whose name it has, stands in its place."""
    if config.DISABLE_JIT:
        return plain
    typing.__name__ = plain.__name__
    made: Function = intrinsic(typing)
    return made


def element(context: Any, builder: Any, array_type: Any, array: Any, index: Any, kind: ir.Type) -> Any:
    """The address of element `index` of a flat array, as a pointer to `kind`."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def call(builder: Any, name: str, result: ir.Type, arguments: list[Any]) -> Any:
    """A call of the LLVM intrinsic called `name`."""
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def spread(builder: Any, scalar: Any, vector: ir.Type) -> Any:
    """`scalar` in every lane of `vector`."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(INT, 0))
    everywhere = ir.Constant(ir.VectorType(INT, LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), everywhere)


# Memory


def _load(array: Words, index: int) -> Lanes:
    return array[index : index + LANES].view(np.float32).copy()


def _type_load(typing_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = element(context, builder, signature.args[0], arguments[0], arguments[1], FLOATS)
        return builder.load(address, align=4)

    return float_lanes(array, types.intp), generate


load = define(_load, _type_load)


def _load_ints(array: Words, index: int) -> Lanes:
    return array[index : index + LANES].view(np.int32).copy()


def _type_load_ints(typing_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = element(context, builder, signature.args[0], arguments[0], arguments[1], INTS)
        return builder.load(address, align=4)

    return int_lanes(array, types.intp), generate


load_ints = define(_load_ints, _type_load_ints)


def _store(array: Words, index: int, value: Lanes) -> None:
    array[index : index + LANES] = value.view(array.dtype)


def _type_store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[2].vector
        address = element(context, builder, signature.args[0], arguments[0], arguments[1], kind)
        builder.store(arguments[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


store = define(_store, _type_store)


def _store_bytes(array: Words, index: int, value: Lanes) -> None:
    array[index : index + LANES // 4] = value.astype(np.uint8).view(array.dtype)


def _type_store_bytes(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    vector = ir.VectorType(BYTE, LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = element(context, builder, signature.args[0], arguments[0], arguments[1], vector)
        builder.store(builder.trunc(arguments[2], vector), address, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, int_lanes), generate


store_bytes = define(_store_bytes, _type_store_bytes)
"""The low byte of each int32 lane into four words of an array."""


def _splat_at(array: Words, index: int) -> Lanes:
    return np.full(LANES, array[index], np.float32)


def _type_splat_at(typing_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = element(context, builder, signature.args[0], arguments[0], arguments[1], FLOAT)
        return spread(builder, builder.load(address, align=4), FLOATS)

    return float_lanes(array, types.intp), generate


splat_at = define(_splat_at, _type_splat_at)
"""One number of an array in every lane."""


def _splat(scalar: np.float32) -> Lanes:
    return np.full(LANES, scalar, np.float32)


def _type_splat(typing_context: Any, scalar: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, arguments[0], FLOATS)

    return float_lanes(types.float32), generate


splat = define(_splat, _type_splat)


def _splat_int(scalar: np.int32) -> Lanes:
    return np.full(LANES, scalar, np.int32)


def _type_splat_int(typing_context: Any, scalar: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, arguments[0], INTS)

    return int_lanes(types.int32), generate


splat_int = define(_splat_int, _type_splat_int)


# Arithmetic, lane by lane


def _binary(plain: Callable[[Lanes, Lanes], Lanes], instruction: Any) -> Callable[[Lanes, Lanes], Lanes]:
    def typing(typing_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return instruction(builder, *arguments)

        return a(a, a), generate

    return define(plain, typing)


add = _binary(lambda a, b: a + b, lambda builder, a, b: builder.fadd(a, b))
sub = _binary(lambda a, b: a - b, lambda builder, a, b: builder.fsub(a, b))
mul = _binary(lambda a, b: a * b, lambda builder, a, b: builder.fmul(a, b))
div = _binary(lambda a, b: a / b, lambda builder, a, b: builder.fdiv(a, b))
# Not a number in either gives not a number: what the caller must notice is not lost on the way.
maximum = _binary(np.maximum, lambda builder, a, b: call(builder, "llvm.maximum.v16f32", FLOATS, [a, b]))
minimum = _binary(np.minimum, lambda builder, a, b: call(builder, "llvm.minimum.v16f32", FLOATS, [a, b]))
add_ints = _binary(lambda a, b: a + b, lambda builder, a, b: builder.add(a, b))
sub_ints = _binary(lambda a, b: a - b, lambda builder, a, b: builder.sub(a, b))
shift_left = _binary(lambda a, b: a << b, lambda builder, a, b: builder.shl(a, b))


def _fma(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    product: Lanes = (a.astype(np.float64) * b + c).astype(np.float32)
    return product


def _type_fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.fma.v16f32", FLOATS, list(arguments))

    return float_lanes(float_lanes, float_lanes, float_lanes), generate


fma = define(_fma, _type_fma)
"""a * b + c, rounded once."""


def _unary(plain: Callable[[Lanes], Any], instruction: Any, result: Any) -> Callable[[Lanes], Any]:
    def typing(typing_context: Any, a: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return instruction(builder, arguments[0])

        return result(a), generate

    return define(plain, typing)


sqrt = _unary(np.sqrt, lambda builder, a: call(builder, "llvm.sqrt.v16f32", FLOATS, [a]), float_lanes)
absolute = _unary(np.abs, lambda builder, a: call(builder, "llvm.fabs.v16f32", FLOATS, [a]), float_lanes)
to_floats = _unary(lambda a: a.astype(np.float32), lambda builder, a: builder.sitofp(a, FLOATS), float_lanes)
bits_of = _unary(lambda a: a.view(np.int32), lambda builder, a: builder.bitcast(a, INTS), int_lanes)
from_bits = _unary(lambda a: a.view(np.float32), lambda builder, a: builder.bitcast(a, FLOATS), float_lanes)


# All lanes to one number, the halves against each other, so that the order of additions is fixed


def _folded(builder: Any, value: Any, combine: Any) -> Any:
    width = LANES
    while width > 1:
        width //= 2
        undefined = ir.Constant(value.type, ir.Undefined)
        kind = ir.VectorType(INT, width)
        low = builder.shuffle_vector(value, undefined, ir.Constant(kind, list(range(width))))
        high = builder.shuffle_vector(value, undefined, ir.Constant(kind, list(range(width, 2 * width))))
        value = combine(builder, low, high)
    return builder.extract_element(value, ir.Constant(INT, 0))


def _plain_fold(combine: Callable[[Lanes, Lanes], Lanes]) -> Callable[[Lanes], Any]:
    def fold(value: Lanes) -> Any:
        while value.size > 1:
            value = combine(value[: value.size // 2], value[value.size // 2 :])
        return value[0]

    return fold


def _maximum_of_halves(builder: Any, low: Any, high: Any) -> Any:
    return call(builder, f"llvm.maximum.v{low.type.count}f32", low.type, [low, high])


sum_lanes = _unary(
    _plain_fold(np.add),
    lambda builder, a: _folded(builder, a, lambda inner, low, high: inner.fadd(low, high)),
    types.float32,
)
largest_lane = _unary(
    _plain_fold(np.maximum), lambda builder, a: _folded(builder, a, _maximum_of_halves), types.float32
)
