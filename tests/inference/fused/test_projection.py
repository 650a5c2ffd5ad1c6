"""A vector times a packed matrix against numpy on the matrix that was packed, in every format."""

from typing import Any

import numpy as np
import pytest

from inference.fused.lanes import Words, load, store
from inference.fused.packing import aligned_words, pack_matrix, unpack_matrix
from inference.fused.projection import project, quantise
from inference.fused.weight_format import PRECISIONS, weight_format
from lob.kernel import kernel

INPUTS, VECTORS = 48, 31  # every panel width once
OUTPUTS = VECTORS * 16


@pytest.fixture(scope="module")
def matrix() -> Any:
    return np.random.default_rng(1).normal(size=(INPUTS, OUTPUTS)) * np.linspace(0.1, 3.0, OUTPUTS)


@pytest.fixture(scope="module")
def x() -> Any:
    vector = aligned_words(INPUTS)
    vector[:] = np.random.default_rng(2).normal(size=INPUTS)
    return vector


@pytest.mark.parametrize("precision", PRECISIONS)
def test_equals_numpy_on_the_packed_matrix(matrix: Any, x: Any, precision: str) -> None:
    weights = weight_format(precision)

    @kernel
    def multiply(params: Words, at: int, x: Words, out: Words, q: Words) -> int:
        return project(weights, params, at, x, INPUTS, out, VECTORS, q)

    packed = pack_matrix(weights, matrix)
    params = np.concatenate([np.full(16, np.nan, np.float32), packed])
    out, q = aligned_words(OUTPUTS), aligned_words(INPUTS // 4)
    assert multiply(params, 16, x, out, q) == params.size
    effective = unpack_matrix(weights, packed, INPUTS, OUTPUTS)
    inputs = x.astype(np.float64)
    if precision == "int8":  # what the bytes stand for; the sum of products is a whole number, and exact
        step = np.abs(inputs).max() / 127
        inputs = np.rint(inputs / step) * step
    expected = inputs @ effective
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=2e-6 * np.abs(expected).max())


def test_bytes_are_the_nearest_steps(x: Any) -> None:
    @kernel
    def to_bytes(x: Words, q: Words, out: Words) -> None:
        store(out, 0, quantise(x, INPUTS, q))

    q, out = aligned_words(INPUTS // 4), aligned_words(16)
    for scale in (1.0, 1e-4, 3e5):
        scaled = (x * scale).astype(np.float32)
        to_bytes(scaled, q, out)
        peak = np.abs(scaled).max()
        assert out == pytest.approx(np.full(16, peak / 127), rel=1e-6)
        steps = q.view(np.uint8).astype(np.int64) - 128
        assert np.abs(steps).max() == 127
        assert np.abs(steps - scaled.astype(np.float64) * 127 / peak).max() < 0.5001
    to_bytes(np.zeros_like(x), q, out)
    assert (q.view(np.uint8) == 128).all()
    poisoned = x.copy()
    poisoned[7] = np.nan
    to_bytes(poisoned, q, out)
    assert np.isnan(out).all()


def test_lanes_are_loaded_and_stored_where_they_lie() -> None:
    @kernel
    def move(source: Words, target: Words) -> None:
        store(target, 3, load(source, 5))

    source, target = np.arange(40, dtype=np.float32), np.zeros(40, np.float32)
    move(source, target)
    assert target.tolist() == [0.0] * 3 + list(range(5, 21)) + [0.0] * 21
