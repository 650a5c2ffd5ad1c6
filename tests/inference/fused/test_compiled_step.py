"""The fused step against its plain twin: both blocks, all sizes, odd sizes, every weight format."""

from typing import Any

import numpy as np
import pytest
from numba.core import config

from inference.fused.compiled_step import compiled_step
from inference.fused.model_weights import ModelWeights, pack_weights
from inference.fused.packing import aligned_words
from inference.fused.sizes import kernel_sizes
from inference.fused.weight_format import weight_format
from models.configurations import MambaLOBConfig, configuration

LARGEST_ERROR = {"float32": 4e-6, "bfloat16": 2e-2, "int16": 2e-4, "int8": 1e-1}
"""On logits to about 5, with these random weights."""

FEW = 5 if config.DISABLE_JIT else 40

ODD = {
    "ssd": MambaLOBConfig(
        block="ssd", size="odd", layers=2, width=24, state_size=5, head_width=16, conv_width=3
    ),
    "s6": MambaLOBConfig(block="s6", size="odd", layers=2, width=20, state_size=5, expand=1, conv_width=2),
    "many horizons": MambaLOBConfig(
        block="ssd", size="odd", layers=1, width=16, state_size=16, horizons=(1, 2, 3, 5, 8, 13)
    ),
    "three heads": MambaLOBConfig(
        block="ssd", size="odd", layers=1, width=48, state_size=20, expand=1, head_width=16, clip=2.5
    ),
}


def largest_error(model: ModelWeights, precision: str, step: Any, rows: Any) -> float:
    weights = weight_format(precision)
    sizes = kernel_sizes(model.sizes, weights)
    params = pack_weights(model, weights)
    state = aligned_words(sizes.layers * sizes.layer_state_words)
    scratch = aligned_words(sizes.offsets.words)
    compiled, worst = compiled_step(sizes), 0.0
    for row in rows:
        assert compiled(row, params, state, scratch)
        worst = max(worst, float(np.abs(scratch[: model.sizes.outputs] - step(row)).max()))
    return worst


@pytest.fixture(scope="module")
def rows() -> Any:
    return np.random.default_rng(5).normal(scale=3.0, size=(FEW, 44)).astype(np.float32)


@pytest.mark.parametrize("precision", LARGEST_ERROR)
@pytest.mark.parametrize("size", ["nano", "small"])
@pytest.mark.parametrize("block", ["ssd", "s6"])
def test_equals_the_plain_step(
    exported_model: Any, plain_stepper: Any, rows: Any, block: Any, size: Any, precision: str
) -> None:
    model, _ = exported_model(configuration(block=block, size=size))
    worst = largest_error(model, precision, plain_stepper(model), rows)
    assert 0 < worst < LARGEST_ERROR[precision]


@pytest.mark.skipif(config.DISABLE_JIT, reason="minutes: NUMBA_DISABLE_JIT is set")
def test_the_reference_architecture(exported_model: Any, plain_stepper: Any, rows: Any) -> None:
    model, _ = exported_model(configuration(block="ssd", size="base"))
    for precision in ("float32", "int8"):
        assert 0 < largest_error(model, precision, plain_stepper(model), rows) < LARGEST_ERROR[precision]


@pytest.mark.parametrize("name", ODD)
def test_sizes_that_fill_no_vector(exported_model: Any, plain_stepper: Any, rows: Any, name: str) -> None:
    model, _ = exported_model(ODD[name])
    for precision, largest in LARGEST_ERROR.items():
        assert 0 < largest_error(model, precision, plain_stepper(model), rows) < largest


def test_steps_of_formats_that_look_alike_are_not_mixed_up(exported_model: Any) -> None:
    """Sizes are tuples: two formats with the same numbers would be one key."""
    model, _ = exported_model(configuration(block="ssd", size="nano"))
    sizes = {kernel_sizes(model.sizes, weight_format(precision)) for precision in LARGEST_ERROR}
    assert len(sizes) == len(LARGEST_ERROR)


def test_a_row_of_another_length_moves_nothing(exported_model: Any, rows: Any) -> None:
    model, _ = exported_model(configuration(block="ssd", size="nano"))
    sizes = kernel_sizes(model.sizes, weight_format("float32"))
    state = aligned_words(sizes.layers * sizes.layer_state_words)
    scratch = aligned_words(sizes.offsets.words)
    params = pack_weights(model, weight_format("float32"))
    assert not compiled_step(sizes)(rows[0, :43].copy(), params, state, scratch)
    assert not state.any()
    assert not scratch.any()


def test_nothing_is_written_or_read_beyond_the_arrays(exported_model: Any, rows: Any) -> None:
    """The arrays lie inside larger ones full of NaN: one read gives NaN, one written is seen."""
    model, _ = exported_model(ODD["ssd"])
    for precision in LARGEST_ERROR:
        weights = weight_format(precision)
        sizes = kernel_sizes(model.sizes, weights)
        parts = [
            rows[0],
            pack_weights(model, weights),
            aligned_words(sizes.layers * sizes.layer_state_words),
            aligned_words(sizes.offsets.words),
        ]
        rooms = [np.full(part.size + 256, np.nan, np.float32) for part in parts]
        inside: list[Any] = [room[128:-128] for room in rooms]
        for view, part in zip(inside, parts, strict=True):
            view[:] = part
        for _ in range(3):
            assert compiled_step(sizes)(*inside)
        assert np.isfinite(inside[3][: model.sizes.outputs]).all()
        for room in rooms:
            assert np.isnan(room[:128]).all()
            assert np.isnan(room[-128:]).all()
