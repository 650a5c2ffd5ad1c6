"""The parity gate: a graph that does not answer what its model answers is never written.

Held against each other on real rows: the model's `forward` in PyTorch, the window graph, and the step graph
run row by row with its state handed on. The sessions are those that serve (`inference.engines`).
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from inference.engines.ort_session import Session, new_session
from inference.graph_interface import LOGITS, ROW, WINDOW
from inference.manifest import GraphKind
from lob.errors import ArtifactError, InputError
from models.causal_model import CausalModel
from training.scratch import PIECE_ROWS

TOLERANCE = 1e-5
STEPS = 100
MAXIMUM_STARTS = 8

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity:
    """The greatest absolute differences between any two logits that should be equal.

    `window` and `step` are the graphs' from PyTorch's, `window_from_step` one graph's from the other's, each
    over `starts` stretches of real rows: the step graph after each of `steps` rows, the window graph after
    `window_length` rows.
    """

    window: float
    step: float
    window_from_step: float
    tolerance: float
    starts: int
    steps: int
    window_length: int

    @property
    def holds(self) -> bool:
        """Whether all three are numbers within the tolerance."""
        return all(value <= self.tolerance for value in self.differences.values())

    @property
    def differences(self) -> dict[str, float]:
        """The three differences by what is compared."""
        return {
            "window graph from PyTorch": self.window,
            "step graph from PyTorch": self.step,
            "window graph from step graph": self.window_from_step,
        }


def require_parity(
    model: CausalModel,
    graphs: Mapping[GraphKind, bytes],
    rows: Floats,
    *,
    window_length: int,
    tolerance: float = TOLERANCE,
) -> Parity:
    """`measure_parity`, and ArtifactError naming what differs where it is above the tolerance."""
    parity = measure_parity(model, graphs, rows, window_length=window_length, tolerance=tolerance)
    if not parity.holds:
        said = ", ".join(f"{name} by {value:.2g}" for name, value in parity.differences.items())
        raise ArtifactError(
            f"the graphs do not answer what the model answers: logits differ ({said}); "
            f"at most {tolerance:g} is allowed; nothing is written"
        )
    return parity


def measure_parity(
    model: CausalModel,
    graphs: Mapping[GraphKind, bytes],
    rows: Floats,
    *,
    window_length: int,
    tolerance: float = TOLERANCE,
) -> Parity:
    """How far both graphs are from the model and from each other on `rows` (T, F), raw as they are served.

    Up to 8 stretches, spread over the rows, each from a zero state. Raises InputError where the rows do not
    fit, ArtifactError where onnxruntime refuses a graph.
    """
    stretches = _stretches(rows, model.features, max(window_length, STEPS))  # (S, T, F)
    expected = _expected(model, stretches)  # (S, T, H, C)
    stepped = _step_logits(
        new_session(graphs["step"], "step", "the step graph"), model, stretches[:, :STEPS]
    )  # (S, 100, H, C)
    windows = stretches[:, :window_length]  # (S, L, F)
    served = _window_logits(new_session(graphs["window"], "window", "the window graph"), windows)  # (S, H, C)
    at_window = stepped[:, window_length - 1] if window_length <= STEPS else expected[:, window_length - 1]
    return Parity(
        window=_difference(served, expected[:, window_length - 1]),
        step=_difference(stepped, expected[:, :STEPS]),
        window_from_step=_difference(served, at_window),
        tolerance=tolerance,
        starts=len(stretches),
        steps=STEPS,
        window_length=window_length,
    )


def _stretches(rows: Floats, features: int, length: int) -> Floats:
    """(S, length, F): stretches of successive rows whose first rows are spread evenly."""
    if rows.ndim != 2 or rows.shape[1] != features:
        raise InputError(f"rows have shape {rows.shape}; allowed: (T, {features})")
    if len(rows) < length:
        raise InputError(f"{len(rows)} rows came; the parity gate needs at least {length}")
    pieces = (rows[start : start + PIECE_ROWS] for start in range(0, len(rows), PIECE_ROWS))
    if not all(np.isfinite(piece).all() for piece in pieces):
        raise InputError("rows hold a number that is not finite")
    spare = len(rows) - length
    starts = np.unique(np.linspace(0, spare, MAXIMUM_STARTS).astype(np.int64))
    return np.stack([rows[start : start + length] for start in starts]).astype(np.float32)


def _expected(model: CausalModel, stretches: Floats) -> Floats:
    """PyTorch's logits at every position, (S, T, H, C)."""
    with torch.inference_mode():
        return model.forward(torch.from_numpy(stretches)).numpy()


def _step_logits(session: Session, model: CausalModel, stretches: Floats) -> Floats:
    """The step graph's logits after every row, its state handed on, (S, T, H, C)."""
    names = model.state_names()
    outputs = [LOGITS, *(f"{name}_out" for name in names)]
    logits = []
    for stretch in stretches:
        state = [value.numpy() for value in model.initial_state(1)]
        for row in stretch:
            given = {f"{name}_in": value for name, value in zip(names, state, strict=True)}
            answer, *state = _run(session, outputs, {ROW: row[None], **given})
            logits.append(answer[0])  # (H, C)
    return np.stack(logits).reshape(*stretches.shape[:2], *logits[0].shape)


def _window_logits(session: Session, windows: Floats) -> Floats:
    """The window graph's logits of each window, one at a time as it serves, (S, H, C)."""
    return np.concatenate([_run(session, [LOGITS], {WINDOW: window[None]})[0] for window in windows])


def _run(session: Session, outputs: list[str], inputs: dict[str, Floats]) -> list[Floats]:
    try:
        answers: list[Floats] = session.run(outputs, inputs)
    except Exception as error:  # onnxruntime's own errors share no base class but Exception
        reason = " ".join(str(error).split())
        raise ArtifactError(f"a graph does not take what its model takes: {reason}") from error
    return answers


def _difference(came: Floats, wanted: Floats) -> float:
    """The greatest absolute difference; nan where either holds one, infinite where the shapes differ."""
    if came.shape != wanted.shape:
        return float("inf")
    return float(np.abs(came.astype(np.float64) - wanted.astype(np.float64)).max())
