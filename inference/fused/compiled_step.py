"""The step of a whole model as one jitted call, for the sizes of one architecture."""

from collections.abc import Callable
from typing import Any, TypeAlias

from numba.extending import overload

from inference.fused.addresses import Integers
from inference.fused.inlined import INLINED
from inference.fused.lanes import Words
from inference.fused.s6_step import s6_step, s6_step_all
from inference.fused.sizes import KernelSizes, SSDSizes
from inference.fused.ssd_step import ssd_step, ssd_step_all
from lob.kernel import kernel

Step: TypeAlias = Callable[[Words, Words, Words, Words], bool]
"""step(row, params, state, scratch): False, and nothing done, where the row is not (F,)."""


def model_step(row: Words, params: Words, state: Words, scratch: Words, sizes: KernelSizes) -> None:
    """Logits of `row` (F,) into the first words of `scratch`, `state` moved on.

    Any kernel may call it with `sizes` from its closure, a constant then; the type of `sizes` picks the code.
    A kernel that closes over a compiled step instead would be compiled anew in every process: Numba finds no
    function on disk whose closure holds another.
    """
    if isinstance(sizes, SSDSizes):
        ssd_step(row, params, state, scratch, sizes)
    else:
        s6_step(row, params, state, scratch, sizes)


@overload(model_step, jit_options=INLINED, strict=False)
def _compiled_model_step(row: Any, params: Any, state: Any, scratch: Any, sizes: Any) -> Any:
    if sizes.instance_class is SSDSizes:
        return lambda row, params, state, scratch, sizes: ssd_step(row, params, state, scratch, sizes)
    return lambda row, params, state, scratch, sizes: s6_step(row, params, state, scratch, sizes)


def model_step_all(
    rows: Integers,
    states: Integers,
    count: int,
    params: Words,
    scratch: Words,
    stride: int,
    sizes: KernelSizes,
) -> None:
    """As `model_step` for `count` symbols; see `inference.fused.ssd_step.ssd_step_all`."""
    if isinstance(sizes, SSDSizes):
        ssd_step_all(rows, states, count, params, scratch, stride, sizes)
    else:
        s6_step_all(rows, states, count, params, scratch, stride, sizes)


@overload(model_step_all, jit_options=INLINED, strict=False)
def _compiled_model_step_all(
    rows: Any, states: Any, count: Any, params: Any, scratch: Any, stride: Any, sizes: Any
) -> Any:
    if sizes.instance_class is SSDSizes:
        return lambda rows, states, count, params, scratch, stride, sizes: ssd_step_all(
            rows, states, count, params, scratch, stride, sizes
        )
    return lambda rows, states, count, params, scratch, stride, sizes: s6_step_all(
        rows, states, count, params, scratch, stride, sizes
    )


_STEPS: dict[KernelSizes, Step] = {}


def compiled_step(sizes: KernelSizes) -> Step:
    """The step for `sizes`: compiled at its first call, or taken from the disk where that was done before."""
    if sizes not in _STEPS:
        _STEPS[sizes] = _make_step(sizes)
    return _STEPS[sizes]


def compiled_steps() -> list[Step]:
    """The steps that this process has asked for."""
    return list(_STEPS.values())


def _make_step(sizes: KernelSizes) -> Step:
    @kernel
    def step(row: Words, params: Words, state: Words, scratch: Words) -> bool:
        if row.size != sizes.features:
            return False
        model_step(row, params, state, scratch, sizes)
        return True

    return step
