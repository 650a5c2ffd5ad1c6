"""Labels of pooled streams: as a plain loop has them, none across a segment, a part or a border."""

import dataclasses
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lob.errors import InputError
from training.dataset import Dataset
from training.pool import pool_streams

HORIZONS = (3, 7)
MakeDataset = Callable[..., Dataset]


def plain_change(mids: np.ndarray, segments: np.ndarray, row: int, horizon: int) -> float:
    """The relative change of one row, looked up one mid at a time; nan where the segment ends before."""
    ahead = range(row + 1, row + horizon + 1)
    if ahead[-1] >= len(mids) or segments[ahead[-1]] != segments[row]:
        return float("nan")
    return float(np.mean([mids[each] - mids[row] for each in ahead])) / mids[row]


def test_labels_equal_the_plain_loop_and_stay_in_their_segment(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(rows=400, segments=3)
    (stream,) = pool_streams([dataset], horizons=HORIZONS)
    mids = dataset.mid_half_ticks.astype(float)
    for row in range(400):
        for column, horizon in enumerate(HORIZONS):
            change = plain_change(mids, dataset.segments, row, horizon)
            threshold = stream.thresholds[column]
            expected = -1 if np.isnan(change) else 1 + (change > threshold) - (change < -threshold)
            assert stream.labels[row, column] == expected
    assert (stream.labels == -1).sum() == 3 * sum(HORIZONS)


def test_classes_of_the_training_part_are_near_thirds_where_mids_move(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(rows=3000)
    walk = np.cumsum(np.random.default_rng(1).normal(scale=50, size=3000)).astype(np.int64)
    (stream,) = pool_streams([dataclasses.replace(dataset, mid_half_ticks=200_000 + walk)])
    np.testing.assert_allclose(stream.shares("training")[:, 1], 1 / 3, atol=0.01)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(120, 500))
def test_no_training_label_or_threshold_depends_on_a_later_part(
    make_dataset: MakeDataset, seed: int, rows: int
) -> None:
    one, other = (
        make_dataset("one", rows=rows, seed=seed),
        make_dataset("other", rows=rows // 2, seed=seed + 1),
    )
    before = pool_streams([one, other], horizons=HORIZONS)
    rng = np.random.default_rng(seed)
    altered = []
    for stream in before:
        mids = stream.dataset.mid_half_ticks.copy()
        later = stream.dataset.exchange_ms >= stream.split.validation_from_ms
        mids[later] += rng.integers(-50, 50, later.sum()) * 2
        altered.append(dataclasses.replace(stream.dataset, mid_half_ticks=mids))
    after = pool_streams(altered, horizons=HORIZONS)
    for first, second in zip(before, after, strict=True):
        assert first.thresholds == second.thresholds
        np.testing.assert_array_equal(first.part_labels("training"), second.part_labels("training"))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_validation_label_depends_on_the_test_part(make_dataset: MakeDataset, seed: int) -> None:
    dataset = make_dataset(rows=300, seed=seed)
    (before,) = pool_streams([dataset], horizons=HORIZONS)
    mids = dataset.mid_half_ticks.copy()
    mids[before.split.test.start :] += 1000
    (after,) = pool_streams([dataclasses.replace(dataset, mid_half_ticks=mids)], horizons=HORIZONS)
    np.testing.assert_array_equal(before.part_labels("validation"), after.part_labels("validation"))


def test_shares_of_an_empty_part_are_zero(make_dataset: MakeDataset) -> None:
    long, short = make_dataset("long", rows=900), make_dataset("short", rows=300, seed=1)
    _, stream = pool_streams([long, short], horizons=HORIZONS)
    assert len(stream.split.test) == 0
    assert not stream.shares("test").any()
    assert stream.segments("test") == []


def test_two_streams_of_one_name_are_refused(make_dataset: MakeDataset) -> None:
    with pytest.raises(InputError, match="the names walk, walk came"):
        pool_streams([make_dataset(), make_dataset(seed=1)])


def test_streams_built_otherwise_are_refused(make_dataset: MakeDataset) -> None:
    other = make_dataset("other")
    manifest = msgspec.structs.replace(other.manifest, sampling="every_message")
    with pytest.raises(InputError, match="other has sampling every_message, walk has top_changed"):
        pool_streams([make_dataset(), dataclasses.replace(other, manifest=manifest)])


def test_a_stream_too_short_for_a_label_is_refused(make_dataset: MakeDataset) -> None:
    with pytest.raises(
        InputError, match="stream walk: its training part of 0 rows has no label at horizon 10"
    ):
        pool_streams([make_dataset(rows=120)])


def test_no_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="no data set came"):
        pool_streams([])
