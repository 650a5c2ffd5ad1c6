"""The record of scores: decisions by probability and by its ratio to the share; what a rule leaves out."""

import msgspec
import numpy as np
import pytest
from sklearn.metrics import f1_score

from training.metrics import log_loss, log_softmax, reliability
from training.scores import Scores, score_forecast, score_prior, score_rule

LABELS = np.array([0, 1, 1, 1, 2, 1, 0, 2])
LOGITS = np.log(
    np.array(
        [
            [0.30, 0.50, 0.20],
            [0.10, 0.80, 0.10],
            [0.20, 0.70, 0.10],
            [0.15, 0.70, 0.15],
            [0.10, 0.60, 0.30],
            [0.05, 0.90, 0.05],
            [0.60, 0.30, 0.10],
            [0.10, 0.20, 0.70],
        ]
    )
)
SHARES = np.array([0.2, 0.6, 0.2])


def test_decisions_by_probability_and_over_the_share() -> None:
    scores = score_forecast("model", LOGITS, LABELS, temperature=1.0, training_shares=SHARES, seed=4)
    plain = np.array([1, 1, 1, 1, 1, 1, 0, 2])
    over_prior = np.array([0, 1, 1, 1, 2, 1, 0, 2])
    assert scores.macro_f1 == pytest.approx(f1_score(LABELS, plain, average="macro"))
    assert scores.macro_f1_over_prior == pytest.approx(f1_score(LABELS, over_prior, average="macro"))
    assert scores.accuracy == 0.75
    assert scores.accuracy_over_prior == 1.0
    assert scores.confusion == ((1, 1, 0), (0, 4, 0), (0, 1, 1))
    assert scores.direction_auc == 1.0
    assert scores.seed == 4


def test_the_temperature_reaches_log_loss_and_calibration_and_no_decision() -> None:
    raw = score_forecast("model", LOGITS, LABELS, temperature=1.0, training_shares=SHARES)
    cooled = score_forecast("model", LOGITS, LABELS, temperature=2.0, training_shares=SHARES)
    expected = log_softmax(LOGITS / 2.0)
    assert cooled.log_loss == pytest.approx(log_loss(expected, LABELS))
    assert (
        cooled.log_loss_uncalibrated == raw.log_loss == pytest.approx(log_loss(log_softmax(LOGITS), LABELS))
    )
    diagram = reliability(np.exp(expected), LABELS)
    assert cooled.expected_calibration_error == pytest.approx(diagram.expected_calibration_error)
    assert cooled.expected_calibration_error_uncalibrated == raw.expected_calibration_error
    assert sum(count for count, _, _ in cooled.reliability) == len(LABELS)
    assert (cooled.confusion, cooled.macro_f1) == (raw.confusion, raw.macro_f1)


def test_the_prior_decides_the_majority_class() -> None:
    scores = score_prior(np.log(SHARES), LABELS)
    assert scores.confusion == ((0, 2, 0), (0, 4, 0), (0, 2, 0))
    assert scores.direction_auc == 0.5
    assert scores.matthews == 0.0
    assert scores.log_loss == pytest.approx(-np.mean(np.log(SHARES[LABELS])))


def test_a_rule_has_no_probabilities() -> None:
    scores = score_rule(np.array([0, 1, 1, 1, 2, 1, 0, 0]), np.linspace(-1, 1, 8), LABELS)
    assert scores.log_loss is None
    assert scores.expected_calibration_error is None
    assert scores.accuracy == 0.875


def test_scores_survive_json() -> None:
    scores = score_forecast("model", LOGITS, LABELS, temperature=1.3, training_shares=SHARES)
    assert msgspec.json.decode(msgspec.json.encode(scores), type=Scores) == scores


def test_nothing_that_moved_has_no_auc() -> None:
    flat = np.ones(8, dtype=int)
    assert score_forecast("m", LOGITS, flat, temperature=1.0, training_shares=SHARES).direction_auc is None
