"""The fitted temperature: it undoes a known one, and no other on a grid is better."""

import numpy as np
import pytest

from lob.errors import InputError
from training.calibration import PRIOR_SCALE, fit_temperature, fit_temperatures
from training.metrics import log_loss, log_softmax


def drawn(seed: int, rows: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 3) too sharp by `temperature`, and labels drawn from the true ones."""
    rng = np.random.default_rng(seed)
    true_logits = rng.normal(scale=1.5, size=(rows, 3))
    draws = rng.gumbel(size=(rows, 3))
    return true_logits * temperature, (true_logits + draws).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    logits, labels = drawn(1, 20_000, temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_no_temperature_on_a_grid_is_more_probable() -> None:
    logits, labels = drawn(2, 500, 2.0)

    def improbability(temperature: float) -> float:
        evidence = 500 / 5 * log_loss(log_softmax(logits / temperature), labels)
        return evidence + 0.5 * (np.log(temperature) / PRIOR_SCALE) ** 2

    fitted = improbability(fit_temperature(logits, labels, overlap_rows=5))
    for temperature in np.geomspace(0.06, 19.0, 400):
        assert fitted <= improbability(temperature) + 1e-9


def test_the_less_evidence_the_nearer_to_one() -> None:
    logits, labels = drawn(4, 3000, 3.0)
    fitted = [fit_temperature(logits, labels, overlap_rows=rows) for rows in (1, 10, 100, 100_000)]
    assert fitted == sorted(fitted, reverse=True)
    assert fitted[0] == pytest.approx(3.0, rel=0.1)
    assert fitted[-1] == pytest.approx(1.0, abs=0.01)


def test_a_forecast_that_is_always_right_is_sharpened_no_further_than_allowed() -> None:
    labels = np.array([0, 1, 2] * 100_000)
    assert 0.05 <= fit_temperature(np.eye(3)[labels], labels) < 0.2


def test_each_horizon_gets_its_own_and_rows_without_label_do_not_count() -> None:
    sharp, labels = drawn(3, 4000, 4.0)
    mild, _ = drawn(3, 4000, 1.0)
    logits = np.stack([sharp, mild], axis=1)
    both = np.stack([labels, labels], axis=1)
    both[::7, 1] = -1
    first, second = fit_temperatures(logits, both, (10, 50))
    assert first == pytest.approx(fit_temperature(sharp, labels, overlap_rows=10))
    kept = both[:, 1] >= 0
    assert second == pytest.approx(fit_temperature(mild[kept], labels[kept], overlap_rows=50))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="shapes"):
        fit_temperatures(np.zeros((4, 3, 3)), np.zeros((4, 2), dtype=np.int64), (10, 50))


def test_a_logit_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        fit_temperature(np.array([[np.nan, 0.0, 0.0]]), np.array([1]))
