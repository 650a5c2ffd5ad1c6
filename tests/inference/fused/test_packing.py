"""Packed matrices read back: what a kernel multiplies by is what was packed, to the format's rounding."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inference.fused.packing import aligned_words, pack_matrix, stands_for, unpack_matrix
from inference.fused.panels import panel_widths, split_outputs
from inference.fused.weight_format import PRECISIONS, matrix_words, weight_format

FLOATS = st.floats(-100, 100, width=32)
MATRICES = st.tuples(st.integers(1, 3), st.integers(1, 7)).flatmap(
    lambda blocks: hnp.arrays(np.float64, (16 * blocks[0], 16 * blocks[1]), elements=FLOATS, fill=FLOATS)
)


def bound(precision: str, matrix: Any) -> Any:
    """How far a weight may be from what it was."""
    peak = np.abs(matrix).max(axis=0)
    if precision == "float32":
        return np.zeros(matrix.shape)
    if (
        precision == "bfloat16"
    ):  # 8 bits of fraction, the hidden one in them: half a step is 2**-9 of the power
        return np.maximum(np.abs(matrix) * 2.0**-8, 2.0**-133)
    largest = 32_766 if precision == "int16" else 127
    return np.broadcast_to(peak / largest * 0.5 * (1 + 1e-4) + peak * 2.0**-23 + 1e-30, matrix.shape)


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=60, deadline=None)
@given(matrix=MATRICES)
def test_what_is_read_is_what_was_packed(precision: str, matrix: Any) -> None:
    weights = weight_format(precision)
    inputs, outputs = matrix.shape
    words = pack_matrix(weights, matrix)
    assert words.dtype == np.float32
    assert words.size == matrix_words(weights, inputs, outputs)
    came = unpack_matrix(weights, words, inputs, outputs)
    assert (np.abs(came - matrix) <= bound(precision, matrix)).all()
    again = pack_matrix(weights, came)
    assert np.abs(unpack_matrix(weights, again, inputs, outputs) - came).max() <= bound(precision, came).max()


def test_formats_differ_in_size_as_stated() -> None:
    words = {precision: matrix_words(weight_format(precision), 128, 256) for precision in PRECISIONS}
    assert words == {
        "float32": 128 * 256,
        "bfloat16": 64 * 256,
        "int16": 64 * 256 + 256,
        "int8": 32 * 256 + 512,
    }


def test_the_column_sums_take_the_zero_point_off() -> None:
    matrix = np.random.default_rng(0).normal(size=(32, 48))
    weights = weight_format("int8")
    words = pack_matrix(weights, matrix)
    scale, sums = words[-96:-48], words[-48:].view(np.int32)
    whole = np.rint(unpack_matrix(weights, words, 32, 48) / scale).astype(np.int64)
    assert np.abs(whole).max() == 127
    assert (sums == 128 * whole.sum(axis=0)).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_wrong_bit_does_not_stand_for_the_matrix(precision: str) -> None:
    matrix = np.random.default_rng(0).normal(size=(16, 16))
    weights = weight_format(precision)
    words = pack_matrix(weights, matrix)
    assert stands_for(weights, words, matrix)
    unseen = []
    for word in range(0, words.size, 5):
        for bit in range(32):
            words.view(np.uint32)[word] ^= np.uint32(1 << bit)
            with np.errstate(invalid="ignore"):  # what is read may be no number
                if stands_for(weights, words, matrix):
                    unseen.append((word, bit))
            words.view(np.uint32)[word] ^= np.uint32(1 << bit)
    assert not unseen


@given(vectors=st.integers(0, 300))
def test_panels_cover_the_outputs_widest_first(vectors: int) -> None:
    widths = split_outputs(vectors)
    assert sum(widths) == vectors
    assert widths == sorted(widths, reverse=True)
    assert set(widths) <= set(panel_widths())


def test_words_begin_on_a_page() -> None:
    for count in (1, 17, 5000):
        words = aligned_words(count)
        assert (words.size, words.dtype, words.ctypes.data % 4096) == (count, np.dtype(np.float32), 0)
        assert not words.any()
