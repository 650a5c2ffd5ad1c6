"""Where training starts: the normaliser's statistics, and the linear path as a fitted logistic regression."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.mamba_lob import MambaLOB
from training.metrics import Floats, log_softmax
from training.mirror import reflect_labels, reflection
from training.pool import LabelledStream
from training.thinning import every

LOW_QUANTILE, HIGH_QUANTILE = 0.05, 0.95
NORMAL_WIDTH = 3.2897  # between those quantiles of a normal distribution of scale 1
RIDGE = 1e-5
ITERATIONS = 100
TOLERANCE = 1e-12
SMALLEST_STEP = 1e-4


def training_rows(
    streams: Sequence[LabelledStream], *, reflect: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The pooled training parts, (N, F) and (N, H); with `reflect` followed by their reflections.

    Of more rows than `training.thinning` allows every k-th.
    """
    parts = [stream.split.training for stream in streams]
    k = every(sum(len(part) for part in parts))
    rows = np.concatenate(
        [s.dataset.rows[part.start : part.stop : k] for s, part in zip(streams, parts, strict=True)]
    )
    labels = np.concatenate([stream.part_labels("training")[::k] for stream in streams])
    if reflect:
        columns, signs = reflection(streams[0].dataset.schema)
        rows = np.concatenate([rows, rows[:, columns] * signs])
        labels = np.concatenate([labels, reflect_labels(labels)])
    return rows, labels.astype(np.int64)


def fit_normaliser(model: MambaLOB, rows: NDArray[np.float32]) -> None:
    """Set the model's normaliser to median and spread of training rows (N, F).

    The spread is the distance of the 5 % and 95 % quantiles in units of a normal distribution's: sizes and
    flows have tails that would make a standard deviation of nearly nothing else. A feature without spread
    between those quantiles takes its standard deviation.
    """
    wide = rows.astype(np.float64)
    median, low, high = np.quantile(wide, [0.5, LOW_QUANTILE, HIGH_QUANTILE], axis=0)
    spread = (high - low) / NORMAL_WIDTH
    scale = np.where(spread > 0, spread, wide.std(axis=0))
    model.normaliser.set(torch.from_numpy(median).float(), torch.from_numpy(scale).float())


def fit_linear_path(model: MambaLOB, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Set the model's linear path to the multinomial logistic regression of training rows (N, F), (N, H).

    The state-space path still answers zero then, so the model is that regression.
    """
    with torch.no_grad():
        inputs = model.normaliser(torch.from_numpy(rows))[:, model.linear_columns].numpy()  # (N, 3)
    weights, biases = [], []
    for horizon in range(labels.shape[1]):
        known = labels[:, horizon] >= 0
        fitted = fit_logistic(inputs[known].astype(np.float64), labels[known, horizon], model.config.classes)
        weights.append(fitted[:-1])  # (3, C)
        biases.append(fitted[-1])  # (C,)
    with torch.no_grad():
        model.linear.weight.copy_(torch.from_numpy(np.concatenate(weights, axis=1)))  # (3, H * C)
        model.linear_bias.copy_(torch.from_numpy(np.concatenate(biases)))  # (H * C,)


def fit_logistic(inputs: Floats, classes: NDArray[np.int64], count: int) -> Floats:
    """(K + 1, C): weights and, last, bias of the multinomial logistic regression of (N, K) on classes (N,).

    Newton's method on the mean log loss with a small ridge, which also settles what the softmax leaves free:
    adding the same number to every class. Steps are halved until the loss falls.
    """
    design = np.hstack([inputs, np.ones((len(inputs), 1))])  # (N, K + 1)
    targets = np.eye(count)[classes]  # (N, C)
    size = design.shape[1]

    def objective(parameters: Floats) -> float:
        loss = -(log_softmax(design @ parameters) * targets).sum() / len(design)
        return float(loss + 0.5 * RIDGE * np.square(parameters).sum())

    parameters = np.zeros((size, count))
    value = objective(parameters)
    for _ in range(ITERATIONS):
        probabilities = np.exp(log_softmax(design @ parameters))  # (N, C)
        gradient = design.T @ (probabilities - targets) / len(design) + RIDGE * parameters  # (K + 1, C)
        hessian = np.empty((count, size, count, size))
        for a in range(count):
            for b in range(count):
                curvature = probabilities[:, a] * ((a == b) - probabilities[:, b])  # (N,)
                hessian[a, :, b] = (design * curvature[:, None]).T @ design / len(design)
        square = hessian.reshape(count * size, count * size) + RIDGE * np.eye(count * size)
        step = np.linalg.solve(square, gradient.T.ravel()).reshape(count, size).T  # (K + 1, C)
        scale = 1.0
        while (trial := objective(parameters - scale * step)) > value and scale > SMALLEST_STEP:
            scale /= 2
        parameters = parameters - scale * step
        if value - trial < TOLERANCE:
            break
        value = trial
    return parameters
