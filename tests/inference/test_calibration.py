"""The temperature softmax against a plain twin, compiled and not."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inference.calibration import Calibration, temperature_softmax
from lob.errors import InputError

Kernel = Callable[..., bool]
KERNELS = [temperature_softmax, getattr(temperature_softmax, "py_func", temperature_softmax)]

finite_logits = arrays(
    np.float32, (3, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)
temperatures = arrays(np.float64, 3, elements=st.floats(0.01, 100))


def twin(logits: npt.NDArray[np.float32], temperatures: npt.NDArray[np.float64]) -> list[list[float]]:
    """The definition, one number after the other, with Python's own floats."""
    answer = []
    for row, temperature in zip(logits.tolist(), temperatures.tolist(), strict=True):
        weights = [math.exp((logit - max(row)) / temperature) for logit in row]
        answer.append([weight / sum(weights) for weight in weights])
    return answer


@pytest.mark.parametrize("kernel", KERNELS, ids=["compiled", "plain"])
class TestKernel:
    @settings(deadline=None)  # the first call compiles
    @given(logits=finite_logits, temperatures=temperatures)
    def test_equals_the_twin(
        self, kernel: Kernel, logits: npt.NDArray[np.float32], temperatures: npt.NDArray[np.float64]
    ) -> None:
        probabilities, best = np.full((3, 3), np.nan), np.full(3, -1)
        assert kernel(logits, temperatures, probabilities, best)
        np.testing.assert_allclose(probabilities, twin(logits, temperatures), rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
        assert best.tolist() == logits.argmax(axis=1).tolist()
        assert (probabilities[np.arange(3), best] == probabilities.max(axis=1)).all()

    @settings(deadline=None)
    @given(
        logits=finite_logits,
        place=st.tuples(st.integers(0, 2), st.integers(0, 2)),
        bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    )
    def test_refuses_what_is_not_finite(
        self, kernel: Kernel, logits: npt.NDArray[np.float32], place: tuple[int, int], bad: float
    ) -> None:
        logits[place] = bad
        assert not kernel(logits, np.ones(3), np.zeros((3, 3)), np.zeros(3, np.int64))

    def test_a_temperature_of_one_is_softmax(self, kernel: Kernel) -> None:
        probabilities, best = np.zeros((1, 3)), np.zeros(1, np.int64)
        kernel(np.log(np.array([[0.2, 0.3, 0.5]], np.float32)), np.ones(1), probabilities, best)
        np.testing.assert_allclose(probabilities, [[0.2, 0.3, 0.5]], rtol=1e-6)
        assert best.tolist() == [2]

    def test_higher_temperature_is_less_sure(self, kernel: Kernel) -> None:
        logits = np.array([[0.0, 1.0, 3.0]] * 3, np.float32)
        probabilities, best = np.zeros((3, 3)), np.zeros(3, np.int64)
        kernel(logits, np.array([0.5, 1.0, 2.0]), probabilities, best)
        sharp, plain, soft = probabilities[:, 2].tolist()
        assert sharp > plain > soft > 1 / 3

    def test_the_first_of_equals_is_best(self, kernel: Kernel) -> None:
        best = np.full(2, -1)
        kernel(np.array([[1, 1, 1], [0, 2, 2]], np.float32), np.ones(2), np.zeros((2, 3)), best)
        assert best.tolist() == [0, 1]


def test_a_calibration_keeps_its_own_room() -> None:
    calibration = Calibration((1.0, 2.0), 3)
    assert calibration.apply(np.array([[0, 1, 2], [3, 2, 1]], np.float32))
    np.testing.assert_allclose(
        calibration.probabilities, twin(np.array([[0, 1, 2], [3, 2, 1]], np.float32), np.array([1.0, 2.0]))
    )
    assert calibration.best.tolist() == [2, 0]
    assert not calibration.apply(np.array([[0, 1, np.nan], [3, 2, 1]], np.float32))


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_must_be_positive_and_finite(bad: float) -> None:
    with pytest.raises(InputError, match="temperatures"):
        Calibration((1.0, bad), 3)
