"""An evaluation as PNG pictures, reliability diagrams and confusion matrices: drawn to files, no window."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.evaluation import StreamEvaluation
from training.scores import Scores

CLASS_NAMES = ("down", "flat", "up")
SIDE_INCHES = 3.6
DOTS_PER_INCH = 120


def draw_evaluation(stream: StreamEvaluation, directory: Path) -> list[Path]:
    """Write `<stream>-reliability.png` and `<stream>-confusion.png` to `directory`; their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{stream.stream}-{kind}.png" for kind in ("reliability", "confusion")]
    for path, draw in zip(paths, (draw_reliability, draw_confusion), strict=True):
        figure = draw(stream)
        FigureCanvasAgg(figure).print_png(path)
    return paths


def draw_reliability(stream: StreamEvaluation) -> Figure:
    """For each horizon, how often each forecast was right against how sure it was, after calibration."""
    figure, axes = row_of_axes(len(stream.horizons), f"{stream.stream}: reliability after calibration")
    for axis, horizon in zip(axes, stream.horizons, strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle="--")
        for scores in horizon.methods:
            if not scores.reliability:
                continue
            counts, confidences, accuracies = np.array(scores.reliability).T
            filled = counts > 0
            label = f"{scores.method}, ECE {scores.expected_calibration_error:.3f}"
            axis.plot(confidences[filled], accuracies[filled], marker="o", markersize=3, label=label)
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=f"k = {horizon.horizon}")
        axis.legend(fontsize=5, loc="upper left")
    axes[0].set_ylabel("share right")
    return figure


def draw_confusion(stream: StreamEvaluation) -> Figure:
    """For each horizon, the model's confusion matrix (its seeds added up), as shares of each true class."""
    figure, axes = row_of_axes(len(stream.horizons), f"{stream.stream}: decisions by greatest probability")
    for axis, horizon in zip(axes, stream.horizons, strict=True):
        counts = summed_confusion(horizon.methods)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        for true, decided in np.ndindex(*counts.shape):
            colour = "white" if shares[true, decided] > 0.5 else "black"
            text = f"{shares[true, decided]:.2f}\n{counts[true, decided]:,}"
            axis.text(decided, true, text, ha="center", va="center", color=colour, fontsize=8)
        ticks = range(len(CLASS_NAMES))
        axis.set_xticks(ticks, CLASS_NAMES)
        axis.set_yticks(ticks, CLASS_NAMES)
        axis.set(xlabel="decided", title=f"k = {horizon.horizon}")
    axes[0].set_ylabel("came")
    return figure


def summed_confusion(methods: Sequence[Scores]) -> np.ndarray:
    """(C, C) counts of the models' seeds together; of the last baseline where there is no model."""
    seeds = [np.array(scores.confusion) for scores in methods if scores.seed is not None]
    return np.sum(seeds, axis=0) if seeds else np.array(methods[-1].confusion)


def row_of_axes(count: int, heading: str) -> tuple[Figure, list[Any]]:
    """A figure with `count` square axes side by side."""
    figure = Figure(figsize=(SIDE_INCHES * count, SIDE_INCHES + 0.5), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(heading)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])
