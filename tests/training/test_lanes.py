"""Lanes cover the training parts once, stay in one segment, and end in rows that count for nothing."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.dataset import Dataset
from training.lanes import SHORTEST_LANE_ROWS, Lane, cut_lanes, epoch_batches, group_lanes, load_batch
from training.mirror import reflect_labels, reflection
from training.pool import LabelledStream, pool_streams


@pytest.fixture(scope="module")
def streams(make_dataset: Callable[..., Dataset]) -> list[LabelledStream]:
    """Two streams, one of them of three segments."""
    datasets = [make_dataset("long", rows=1500, segments=3), make_dataset("other", rows=700, seed=1)]
    return pool_streams(datasets, horizons=(3, 7))


@settings(deadline=None)
@given(lane_rows=st.integers(40, 600), seed=st.integers(0, 1000))
def test_lanes_are_contiguous_in_one_segment_and_of_the_training_part(
    streams: list[LabelledStream], lane_rows: int, seed: int
) -> None:
    lanes = cut_lanes(streams, lane_rows, np.random.default_rng(seed), reflect=True)
    for lane in lanes:
        stream = streams[lane.stream]
        assert SHORTEST_LANE_ROWS <= lane.stop - lane.start <= lane_rows
        assert len(set(stream.dataset.segments[lane.start : lane.stop].tolist())) == 1
        assert lane.stop <= stream.split.training.stop
    for index, stream in enumerate(streams):
        own = [range(lane.start, lane.stop) for lane in lanes if lane.stream == index]
        rows = list(itertools.chain(*own))
        assert len(rows) == len(set(rows))
        pieces = len(stream.split.training) // lane_rows + 2 * len(stream.segments("training"))
        assert len(rows) >= len(stream.split.training) - pieces * SHORTEST_LANE_ROWS


def test_the_same_generator_gives_the_same_epoch(streams: list[LabelledStream]) -> None:
    def epoch(seed: int) -> list[np.ndarray]:
        batches = epoch_batches(
            streams, lane_rows=200, lanes=3, reflect=True, generator=np.random.default_rng(seed)
        )
        return [batch.rows for batch, _, _ in batches]

    for one, same in zip(epoch(1), epoch(1), strict=True):
        np.testing.assert_array_equal(one, same)
    assert any(
        one.shape != other.shape or (one != other).any()
        for one, other in zip(epoch(1), epoch(2), strict=False)
    )


def test_a_batch_holds_its_lanes_and_pads_without_labels(streams: list[LabelledStream]) -> None:
    lanes = [
        Lane(stream=0, start=10, stop=110, reflected=False),
        Lane(stream=1, start=5, stop=65, reflected=True),
    ]
    batch = load_batch(streams, lanes)
    assert batch.rows.shape == (2, 100, 44)
    np.testing.assert_array_equal(batch.rows[0], streams[0].dataset.rows[10:110])
    np.testing.assert_array_equal(batch.labels[0], streams[0].labels[10:110])
    columns, signs = reflection(streams[1].dataset.schema)
    np.testing.assert_array_equal(batch.rows[1, :60], streams[1].dataset.rows[5:65][:, columns] * signs)
    np.testing.assert_array_equal(batch.labels[1, :60], reflect_labels(streams[1].labels[5:65]))
    assert (batch.rows[1, 60:] == 0).all()
    assert (batch.labels[1, 60:] == -1).all()


def test_groups_hold_every_lane_once_and_run_to_the_end_of_the_epoch(streams: list[LabelledStream]) -> None:
    lanes = cut_lanes(streams, 150, np.random.default_rng(0), reflect=False)
    groups = group_lanes(lanes, 4, np.random.default_rng(0))
    assert sorted(map(repr, itertools.chain(*groups))) == sorted(map(repr, lanes))
    assert max(map(len, groups)) == 4
    assert not any(lane.reflected for lane in lanes)
    batches = list(
        epoch_batches(streams, lane_rows=150, lanes=4, reflect=False, generator=np.random.default_rng(0))
    )
    shares = [(before, after) for _, before, after in batches]
    assert shares[0][0] == 0.0
    assert shares[-1][1] == 1.0
    assert all(one[1] == two[0] for one, two in itertools.pairwise(shares))
