"""The scores against scikit-learn's and against plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from lob.errors import InputError
from training.metrics import (
    accuracy,
    class_shares,
    confusion_matrix,
    direction_auc,
    log_loss,
    log_softmax,
    macro_f1,
    matthews,
    reliability,
)

classes = st.lists(st.integers(0, 2), min_size=1, max_size=60)


def plain_ece(probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int) -> float:
    """One row after another into its bin."""
    contents: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(probabilities, labels, strict=True):
        confidence = max(row)
        right = list(row).index(confidence) == label
        contents.setdefault(min(int(confidence * bins), bins - 1), []).append((confidence, right))
    error = 0.0
    for members in contents.values():
        confidence = sum(c for c, _ in members) / len(members)
        hit_rate = sum(r for _, r in members) / len(members)
        error += len(members) / len(labels) * abs(hit_rate - confidence)
    return error


@pytest.fixture
def scored() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """500 rows of logits that know something of their labels."""
    rng = np.random.default_rng(5)
    labels = rng.choice(3, size=500, p=[0.2, 0.5, 0.3])
    return rng.normal(size=(500, 3)) + 1.5 * np.eye(3)[labels], labels


def test_scores_equal_scikit_learns(scored: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    logits, labels = scored
    log_probabilities = log_softmax(logits)
    probabilities = np.exp(log_probabilities)
    decisions = probabilities.argmax(axis=1)
    confusion = confusion_matrix(decisions, labels)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(labels, decisions))
    assert accuracy(confusion) == pytest.approx(reference.accuracy_score(labels, decisions))
    assert macro_f1(confusion) == pytest.approx(reference.f1_score(labels, decisions, average="macro"))
    assert matthews(confusion) == pytest.approx(reference.matthews_corrcoef(labels, decisions))
    assert log_loss(log_probabilities, labels) == pytest.approx(reference.log_loss(labels, probabilities))
    moved = labels != 1
    scores = logits[:, 2] - logits[:, 0]
    expected = reference.roc_auc_score(labels[moved] == 2, scores[moved])
    assert direction_auc(scores, labels) == pytest.approx(expected)


@given(labels=classes, seed=st.integers(0, 1000))
def test_decision_scores_equal_scikit_learns_for_any_decisions(labels: list[int], seed: int) -> None:
    came = np.array(labels)
    decisions = np.random.default_rng(seed).integers(0, 3, len(came))
    confusion = confusion_matrix(decisions, came)
    expected = reference.f1_score(came, decisions, labels=[0, 1, 2], average="macro", zero_division=0)
    assert macro_f1(confusion) == pytest.approx(expected)
    if len(set(labels) | set(decisions.tolist())) > 1:  # scikit-learn warns about a single label
        assert matthews(confusion) == pytest.approx(reference.matthews_corrcoef(came, decisions))
    else:
        assert matthews(confusion) == 0.0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 3)), min_size=1, max_size=40))
def test_direction_auc_counts_ordered_pairs(rows: list[tuple[int, int]]) -> None:
    labels = np.array([label for label, _ in rows])
    scores = np.array([float(score) for _, score in rows])
    ups = scores[labels == 2]
    downs = scores[labels == 0]
    pairs = [(u > d) + 0.5 * (u == d) for u in ups for d in downs]
    result = direction_auc(scores, labels)
    if pairs:
        assert result == pytest.approx(sum(pairs) / len(pairs))
    else:
        assert math.isnan(result)


def test_calibration_error_equals_the_plain_loop(
    scored: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    logits, labels = scored
    probabilities = np.exp(log_softmax(logits))
    diagram = reliability(probabilities, labels)
    assert diagram.expected_calibration_error == pytest.approx(plain_ece(probabilities, labels, 15))
    assert diagram.counts.sum() == len(labels)


def test_a_certain_and_right_forecast_has_no_calibration_error() -> None:
    labels = np.array([0, 1, 2, 2])
    assert reliability(np.eye(3)[labels], labels).expected_calibration_error == 0.0


def test_a_certain_and_wrong_forecast_has_the_whole_calibration_error() -> None:
    assert reliability(np.eye(3)[[1, 2, 0]], np.array([0, 1, 2])).expected_calibration_error == 1.0


def test_log_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(log_softmax(np.array([[1e4, 0.0, -1e4]])), [[0.0, -1e4, -2e4]])


def test_class_shares_sum_to_one() -> None:
    np.testing.assert_allclose(class_shares(np.array([0, 1, 1, 2])), [0.25, 0.5, 0.25])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, -1]), "labels: -1..1 came"),
        (np.array([0, 3, 1]), "labels: 0..3 came"),
        (np.array([0, 1]), r"labels: shape \(2,\) came, \(3,\) is needed"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: NDArray[np.int64], message: str) -> None:
    with pytest.raises(InputError, match=message):
        log_loss(np.zeros((3, 3)), labels)


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="at least one labelled row"):
        class_shares(np.empty(0, dtype=np.int64))
