"""Durations and their percentiles: every sample is kept, and a percentile is one of them.

A percentile is the smallest kept sample that at least that share of all samples does not exceed
(numpy's `higher` between neighbours): never an average of two samples, never a bucket's edge, and never
rounded down in the tail. 10,000 samples put ten above the 99.9th.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lob.errors import InputError

Samples: TypeAlias = NDArray[np.int64]
"""Durations in nanoseconds, (N,) int64."""


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """What is reported of a subject's samples, in nanoseconds."""

    count: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int


def percentile_ns(durations_ns: Samples, quantile: float) -> int:
    """The sample at `quantile` (0..1) of `durations_ns` (N,), the higher one where it falls between two.

    Raises InputError where there is no sample.
    """
    if durations_ns.size == 0:
        raise InputError("no sample to take a percentile of; at least 1 is needed")
    return int(np.quantile(durations_ns, quantile, method="higher"))


def summarize(durations_ns: Samples) -> Percentiles:
    """The reported percentiles of `durations_ns` (N,) int64; raises InputError where there is no sample."""
    return Percentiles(
        count=int(durations_ns.size),
        p50_ns=percentile_ns(durations_ns, 0.5),
        p90_ns=percentile_ns(durations_ns, 0.9),
        p99_ns=percentile_ns(durations_ns, 0.99),
        p999_ns=percentile_ns(durations_ns, 0.999),
        max_ns=percentile_ns(durations_ns, 1.0),
    )
