"""The decorator of the parts of a fused kernel: compiled into their caller, without reference counting."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])

INLINED: dict[str, Any] = {"forceinline": True, "_nrt": False}


def inlined(function: Function) -> Function:
    """`function` as a part of whatever kernel calls it; itself where `NUMBA_DISABLE_JIT` is set."""
    part: Function = njit(**INLINED)(function)
    return part
