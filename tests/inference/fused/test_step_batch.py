"""Several symbols' steps in one call against each symbol's own steps, bit for bit."""

from typing import Any

import numpy as np
import pytest
from numba.core import config

from inference.calibration import Calibration
from inference.fused.loaded_model import LoadedModel, load_model
from inference.fused.model_weights import ModelWeights, pack_weights
from inference.fused.packing import aligned_words
from inference.fused.step_batch import CAPACITY, StepBatch, take_seat
from inference.fused.tick import FINITE, NOT_FINITE
from inference.fused.weight_format import weight_format
from lob.window import RingWindow
from models.configurations import MambaLOBConfig, configuration

ODD = {
    "ssd": MambaLOBConfig(
        block="ssd", size="odd", layers=2, width=24, state_size=5, head_width=16, conv_width=3
    ),
    "s6": MambaLOBConfig(block="s6", size="odd", layers=2, width=20, state_size=5, expand=1, conv_width=2),
}
HORIZONS, CLASSES = 3, 3
TURNS = 3 if config.DISABLE_JIT else 12


def load(weights: ModelWeights, precision: str) -> LoadedModel:
    return load_model(weights.sizes, precision, pack_weights(weights, weight_format(precision)))


class Symbol:
    """One symbol's memory twice: stepped in batches, and by itself."""

    def __init__(self, model: LoadedModel, number: int) -> None:
        self.model = model
        self.random = np.random.default_rng(number)
        self.ring = RingWindow(4, 44)
        self.state, self.scratch = model.new_state(), model.new_scratch()
        self.calibration = Calibration((0.5 + number / 10, 1.0, 1.5), CLASSES)
        self.seat = take_seat(model, self.ring, self.state, self.scratch, self.calibration)
        self.own_state, self.own_scratch = model.new_state(), model.new_scratch()
        self.own_calibration = Calibration((0.5 + number / 10, 1.0, 1.5), CLASSES)

    def new_row(self) -> None:
        self.ring.append(self.random.normal(scale=2.0, size=44).astype(np.float32))

    def step_alone(self) -> int:
        assert self.model.step(self.ring.latest(), self.model.params, self.own_state, self.own_scratch)
        logits = self.own_scratch[: HORIZONS * CLASSES].reshape(HORIZONS, CLASSES)
        return FINITE if self.own_calibration.apply(logits) else NOT_FINITE

    def compare(self) -> None:
        assert self.state.tobytes() == self.own_state.tobytes()
        assert self.scratch[:9].tobytes() == self.own_scratch[:9].tobytes()
        if np.isfinite(self.scratch[:9]).all():
            for mine, own in zip(self.calibration.memory, self.own_calibration.memory, strict=True):
                assert mine.tobytes() == own.tobytes()


def run_turns(model: LoadedModel, symbols: list[Symbol]) -> None:
    """Batches of every size in turn, each of other symbols."""
    batch = StepBatch(model, horizons=HORIZONS, classes=CLASSES)
    random = np.random.default_rng(1)
    for turn in range(TURNS):
        due = random.permutation(len(symbols))[: turn % CAPACITY + 1]
        for number in due:
            symbols[number].new_row()
            batch.put(symbols[number].seat, symbols[number].ring.position)
        assert batch.step() == [symbols[number].step_alone() for number in due]
        for symbol in symbols:
            symbol.compare()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int16", "int8"])
@pytest.mark.parametrize("name", ODD)
def test_the_bits_are_those_of_single_steps(exported_model: Any, name: str, precision: str) -> None:
    model = load(exported_model(ODD[name])[0], precision)
    run_turns(model, [Symbol(model, number) for number in range(CAPACITY + 3)])


@pytest.mark.slow  # it compiles the largest of the kernels
@pytest.mark.parametrize("size", ["nano", "small", "base"])
@pytest.mark.parametrize("block", ["ssd", "s6"])
def test_the_bits_are_those_of_single_steps_at_every_size(exported_model: Any, block: Any, size: Any) -> None:
    model = load(exported_model(configuration(block=block, size=size))[0], "float32")
    run_turns(model, [Symbol(model, number) for number in range(CAPACITY + 3)])


def test_one_symbols_nan_is_not_in_the_others_answers(exported_model: Any) -> None:
    model = load(exported_model(ODD["ssd"])[0], "float32")
    symbols = [Symbol(model, number) for number in range(CAPACITY)]
    batch = StepBatch(model, horizons=HORIZONS, classes=CLASSES)
    for turn in range(3):
        for number, symbol in enumerate(symbols):
            symbol.new_row()
            if (turn, number) == (0, 2):
                symbol.ring.latest()[7] = np.nan
            batch.put(symbol.seat, symbol.ring.position)
        outcomes = batch.step()
        assert outcomes == [symbol.step_alone() for symbol in symbols]
        assert outcomes == [NOT_FINITE if number == 2 else FINITE for number in range(CAPACITY)]
        for symbol in symbols:
            symbol.compare()


def test_nothing_is_written_beyond_a_symbols_own_memory(exported_model: Any) -> None:
    """State and scratch lie inside larger arrays full of NaN: one read gives NaN, one written is seen."""
    model = load(exported_model(ODD["ssd"])[0], "float32")
    symbols = []
    rooms = []
    for number in range(CAPACITY):
        symbol = Symbol(model, number)
        inside = []
        for words in (symbol.state.size, symbol.scratch.size):
            room = np.full(words + 256, np.nan, np.float32)
            room[128:-128] = 0
            rooms.append(room)
            inside.append(room[128:-128])
        symbol.state, symbol.scratch = inside
        symbol.seat = take_seat(model, symbol.ring, symbol.state, symbol.scratch, symbol.calibration)
        symbols.append(symbol)
    run_turns(model, symbols)
    for room in rooms:
        assert np.isnan(room[:128]).all()
        assert np.isnan(room[-128:]).all()


def test_a_seat_of_another_model_is_not_taken(exported_model: Any) -> None:
    weights = exported_model(ODD["ssd"])[0]
    model, other = load(weights, "float32"), load(weights, "float32")
    batch = StepBatch(model, horizons=HORIZONS, classes=CLASSES)
    with pytest.raises(AssertionError, match="a batch steps one model"):
        batch.put(Symbol(other, 1).seat, 0)


def test_an_address_stands_for_writable_contiguous_memory(exported_model: Any) -> None:
    model = load(exported_model(ODD["ssd"])[0], "float32")
    symbol = Symbol(model, 1)
    frozen = aligned_words(8)
    frozen.setflags(write=False)
    for spoilt in (frozen, aligned_words(8)[::2]):
        with pytest.raises(AssertionError, match="an address stands for"):
            take_seat(model, symbol.ring, spoilt, symbol.scratch, symbol.calibration)
