"""Exponential, decay, SiLU and softplus of lanes against float64, in units in the last place."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from inference.fused import lane_math
from inference.fused.lanes import Lanes, Words, load, store
from lob.kernel import kernel

Floats = npt.NDArray[np.float64]


def applied(function: Callable[[Lanes], Lanes], x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    @kernel
    def apply(x: Words, out: Words) -> None:
        for i in range(0, x.size, 16):
            store(out, i, function(load(x, i)))

    out = np.empty_like(x)
    apply(x, out)
    return out


def silu(x: Floats) -> Floats:
    return x / (1 + np.exp(-x))


def softplus(x: Floats) -> Floats:
    return np.logaddexp(0.0, x)


@pytest.mark.parametrize(
    ("name", "exact", "low", "high", "units"),
    [
        ("exp", np.exp, -87.0, 88.0, 1.3),
        ("exp2_decay", np.exp2, -126.0, 0.0, 1.0),
        ("silu", silu, -80.0, 80.0, 2.5),
        ("softplus", softplus, -80.0, 80.0, 3.0),
    ],
)
def test_close_to_the_exact_value(name: str, exact: Any, low: float, high: float, units: float) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [np.linspace(low, high, 3200), rng.normal(size=1600).clip(low, high), [low, high] * 8]
    ).astype(np.float32)
    came, wanted = applied(getattr(lane_math, name), x), exact(x.astype(np.float64))
    error = np.abs(came.astype(np.float64) - wanted) / np.spacing(np.abs(wanted).astype(np.float32))
    assert error.max() < units


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", -1e30, np.exp(-87.0)),
        ("exp", 1e30, np.exp(88.0)),
        ("exp2_decay", -1e30, 2.0**-126),
        ("exp2_decay", 0.0, 1.0),
        ("exp2_decay", -3.0, 0.125),
        ("silu", -1e4, 0.0),
        ("silu", 1e4, 1e4),
        ("softplus", 1e4, 1e4),
        ("softplus", -1e4, 0.0),
    ],
)
def test_far_out(name: str, x: float, expected: float) -> None:
    came = applied(getattr(lane_math, name), np.full(16, x, np.float32))
    assert came == pytest.approx(np.full(16, expected), rel=3e-7, abs=1e-30)


@pytest.mark.parametrize("name", ["exp", "exp2_decay", "silu", "softplus"])
def test_not_a_number_stays_one(name: str) -> None:
    assert np.isnan(applied(getattr(lane_math, name), np.full(16, np.nan, np.float32))).all()
