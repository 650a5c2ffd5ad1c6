"""The moving-block bootstrap: blocks are neighbours, intervals cover what is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.errors import InputError
from training.bootstrap import (
    BlockResamples,
    direction_auc_difference,
    interval,
    log_loss_difference,
)
from training.metrics import direction_auc


@given(rows=st.integers(1, 300), block=st.integers(1, 100), seed=st.integers(0, 99))
def test_resamples_are_blocks_of_neighbours(rows: int, block: int, seed: int) -> None:
    drawn = BlockResamples(rows, block_rows=block, resamples=3, seed=seed)
    resamples = np.stack(list(drawn))
    np.testing.assert_array_equal(np.stack(list(drawn)), resamples)  # the same each time
    assert resamples.shape == (3, rows)
    assert resamples.min() >= 0
    assert resamples.max() < rows
    steps = np.diff(resamples, axis=1)
    inside = (np.arange(1, rows) % min(block, rows)) != 0
    assert (steps[:, inside] == 1).all()


def test_a_constant_difference_has_no_spread() -> None:
    resamples = BlockResamples(100, block_rows=10, resamples=50, seed=0)
    found = log_loss_difference(np.full(100, 0.7), np.full(100, 0.9), resamples)
    assert (found.difference, found.low, found.high) == pytest.approx((-0.2, -0.2, -0.2))


def test_the_interval_of_independent_rows_is_that_of_the_normal_distribution() -> None:
    noise = np.random.default_rng(0).normal(size=4000)
    resamples = BlockResamples(4000, block_rows=1, resamples=2000, seed=1)
    found = log_loss_difference(noise, np.zeros(4000), resamples)
    assert found.high - found.low == pytest.approx(2 * 1.96 / np.sqrt(4000), rel=0.1)
    assert found.low < found.difference < found.high


def test_overlapping_errors_widen_the_interval_with_longer_blocks() -> None:
    noise = np.random.default_rng(0).normal(size=(4000 + 99,))
    smooth = np.convolve(noise, np.ones(100) / 100, "valid")
    widths = []
    for block in (1, 400):
        found = log_loss_difference(
            smooth, np.zeros(4000), BlockResamples(4000, block_rows=block, resamples=500, seed=0)
        )
        widths.append(found.high - found.low)
    assert widths[1] > 3 * widths[0]


def test_an_auc_difference_is_the_mean_over_the_seeds() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    theirs = rng.normal(size=600)
    ours = [theirs + labels, theirs + 2 * labels]
    resamples = BlockResamples(600, block_rows=50, resamples=40, seed=0)
    found = direction_auc_difference(ours, theirs, labels, resamples)
    mean = (direction_auc(ours[0], labels) + direction_auc(ours[1], labels)) / 2
    assert found.difference == pytest.approx(mean - direction_auc(theirs, labels))
    assert 0 < found.low < found.difference < found.high


def test_nothing_that_moved_gives_no_interval() -> None:
    found = direction_auc_difference(
        [np.zeros(20)],
        np.zeros(20),
        np.ones(20, dtype=int),
        BlockResamples(20, block_rows=5, resamples=4, seed=0),
    )
    assert np.isnan([found.difference, found.low, found.high]).all()
    assert np.isnan(interval(0.5, np.empty(0)).low)


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="rows: 0 came"):
        BlockResamples(0, block_rows=5, resamples=2, seed=0)
