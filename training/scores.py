"""All scores of one forecast at one horizon, as a record that tables, JSON and cards are made from."""

import numpy as np
from numpy.typing import NDArray

from lob.labels import DOWN, UP
from training.metrics import (
    Floats,
    Integers,
    accuracy,
    confusion_matrix,
    direction_auc,
    log_loss,
    log_softmax,
    macro_f1,
    matthews,
    reliability,
)
from training.run_directory import Record

MAJORITY, MICROPRICE = "majority class", "microprice rule"
SMALLEST_PROBABILITY = 1e-12


class Scores(Record, frozen=True, kw_only=True):
    """What a forecast scores; None where it gives no such thing (a rule has no probabilities).

    `direction_auc` is of up against down on the rows that moved. `*_over_prior` decide by the greatest ratio
    of probability to the class's share of the training part, the others by the greatest probability.
    """

    method: str
    log_loss: float | None = None
    log_loss_uncalibrated: float | None = None
    direction_auc: float | None = None
    expected_calibration_error: float | None = None
    expected_calibration_error_uncalibrated: float | None = None
    accuracy: float
    matthews: float
    macro_f1: float
    accuracy_over_prior: float | None = None
    matthews_over_prior: float | None = None
    macro_f1_over_prior: float | None = None
    confusion: tuple[tuple[int, ...], ...]  # (C, C) row = the class that came, column = the class decided
    reliability: tuple[tuple[int, float, float], ...] = ()  # (bins, 3) rows, mean confidence, share right
    temperature: float | None = None
    seed: int | None = None


def number(value: float) -> float | None:
    """`value`, None for nan, which JSON does not have."""
    return None if np.isnan(value) else float(value)


def as_rows(confusion: Integers) -> tuple[tuple[int, ...], ...]:
    """A confusion matrix as plain numbers."""
    return tuple(tuple(row) for row in confusion.tolist())


def score_forecast(
    method: str,
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    temperature: float,
    training_shares: Floats,
    seed: int | None = None,
) -> Scores:
    """Scores of logits (N, C) at `temperature` against labels (N,)."""
    raw = log_softmax(logits)
    log_probabilities = log_softmax(np.asarray(logits, dtype=np.float64) / temperature)
    probabilities = np.exp(log_probabilities)
    plain = confusion_matrix(probabilities.argmax(axis=1), labels)
    diagram = reliability(probabilities, labels)
    ratios = log_probabilities - np.log(np.maximum(training_shares, SMALLEST_PROBABILITY))
    over_prior = confusion_matrix(ratios.argmax(axis=1), labels)
    return Scores(
        method=method,
        log_loss=log_loss(log_probabilities, labels),
        log_loss_uncalibrated=log_loss(raw, labels),
        direction_auc=number(direction_auc(direction_scores(logits), labels)),
        expected_calibration_error=diagram.expected_calibration_error,
        expected_calibration_error_uncalibrated=reliability(np.exp(raw), labels).expected_calibration_error,
        accuracy=accuracy(plain),
        matthews=matthews(plain),
        macro_f1=macro_f1(plain),
        accuracy_over_prior=accuracy(over_prior),
        matthews_over_prior=matthews(over_prior),
        macro_f1_over_prior=macro_f1(over_prior),
        confusion=as_rows(plain),
        reliability=tuple(
            zip(
                diagram.counts.tolist(),
                diagram.confidences.tolist(),
                diagram.accuracies.tolist(),
                strict=True,
            )
        ),
        temperature=temperature,
        seed=seed,
    )


def score_prior(log_shares: Floats, labels: NDArray[np.integer]) -> Scores:
    """Scores of the training part's class shares (C,) as the forecast of every row."""
    log_probabilities = np.tile(log_shares, (len(labels), 1))
    decided = confusion_matrix(log_probabilities.argmax(axis=1), labels)
    return Scores(
        method=MAJORITY,
        log_loss=log_loss(log_softmax(log_probabilities), labels),
        direction_auc=0.5,
        expected_calibration_error=reliability(np.exp(log_probabilities), labels).expected_calibration_error,
        accuracy=accuracy(decided),
        matthews=matthews(decided),
        macro_f1=macro_f1(decided),
        confusion=as_rows(decided),
    )


def score_rule(
    decisions: Integers, microprice_ticks: NDArray[np.floating], labels: NDArray[np.integer]
) -> Scores:
    """Scores of the microprice rule: its decisions (N,), and the AUC of the raw microprice - mid (N,)."""
    decided = confusion_matrix(decisions, labels)
    return Scores(
        method=MICROPRICE,
        direction_auc=number(direction_auc(microprice_ticks, labels)),
        accuracy=accuracy(decided),
        matthews=matthews(decided),
        macro_f1=macro_f1(decided),
        confusion=as_rows(decided),
    )


def direction_scores(logits: NDArray[np.floating]) -> Floats:
    """(N,) log odds of up against down: what orders rows by direction alone, whatever the chance of flat."""
    wide = np.asarray(logits, dtype=np.float64)
    return np.asarray(wide[:, UP] - wide[:, DOWN])
