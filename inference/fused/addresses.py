"""Arrays that a kernel finds by their addresses: the memory of as many symbols as there happen to be.

An address is a plain int64 that Python notes once for each array (`address_of`) and hands over in a table. A
kernel that took the arrays themselves would have one argument for each, and be compiled for one number of
them. Whoever notes an address keeps the array alive.
"""

import ctypes
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import types
from numba.np.arrayobj import make_array, populate_array

from inference.fused.lanes import define

Integers: TypeAlias = npt.NDArray[np.int64]


def address_of(array: npt.NDArray[Any]) -> int:
    """Where a C-contiguous, writable array begins."""
    assert array.flags.c_contiguous, "an address stands for contiguous memory"
    assert array.flags.writeable, "an address stands for memory that may be written"
    return int(array.ctypes.data)


def _view(ctype: Any) -> Callable[..., Any]:
    def view(address: int, *shape: int) -> npt.NDArray[Any]:
        count = int(np.prod(shape))
        return np.ctypeslib.as_array((ctype * count).from_address(int(address))).reshape(shape)

    return view


def _type_view(element: types.Type, dimensions: int) -> Callable[..., Any]:
    array = types.Array(element, dimensions, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = make_array(array)(context, builder)
        size = context.get_constant(types.intp, element.bitwidth // 8)
        strides = [size]
        for length in reversed(arguments[2:]):
            strides.insert(0, builder.mul(strides[0], length))
        populate_array(
            made,
            data=builder.inttoptr(arguments[0], context.get_value_type(element).as_pointer()),
            shape=list(arguments[1:]),
            strides=strides,
            itemsize=size,
            meminfo=None,
        )
        return made._getvalue()

    if dimensions == 1:
        return lambda typing_context, address, count: (array(types.int64, types.intp), generate)
    return lambda typing_context, address, rows, columns: (
        array(types.int64, types.intp, types.intp),
        generate,
    )


words_at = define(_view(ctypes.c_float), _type_view(types.float32, 1))
"""words_at(address, count): the float32 words there, (count,)."""

doubles_at = define(_view(ctypes.c_double), _type_view(types.float64, 2))
"""doubles_at(address, rows, columns): the float64 numbers there, (rows, columns)."""

integers_at = define(_view(ctypes.c_int64), _type_view(types.int64, 1))
"""integers_at(address, count): the int64 numbers there, (count,)."""
