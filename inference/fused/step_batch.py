"""The steps of several symbols of one model as one jitted call: each weight is read once for all of them.

What one symbol gets is what its own step gives it, bit for bit. A call takes each symbol's row where it lies
in its ring, moves its state, and leaves logits and calibrated probabilities where the symbol's own step and
calibration would have left them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from inference.calibration import Calibration, temperature_softmax
from inference.fused.addresses import Integers, address_of, doubles_at, integers_at, words_at
from inference.fused.compiled_step import model_step_all
from inference.fused.lanes import Words
from inference.fused.loaded_model import LoadedModel
from inference.fused.packing import aligned_words
from inference.fused.sizes import KernelSizes
from inference.fused.tick import FINITE, NOT_FINITE
from lob.kernel import kernel
from lob.window import RingWindow

CAPACITY = 8
"""Symbols of one call. Sixteen were measured to shorten a step of base by another twentieth only."""

_ROW, _STATE, _LOGITS, _TEMPERATURES, _PROBABILITIES, _BEST = range(6)
_SEATED = Struct("6q")

AllSteps: TypeAlias = Callable[..., None]

_STEPS: dict[KernelSizes, AllSteps] = {}


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Where one symbol's memory lies; `keeps` is what the addresses point to.

    `row`: the address of the ring's first row, `others`: of state, logits, temperatures, probabilities and
    best classes.
    """

    model: LoadedModel
    row: int
    row_bytes: int
    others: tuple[int, int, int, int, int]
    keeps: tuple[npt.NDArray[Any], ...]


def take_seat(
    model: LoadedModel, ring: RingWindow, state: Words, scratch: Words, calibration: Calibration
) -> Seat:
    """The seat of a symbol whose rows stand in `ring`, and whose step and calibration use this memory."""
    temperatures, probabilities, best = map(address_of, calibration.memory)
    return Seat(
        model=model,
        row=address_of(ring.storage),
        row_bytes=ring.storage.strides[0],
        others=(address_of(state), address_of(scratch), temperatures, probabilities, best),
        keeps=(ring.storage, state, scratch, *calibration.memory),
    )


class StepBatch:
    """Up to CAPACITY symbols' steps at a time, with one scratch for all. Not for two threads at once."""

    def __init__(self, model: LoadedModel, *, horizons: int, classes: int) -> None:
        """Compile the call for the sizes of `model`, or take it from the disk."""
        stride = model.sizes.offsets.words
        table = np.zeros((CAPACITY, _BEST + 1), np.int64)
        self.model = model
        self._outcomes = np.zeros(CAPACITY, np.int64)
        self._count = 0
        self._kernel = compiled_steps_of_all(model.sizes)
        self._arguments = (
            table,
            model.params,
            aligned_words(CAPACITY * stride),
            stride,
            horizons,
            classes,
            self._outcomes,
        )
        self._table = table.data.cast("B")  # the same memory
        self._kernel(0, *self._arguments)

    def put(self, seat: Seat, slot: int) -> None:
        """Have the row at `slot` of the symbol's ring stepped with the next call.

        Each symbol once, CAPACITY at most, and all of the batch's own model.
        """
        assert seat.model is self.model, "a batch steps one model"
        count = self._count
        _SEATED.pack_into(self._table, count * _SEATED.size, seat.row + slot * seat.row_bytes, *seat.others)
        self._count = count + 1

    def step(self) -> list[int]:
        """Take the steps of all that were put; each one's outcome as in `inference.fused.tick`, in order."""
        count, self._count = self._count, 0
        self._kernel(count, *self._arguments)
        outcomes: list[int] = self._outcomes[:count].tolist()
        return outcomes


def compiled_steps_of_all(sizes: KernelSizes) -> AllSteps:
    """The call for `sizes`: compiled at its first call, or taken from the disk where that was done before."""
    if sizes not in _STEPS:
        _STEPS[sizes] = _make_steps(sizes)
    return _STEPS[sizes]


def is_compiled(sizes: KernelSizes) -> bool:
    """Whether the call for `sizes` is there in this process, so that another batch of it is made at once."""
    return sizes in _STEPS


def _make_steps(sizes: KernelSizes) -> AllSteps:
    @kernel
    def steps_of_all(
        count: int,
        table: Integers,
        params: Words,
        scratch: Words,
        stride: int,
        horizons: int,
        classes: int,
        outcomes: Integers,
    ) -> None:
        model_step_all(table[:, _ROW], table[:, _STATE], count, params, scratch, stride, sizes)
        for s in range(count):
            logits = scratch[s * stride : s * stride + horizons * classes]
            own_logits = words_at(table[s, _LOGITS], logits.size)
            for i in range(logits.size):
                own_logits[i] = logits[i]
            finite = temperature_softmax(
                logits.reshape(horizons, classes),
                doubles_at(table[s, _TEMPERATURES], 1, horizons)[0],
                doubles_at(table[s, _PROBABILITIES], horizons, classes),
                integers_at(table[s, _BEST], horizons),
            )
            outcomes[s] = FINITE if finite else NOT_FINITE

    return steps_of_all
