"""No training label looks into the validation part, no validation label into the test part, in any stream."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.errors import InputError
from training.splits import overlapping_groups, split_by_time

PURGE = 10


@st.composite
def streams(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """One to four streams with times that never go back, some overlapping, some apart."""
    result = {}
    for index in range(draw(st.integers(1, 4))):
        rows = draw(st.integers(1, 300))
        steps = np.random.default_rng(draw(st.integers(0, 10**6))).integers(0, 4, rows)
        result[f"s{index}"] = draw(st.integers(0, 1500)) + np.cumsum(steps)
    return result


@given(streams())
def test_no_label_looks_past_a_border_of_its_group(exchange_ms: dict[str, np.ndarray]) -> None:
    splits = split_by_time(exchange_ms, purge_rows=PURGE)
    for name, times in exchange_ms.items():
        split = splits[name]
        assert 0 == split.training.start <= split.training.stop <= split.validation.start
        assert (
            split.validation.start
            <= split.validation.stop
            <= split.test.start
            <= split.test.stop
            == len(times)
        )
        for part, border_ms in (
            (split.training, split.validation_from_ms),
            (split.validation, split.test_from_ms),
        ):
            if len(part):
                # The last mid that the last label of the part needs: PURGE rows ahead.
                assert times[part.stop - 1 + PURGE] < border_ms
        if len(split.validation):
            assert times[split.validation.start] >= split.validation_from_ms
        if len(split.test):
            assert times[split.test.start] >= split.test_from_ms


@given(streams())
def test_overlapping_streams_share_their_borders(exchange_ms: dict[str, np.ndarray]) -> None:
    splits = split_by_time(exchange_ms, purge_rows=PURGE)
    for one, first in exchange_ms.items():
        for other, second in exchange_ms.items():
            if first[0] <= second[-1] and second[0] <= first[-1]:
                assert splits[one].validation_from_ms == splits[other].validation_from_ms
                assert splits[one].test_from_ms == splits[other].test_from_ms
                assert splits[one].reference == splits[other].reference


def test_the_reference_is_cut_60_20_20() -> None:
    times = {"long": np.arange(1000), "short": np.arange(0, 1000, 7)}
    split = split_by_time(times, purge_rows=PURGE)["long"]
    assert (split.training.stop, split.validation.start) == (590, 600)
    assert (split.validation.stop, split.test.start, split.test.stop) == (790, 800, 1000)
    assert split.reference == "long"


def test_a_named_reference_places_the_borders() -> None:
    times = {"long": np.arange(1000), "late": np.arange(500, 1000, 5)}
    splits = split_by_time(times, purge_rows=PURGE, references=("late",))
    assert splits["long"].reference == "late"
    assert splits["long"].validation.start == 800


def test_streams_of_other_times_are_cut_by_themselves() -> None:
    times = {"may": np.arange(100), "june": np.arange(10_000, 10_200)}
    splits = split_by_time(times, purge_rows=PURGE)
    assert splits["may"].validation.start == 60
    assert splits["june"].validation.start == 120


def test_a_stream_that_ends_early_has_no_test_part() -> None:
    times = {"long": np.arange(1000), "early": np.arange(0, 500, 10)}
    split = split_by_time(times, purge_rows=PURGE)["early"]
    assert len(split.training) == 40
    assert len(split.validation) == len(split.test) == 0


def test_a_time_that_goes_back_does_not_move_a_border() -> None:
    times = np.arange(100)
    times[70] = 10
    split = split_by_time({"only": times}, purge_rows=0)["only"]
    assert (split.training.stop, split.validation.start, split.test.start) == (60, 60, 80)


@given(
    st.dictionaries(st.text("abc", min_size=1), st.tuples(st.integers(0, 50), st.integers(0, 9)), min_size=1)
)
def test_groups_hold_every_name_once(spans: dict[str, tuple[int, int]]) -> None:
    closed = {name: (first, first + length) for name, (first, length) in spans.items()}
    groups = overlapping_groups(closed)
    assert sorted(name for group in groups for name in group) == sorted(spans)
    for before, after in itertools.pairwise(groups):
        assert max(closed[name][1] for name in before) < min(closed[name][0] for name in after)


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(InputError, match="stream none: it has no rows"):
        split_by_time({"none": np.empty(0, dtype=np.int64)}, purge_rows=PURGE)


def test_an_unknown_reference_is_refused() -> None:
    with pytest.raises(InputError, match=r"reference: 'x' came, one of a is allowed"):
        split_by_time({"a": np.arange(5)}, purge_rows=PURGE, references=("x",))


def test_an_unknown_part_is_refused() -> None:
    split = split_by_time({"a": np.arange(50)}, purge_rows=PURGE)["a"]
    with pytest.raises(InputError, match="training, validation or test"):
        split.part("holdout")
