"""What a shorter number format costs: the same engine's answers to a held-out part, against its float32 ones.

Measured as the model serves, row after row with the state carried (`ort-window`: window after window), on the
parts that training has not seen. What is allowed is a limit on each measure; beyond one nothing is exported.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.artifact import Artifact
from inference.engines.selection import offered_precisions
from inference.manifest import AccuracyCost
from inference.precision import Precision
from lob.errors import ArtifactError, InputError
from training.forecast import scored_rows
from training.held_out import engine_logits
from training.metrics import confusion_matrix, log_loss, log_softmax, macro_f1, reliability
from training.pool import LabelledStream

PART = "test"
DIGITS = 6
"""After the point, of what a manifest notes."""


@dataclass(frozen=True, kw_only=True)
class AccuracyLimits:
    """What a format may cost at most, on any stream and horizon.

    Log loss (nats), calibration error and macro F1 against float32's; the share of rows whose direction is
    another; the largest difference of a probability.
    """

    log_loss_rise: float = 0.002
    calibration_error_rise: float = 0.01
    macro_f1_loss: float = 0.01
    changed_directions: float = 0.02
    probability_difference: float = 0.05

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if not 0 <= limit < float("inf"):
                raise InputError(f"{name}: {limit} came; allowed: 0 or more")


def measure_costs(
    artifact: Artifact, streams: Sequence[LabelledStream], precisions: Iterable[Precision]
) -> tuple[AccuracyCost, ...]:
    """The cost of each of `precisions` with each engine that offers it, by stream and horizon.

    Streams without a row that can be scored are left out. Raises InputError where none is left, and as the
    engines do.
    """
    wanted = [precision for precision in precisions if precision != "float32"]
    costs: list[AccuracyCost] = []
    for engine, offered in offered_precisions(artifact).items():
        chosen = [precision for precision in wanted if precision in offered]
        for stream in streams if chosen else ():
            scored = _scored_rows(artifact, engine, stream)
            if not len(scored):
                continue
            exact = engine_logits(artifact, stream, PART, engine=engine)[scored]  # (N, H, C)
            for precision in chosen:
                logits = engine_logits(artifact, stream, PART, engine=engine, precision=precision)[scored]
                costs += _stream_costs(artifact, engine, precision, stream, scored, exact, logits)
    if wanted and not costs:
        names = ", ".join(stream.name for stream in streams)
        raise InputError(
            f"data: no row of the {PART} parts of {names} can be scored in {', '.join(wanted)}; "
            "the data sets that the model was trained on are needed"
        )
    return tuple(costs)


def require_within(costs: Iterable[AccuracyCost], limits: AccuracyLimits) -> None:
    """Raise ArtifactError naming the first measure that is beyond its limit, its value and the limit."""
    for cost in costs:
        for name, limit in vars(limits).items():
            came = getattr(cost, name)
            if not came <= limit:  # also where it is not a number
                raise ArtifactError(
                    f"{cost.engine} in {cost.precision}, {cost.stream} at {cost.horizon} rows: {name} "
                    f"{came:.4g} came, at most {limit:g} is allowed; nothing is written"
                )


def _scored_rows(artifact: Artifact, engine: str, stream: LabelledStream) -> NDArray[np.int64]:
    """(N,) the rows of the part that the engine answers, of a long part every k-th."""
    manifest = artifact.manifest
    warm_after = manifest.window_length if engine == "ort-window" else manifest.warmup_rows
    return scored_rows(stream, PART, warm_after)


def _stream_costs(
    artifact: Artifact,
    engine: str,
    precision: Precision,
    stream: LabelledStream,
    scored: NDArray[np.int64],
    exact: NDArray[np.float32],
    reduced: NDArray[np.float32],
) -> Iterable[AccuracyCost]:
    labels = stream.part_labels(PART)[scored]  # (N, H)
    for index, horizon in enumerate(stream.horizons):
        temperature = artifact.manifest.temperatures[index]
        before = log_softmax(exact[:, index].astype(np.float64) / temperature)  # (N, C)
        after = log_softmax(reduced[:, index].astype(np.float64) / temperature)
        known = labels[:, index] >= 0
        if not known.any():
            continue
        was = _scores(before[known], labels[known, index])
        now = _scores(after[known], labels[known, index])
        yield AccuracyCost(
            engine=engine,
            precision=precision,
            stream=stream.name,
            horizon=horizon,
            rows=int(known.sum()),
            log_loss=_rounded(now.log_loss),
            log_loss_rise=_rounded(now.log_loss - was.log_loss),
            calibration_error=_rounded(now.calibration_error),
            calibration_error_rise=_rounded(now.calibration_error - was.calibration_error),
            macro_f1=_rounded(now.macro_f1),
            macro_f1_loss=_rounded(was.macro_f1 - now.macro_f1),
            changed_directions=_rounded(float((before.argmax(axis=1) != after.argmax(axis=1)).mean())),
            probability_difference=_rounded(float(np.abs(np.exp(after) - np.exp(before)).max())),
        )


@dataclass(frozen=True, kw_only=True)
class _Scores:
    """What is held against limits."""

    log_loss: float
    calibration_error: float
    macro_f1: float


def _scores(log_probabilities: NDArray[np.float64], labels: NDArray[np.int8]) -> _Scores:
    probabilities = np.exp(log_probabilities)
    return _Scores(
        log_loss=log_loss(log_probabilities, labels),
        calibration_error=reliability(probabilities, labels).expected_calibration_error,
        macro_f1=macro_f1(confusion_matrix(probabilities.argmax(axis=1), labels)),
    )


def _rounded(value: float) -> float:
    return round(value, DIGITS) + 0.0  # no -0.0
