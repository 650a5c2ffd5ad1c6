"""The processor's own count of cycles, read inside a jitted kernel."""

import time
from typing import Any

from llvmlite import ir
from numba import types

from inference.fused.lanes import call, define


def _type_cycle_count(typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.readcyclecounter", ir.IntType(64), [])

    return types.int64(), generate


cycle_count = define(time.monotonic_ns, _type_cycle_count)
"""Rises at a steady rate; only differences mean something. x86-64: `rdtsc`."""
