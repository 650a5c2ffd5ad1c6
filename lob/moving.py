"""Moving a run of an array's elements within it: memmove in compiled code, a slice without the compiler."""

from typing import Any

import numpy.typing as npt
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numba.np import arrayobj


def move(array: npt.NDArray[Any], to: int, start: int, count: int) -> None:
    """array[to : to + count] = array[start : start + count], right where the two overlap.

    `array` is flat and contiguous; no bound is checked.
    """
    array[to : to + count] = array[start : start + count].copy()


def _type_memmove(typing_context: Any, array: Any, to: Any, start: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type = signature.args[0]
        data = arrayobj.make_array(array_type)(context, builder, arguments[0]).data
        item_bytes = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
        to, start = (builder.gep(data, [index]) for index in arguments[1:3])
        cgutils.raw_memmove(builder, to, start, arguments[3], item_bytes)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp), generate


_memmove = intrinsic(_type_memmove)


@overload(move, strict=False)
def _compiled_move(array: Any, to: Any, start: Any, count: Any) -> Any:
    return lambda array, to, start, count: _memmove(array, to, start, count)
