"""What training starts from: scikit-learn's regression in the linear path, and nothing from the other one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lob.schema import LOB44
from models.configurations import configuration
from models.mamba_lob import MambaLOB
from training.dataset import Dataset
from training.initialisation import fit_logistic, fit_normaliser, training_rows
from training.loop import TrainingConfig, start_model
from training.metrics import log_loss, log_softmax
from training.pool import LabelledStream, pool_streams


@pytest.fixture(scope="module")
def streams(make_dataset: Callable[..., Dataset]) -> list[LabelledStream]:
    """One stream."""
    return pool_streams([make_dataset(rows=1500)])


def test_the_regression_equals_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(800, 3))
    classes = (inputs @ rng.normal(size=(3, 3)) + rng.gumbel(size=(800, 3))).argmax(axis=1)
    fitted = fit_logistic(inputs, classes, 3)
    reference = LogisticRegression(C=1e4, tol=1e-8, max_iter=1000).fit(inputs, classes)
    ours = log_softmax(np.hstack([inputs, np.ones((800, 1))]) @ fitted)
    np.testing.assert_allclose(np.exp(ours), reference.predict_proba(inputs), atol=2e-3)


def test_a_class_that_never_came_becomes_improbable_and_stays_finite() -> None:
    inputs = np.random.default_rng(0).normal(size=(200, 3))
    fitted = fit_logistic(inputs, (inputs[:, 0] > 0).astype(np.int64), 3)
    probabilities = np.exp(log_softmax(np.hstack([inputs, np.ones((200, 1))]) @ fitted))
    assert np.isfinite(fitted).all()
    assert probabilities[:, 2].max() < 0.01


def test_the_normaliser_takes_median_and_spread_and_a_constant_feature_stays_finite() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(loc=3.0, scale=2.0, size=(20_000, LOB44.feature_count)).astype(np.float32)
    rows[:, 5] = 7.0
    rows[::500, 6] = 1e6  # outliers do not widen it
    model = MambaLOB(configuration(block="ssd", size="nano"))
    fit_normaliser(model, rows)
    normalised = model.normaliser(torch.from_numpy(rows)).numpy()
    assert np.abs(normalised[:, 5]).max() == 0.0
    np.testing.assert_allclose(np.delete(normalised, [5, 6], axis=1).std(axis=0), 1.0, atol=0.03)
    assert normalised[1:500, 6].std() == pytest.approx(1.0, abs=0.1)


def test_a_fresh_model_answers_its_fitted_regression_and_beats_the_class_shares(
    streams: list[LabelledStream],
) -> None:
    model = start_model(streams, configuration(block="ssd", size="nano"), TrainingConfig(), seed=3)
    rows, labels = training_rows(streams, reflect=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(rows[None, :500]))[0]
        inputs = model.normaliser(torch.from_numpy(rows[:500]))[:, model.linear_columns]
        direct = inputs @ model.linear.weight + model.linear_bias
    np.testing.assert_allclose(logits.flatten(1).numpy(), direct.numpy(), atol=1e-6)
    known = labels[:500, 0] >= 0
    shares = np.bincount(labels[:500, 0][known], minlength=3) / known.sum()
    prior = np.tile(np.log(shares), (known.sum(), 1))
    fitted = log_softmax(logits[:, 0].numpy()[known])
    assert log_loss(fitted, labels[:500, 0][known]) < log_loss(prior, labels[:500, 0][known])


def test_reflected_training_rows_have_no_direction(streams: list[LabelledStream]) -> None:
    rows, labels = training_rows(streams, reflect=True)
    assert len(rows) == 2 * len(streams[0].split.training)
    np.testing.assert_array_equal((labels == 0).sum(axis=0), (labels == 2).sum(axis=0))
    imbalance = LOB44.feature_names.index("imbalance_1")
    assert float(rows[:, imbalance].astype(np.float64).mean()) == pytest.approx(0.0, abs=1e-6)


def test_another_seed_starts_from_other_weights_and_leaves_torchs_generator_alone(
    streams: list[LabelledStream],
) -> None:
    before = torch.random.get_rng_state()
    config = configuration(block="ssd", size="nano")
    one, same, other = (start_model(streams, config, TrainingConfig(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.embedding.weight, same.embedding.weight)
    assert not torch.equal(one.embedding.weight, other.embedding.weight)
