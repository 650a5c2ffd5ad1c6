"""A whole tick as one jitted call: a change of the book, its row, the model's step, calibrated probabilities.

These kernels are sequels of a `lob.rows.RowPath`: each calls the path's own kernel, then goes on with the row
it made. Both are compiled for the sizes of one architecture, and hold nothing else of a model.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from inference.calibration import temperature_softmax
from inference.fused.compiled_step import model_step
from inference.fused.lanes import Words
from inference.fused.sizes import KernelSizes
from lob.book import Floats, Integers
from lob.features import BID_TICKS
from lob.kernel import kernel
from lob.row_kernels import OUTCOME_SHIFT, scan_and_sample, update_and_sample
from lob.row_status import RowStatus

FINITE, NOT_FINITE = 1, 2
"""Outcomes: the row's probabilities are there; a logit is not finite, and there are none."""

Tick: TypeAlias = Callable[..., int]
"""A kernel for `lob.row_kernels.RowSequel`; its own arguments are the step's memory and a calibration's."""

_ROW = RowStatus.ROW.value

_TICKS: dict[tuple[KernelSizes, bool], Tick] = {}


def compiled_tick(sizes: KernelSizes, *, scans: bool) -> Tick:
    """The tick for `sizes`, from a frame's bytes where it `scans`, else from a decoded change.

    Compiled at its first call, or taken from the disk where that was done before.
    """
    if (sizes, scans) not in _TICKS:
        _TICKS[sizes, scans] = _scanning_tick(sizes) if scans else _updating_tick(sizes)
    return _TICKS[sizes, scans]


def compiled_ticks() -> list[Tick]:
    """The ticks that this process has asked for."""
    return list(_TICKS.values())


def _scanning_tick(sizes: KernelSizes) -> Tick:
    @kernel
    def scanning_tick(
        header: Integers,
        keys: Integers,
        book_sizes: Floats,
        top: Floats,
        storage: npt.NDArray[np.float32],
        stream: Integers,
        params: Words,
        state: Words,
        scratch: Words,
        temperatures: Floats,
        probabilities: Floats,
        best: Integers,
        slot: int,
        frame: bytes,
    ) -> int:
        is_first = np.isnan(top[BID_TICKS, 0])
        code = scan_and_sample(header, keys, book_sizes, top, storage, stream, slot, frame)
        if code != _ROW or is_first:
            return code
        model_step(storage[slot], params, state, scratch, sizes)
        return _outcome(scratch, temperatures, probabilities, best)

    return scanning_tick


def _updating_tick(sizes: KernelSizes) -> Tick:
    @kernel
    def updating_tick(
        header: Integers,
        keys: Integers,
        book_sizes: Floats,
        top: Floats,
        storage: npt.NDArray[np.float32],
        stream: Integers,
        params: Words,
        state: Words,
        scratch: Words,
        temperatures: Floats,
        probabilities: Floats,
        best: Integers,
        slot: int,
        first_update_id: int,
        update_id: int,
        previous_update_id: int,
        bids: bytes,
        asks: bytes,
    ) -> int:
        is_first = np.isnan(top[BID_TICKS, 0])
        code = update_and_sample(
            header,
            keys,
            book_sizes,
            top,
            storage,
            stream,
            slot,
            first_update_id,
            update_id,
            previous_update_id,
            bids,
            asks,
        )
        if code != _ROW or is_first:
            return code
        model_step(storage[slot], params, state, scratch, sizes)
        return _outcome(scratch, temperatures, probabilities, best)

    return updating_tick


@kernel
def _outcome(scratch: Words, temperatures: Floats, probabilities: Floats, best: Integers) -> int:
    """Calibrate the logits, the first words of `scratch`; ROW with the outcome above it."""
    logits = scratch[: probabilities.size].reshape(probabilities.shape)  # (H, C)
    finite = temperature_softmax(logits, temperatures, probabilities, best)
    return _ROW | (FINITE if finite else NOT_FINITE) << OUTCOME_SHIFT
