"""Scores of class probabilities against labels: one horizon at a time, plain numpy, no state.

Labels are 0 down, 1 flat, 2 up; probabilities are (N, 3) float64. Rows without a label (-1) are
the caller's to leave out: every function here refuses them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lob.errors import InputError
from lob.labels import FLAT, UP

CLASSES = 3
ECE_BINS = 15

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def log_softmax(logits: NDArray[np.floating]) -> Floats:
    """Log probabilities of `logits` along the last axis, in float64."""
    wide = np.asarray(logits, dtype=np.float64)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def checked_labels(labels: NDArray[np.integer], rows: int) -> Integers:
    """`labels` as int64; InputError unless there are `rows` of them, all 0, 1 or 2."""
    wide = np.asarray(labels, dtype=np.int64)
    if wide.shape != (rows,):
        raise InputError(f"labels: shape {wide.shape} came, ({rows},) is needed, one for each row scored")
    if rows == 0:
        raise InputError("labels: none came, at least one labelled row is needed")
    if wide.min() < 0 or wide.max() >= CLASSES:
        raise InputError(
            f"labels: {wide.min()}..{wide.max()} came, only 0 (down), 1 (flat), 2 (up) are scored"
        )
    return wide


def log_loss(log_probabilities: Floats, labels: NDArray[np.integer]) -> float:
    """Mean negative log probability of the class that came, in nats."""
    classes = checked_labels(labels, len(log_probabilities))
    return float(-log_probabilities[np.arange(len(classes)), classes].mean())


def confusion_matrix(decisions: NDArray[np.integer], labels: NDArray[np.integer]) -> Integers:
    """(3, 3) counts: row = the class that came, column = the class decided."""
    classes = checked_labels(labels, len(decisions))
    return np.bincount(classes * CLASSES + decisions, minlength=CLASSES * CLASSES).reshape(CLASSES, CLASSES)


def accuracy(confusion: Integers) -> float:
    """Share of rows on the diagonal of a confusion matrix."""
    return float(np.trace(confusion) / confusion.sum())


def macro_f1(confusion: Integers) -> float:
    """Unweighted mean over the three classes of F1; a class with neither rows nor decisions counts 0."""
    hits = np.diag(confusion).astype(np.float64)
    sizes = confusion.sum(axis=0) + confusion.sum(axis=1)
    return float(np.mean(2 * hits / np.maximum(sizes, 1)))


def matthews(confusion: Integers) -> float:
    """Matthews correlation for several classes (Gorodkin 2004, R_K); 0 where a margin is one class only."""
    total = float(confusion.sum())
    came = confusion.sum(axis=1).astype(np.float64)
    decided = confusion.sum(axis=0).astype(np.float64)
    spread = (total * total - decided @ decided) * (total * total - came @ came)
    if spread == 0.0:
        return 0.0
    return float((np.trace(confusion) * total - came @ decided) / np.sqrt(spread))


def direction_auc(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Area under the ROC curve of up against down on the rows that moved; nan where one of them is missing.

    Equal to the share of (up, down) pairs that `scores` puts in order, a tie counting half
    (Mann-Whitney), computed from mid-ranks.
    """
    classes = checked_labels(labels, len(scores))
    moved = classes != FLAT
    up = classes[moved] == UP
    ups = int(up.sum())
    downs = int(moved.sum()) - ups
    if ups == 0 or downs == 0:
        return float("nan")
    ranks = mid_ranks(np.asarray(scores, dtype=np.float64)[moved])
    return float((ranks[up].sum() - ups * (ups + 1) / 2) / (ups * downs))


def mid_ranks(values: Floats) -> Floats:
    """Ranks 1..N of `values`, equal values sharing the mean of theirs."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[starts[1:], len(values)]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """What a reliability diagram draws: for each of the bins of confidence, how often it was right."""

    counts: Integers  # (bins,) rows in the bin
    confidences: Floats  # (bins,) mean confidence of those rows; 0 where there are none
    accuracies: Floats  # (bins,) share of them that were right; 0 where there are none

    @property
    def expected_calibration_error(self) -> float:
        """Mean over rows of |accuracy - confidence| of the row's bin (Guo et al. 2017, eq. 3)."""
        return float(self.counts @ np.abs(self.accuracies - self.confidences) / self.counts.sum())


def reliability(probabilities: Floats, labels: NDArray[np.integer], bins: int = ECE_BINS) -> Reliability:
    """Rows binned by the probability of their most probable class, in `bins` bins of equal width."""
    classes = checked_labels(labels, len(probabilities))
    confidences = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == classes).astype(np.float64)
    bin_of = np.minimum((confidences * bins).astype(np.int64), bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    divisors = np.maximum(counts, 1)
    return Reliability(
        counts=counts,
        confidences=np.bincount(bin_of, weights=confidences, minlength=bins) / divisors,
        accuracies=np.bincount(bin_of, weights=right, minlength=bins) / divisors,
    )


def class_shares(labels: NDArray[np.integer]) -> Floats:
    """(3,) share of each class among `labels`."""
    classes = checked_labels(labels, len(labels))
    return np.asarray(np.bincount(classes, minlength=CLASSES) / len(classes))
