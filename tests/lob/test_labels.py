"""Labels against their definition, written as loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.errors import InputError
from lob.labels import DOWN, FLAT, INVALID, UP, classify, label_threshold, mean_future_mid_change

MIDS = st.lists(st.integers(2, 2_000).map(lambda ticks: ticks * 0.05), max_size=60)


@given(MIDS, st.integers(1, 20))
def test_change_is_the_mean_of_the_next_mids(mids: list[float], horizon: int) -> None:
    changes = mean_future_mid_change(mids, horizon)
    assert changes.shape == (len(mids),)
    assert changes.dtype == np.float64
    for row, mid in enumerate(mids):
        future = mids[row + 1 : row + 1 + horizon]
        if len(future) < horizon:
            assert np.isnan(changes[row])
        else:
            assert changes[row] == pytest.approx((sum(future) / horizon - mid) / mid, abs=1e-12)


def test_mid_that_does_not_move_changes_by_exactly_nothing() -> None:
    mids = np.full(5_000, 61_837.635)
    assert np.all(mean_future_mid_change(mids, 100)[:-100] == 0.0)


def test_past_is_not_looked_at() -> None:
    mids = np.linspace(100.0, 110.0, 50)
    other = mids.copy()
    other[:20] = 3.0
    assert np.array_equal(
        mean_future_mid_change(mids, 10)[20:], mean_future_mid_change(other, 10)[20:], equal_nan=True
    )


def test_threshold_leaves_a_third_flat() -> None:
    changes = np.random.default_rng(1).normal(size=30_000)
    classes = classify(changes, label_threshold(changes))
    shares = [np.mean(classes == label) for label in (DOWN, FLAT, UP)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.01)
    assert shares[FLAT] == pytest.approx(1 / 3, abs=1e-4)


def test_threshold_is_zero_where_most_do_not_move() -> None:
    changes = np.concatenate([np.zeros(40), np.linspace(-1, 1, 60)])
    assert label_threshold(changes) == 0.0
    assert label_threshold(np.append(changes, np.nan)) == 0.0
    assert label_threshold(np.concatenate([np.zeros(30), np.linspace(0.5, 1, 70)])) > 0.0


def test_classes_at_the_threshold_are_flat() -> None:
    changes = [-0.3, -0.2, 0.0, 0.2, 0.3, np.nan]
    classes = classify(changes, 0.2)
    assert classes.tolist() == [DOWN, FLAT, FLAT, FLAT, UP, INVALID]
    assert classes.dtype == np.int8
    assert classify(changes, 0.0).tolist() == [DOWN, DOWN, FLAT, UP, UP, INVALID]


@pytest.mark.parametrize("mids", [[1.0, 0.0], [1.0, -1.0], [np.nan], [np.inf]])
def test_mids_must_be_prices(mids: list[float]) -> None:
    with pytest.raises(InputError, match="mid: came with values that are not positive and finite"):
        mean_future_mid_change(mids, 1)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"mid: came with shape \(1, 2\)"):
        mean_future_mid_change([[1.0, 2.0]], 1)
    with pytest.raises(InputError, match="horizon: came 0"):
        mean_future_mid_change([1.0], 0)
    with pytest.raises(InputError, match="changes: came without a single number"):
        label_threshold([np.nan])
    for threshold in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="threshold: came"):
            classify([0.1], threshold)
