"""Percentiles are held against numpy and against their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.samples import percentile_ns, summarize
from lob.errors import InputError

durations = st.lists(st.integers(0, 10**9), min_size=1, max_size=300)


def test_known_samples() -> None:
    found = summarize(np.random.default_rng(7).permutation(np.arange(1, 10_001)))
    assert found.count == 10_000
    assert (found.p50_ns, found.p90_ns, found.p99_ns, found.p999_ns) == (5001, 9001, 9901, 9991)
    assert found.max_ns == 10_000


@given(durations, st.floats(0, 1))
def test_a_percentile_is_a_sample_at_or_above_the_interpolated_one(
    values: list[int], quantile: float
) -> None:
    samples = np.array(values, dtype=np.int64)
    found = percentile_ns(samples, quantile)
    assert found in values
    assert found >= np.quantile(samples, quantile) * (1 - 1e-12)
    assert np.count_nonzero(samples <= found) >= quantile * len(values)


@given(durations)
def test_percentiles_rise_and_do_not_depend_on_order(values: list[int]) -> None:
    found = summarize(np.array(values, dtype=np.int64))
    assert found == summarize(np.array(sorted(values), dtype=np.int64))
    assert found.p50_ns <= found.p90_ns <= found.p99_ns <= found.p999_ns <= found.max_ns == max(values)


def test_one_slow_call_shows_in_the_tail_alone() -> None:
    samples = np.full(1000, 10, dtype=np.int64)
    samples[123] = 5000
    found = summarize(samples)
    assert (found.p50_ns, found.p99_ns, found.p999_ns, found.max_ns) == (10, 10, 5000, 5000)


def test_no_sample_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        summarize(np.array([], dtype=np.int64))
