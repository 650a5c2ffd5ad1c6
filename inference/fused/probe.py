"""Holding a fused step against `ort-step` on a sequence of rows before it may serve.

What is allowed stands in `inference.precision`.
"""

import dataclasses
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from inference.artifact import Artifact
from inference.engines.engine import Engine, Logits, Row
from inference.fused.model_weights import ModelWeights
from inference.precision import logit_difference

Rows = npt.NDArray[np.float32]

PROBE_ROWS = 256
PROBE_ROWS_WITHOUT_JIT = 32
_SEED = 44
_MEMORY = 0.9  # how much of its past a feature keeps from row to row
_SPREAD = 1.5  # standard deviation of a feature, in scales of the normaliser


def probe_rows(weights: ModelWeights, count: int) -> Rows:
    """`count` raw rows (T, F) around the normaliser's means, within its bounds, each near the one before."""
    rng = np.random.default_rng(_SEED)
    sizes, graph = weights.sizes, weights.graph
    steps = rng.normal(scale=_SPREAD, size=(count, sizes.features))
    rows = np.empty_like(steps)  # in scales of the normaliser
    rows[0] = steps[0]
    for t in range(1, count):
        rows[t] = _MEMORY * rows[t - 1] + np.sqrt(1 - _MEMORY**2) * steps[t]
    inverse_scale = graph.tensor("normaliser.inverse_scale").astype(np.float64)
    scale = 1 / np.where(inverse_scale == 0, 1.0, inverse_scale)
    raw = np.clip(rows, sizes.clip_low, sizes.clip_high) * scale + graph.tensor("normaliser.mean")
    return np.ascontiguousarray(raw, np.float32)


def largest_difference(
    push: Callable[[Row], Logits], reset: Callable[[], None], reference: Engine, rows: Rows
) -> float:
    """The largest difference from `reference` over `rows`, both reset before and once within them.

    Relative to the reference's logit where that is above 1. Not a number where either answers something that
    is not finite.
    """
    difference = 0.0
    for part in np.split(rows, [len(rows) // 3]):
        reset()
        reference.reset()
        for row in part:
            came, wanted = push(row), reference.push(row)
            assert wanted is not None, "a reference that answers every row"
            difference = float(np.maximum(difference, logit_difference(came, wanted)))
    reset()
    return difference


def answering_every_row(artifact: Artifact) -> Artifact:
    """`artifact` without a warm-up, for a reference that is to answer from the first row on."""
    return dataclasses.replace(artifact, manifest=msgspec.structs.replace(artifact.manifest, warmup_rows=1))
