"""What a model answered when it was written, held against what its graphs answer wherever they are opened.

A manifest's checksums say that the files are those that the manifest names; its recorded answers say that
they compute what they computed then. A weight that was altered together with its checksum, and an onnxruntime
or processor that computes something else, are both refused before the first tick.

The rows are made up from the scales of the normaliser, which stand in the manifest, too. A step takes them
from a zero state; a window, the L of them, answers what the step answers after the last.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from inference.graph_interface import LOGITS, ROW, WINDOW
from inference.manifest import GraphKind, Manifest, RecordedAnswers
from inference.precision import logit_difference
from lob.errors import ArtifactError

Rows = npt.NDArray[np.float32]
Logits = npt.NDArray[np.float32]

TOLERANCES: Mapping[str, float] = {"float32": 2e-5, "float16": 4e-2, "int8": 0.3}
"""On the largest difference of a logit, as `logit_difference` counts it: twice what is allowed between two
engines (`inference.precision`), since the recording may come from another processor."""

RECORDED_AT = (8, 16, 32)
"""After so many rows, and after the last."""

_AMPLITUDE = 1.5  # in scales of the normaliser, well within its bounds
_TURN = 0.7  # of the slowest feature, in radians a row
_GOLDEN = 0.6180339887498949  # spreads the features' speeds: no two repeat together


def made_up_rows(recorded: RecordedAnswers, length: int) -> Rows:
    """(T, F) raw rows: each feature swings around its mean at a speed of its own. No random numbers."""
    mean, scale = np.array(recorded.mean), np.array(recorded.scale)
    feature = np.arange(len(mean))
    turns = _TURN * (1 + feature * _GOLDEN % 1)
    swing = np.sin(np.arange(1, length + 1)[:, None] * turns + feature)
    return np.ascontiguousarray(mean + _AMPLITUDE * scale * swing, np.float32)


def record_answers(
    session: ort.InferenceSession, kind: GraphKind, manifest: Manifest, mean: Rows, scale: Rows
) -> RecordedAnswers | None:
    """What the float32 `kind` graph in `session` answers; None where that is not finite.

    `mean` and `scale` (F,): around what the rows are made up, by feature.
    """
    empty = RecordedAnswers(mean=tuple(mean.tolist()), scale=tuple(scale.tolist()), rows=(), logits=())
    at, logits = _answers(session, kind, manifest, empty)
    if not np.isfinite(logits).all():
        return None
    return RecordedAnswers(mean=empty.mean, scale=empty.scale, rows=at, logits=tuple(map(_nested, logits)))


def check_answers(
    session: ort.InferenceSession, kind: GraphKind, manifest: Manifest, precision: str, source: str
) -> float | None:
    """The largest difference of the graph in `session` from the recorded answers; None where none are there.

    Raises ArtifactError beyond the tolerance of `precision`; `source` names the graph.
    """
    recorded = manifest.recorded_answers
    if recorded is None:
        return None
    at, logits = _answers(session, kind, manifest, recorded)
    if not set(at) <= set(recorded.rows):
        raise ArtifactError(
            f"{source}: recorded_answers.rows: {list(recorded.rows)} came, this program needs {list(at)}"
        )
    wanted = dict(zip(recorded.rows, recorded.logits, strict=True))
    shape = (len(manifest.horizons), len(manifest.classes))
    compared = []
    for row, came in zip(at, logits, strict=True):
        try:
            compared.append((came, np.array(wanted[row], np.float32).reshape(shape)))
        except ValueError as error:
            raise ArtifactError(
                f"{source}: recorded_answers.logits: after {row} rows {wanted[row]} came, "
                f"numbers of the shape {list(shape)} are allowed"
            ) from error
    difference = float(np.max([logit_difference(came, answer) for came, answer in compared]))
    if not difference <= TOLERANCES[precision]:  # also where it is not a number
        raise ArtifactError(
            f"{source}: its answers differ by {difference:.2e} from those recorded in the manifest when the "
            f"model was written; at most {TOLERANCES[precision]:g} is allowed in {precision}"
        )
    return difference


def _answers(
    session: ort.InferenceSession, kind: GraphKind, manifest: Manifest, recorded: RecordedAnswers
) -> tuple[tuple[int, ...], Sequence[Logits]]:
    """After how many rows, and logits (H, C) there, of the graph in `session`."""
    length = manifest.window_length
    rows = made_up_rows(recorded, length)
    if kind == "window":
        return (length,), [session.run([LOGITS], {WINDOW: rows[None]})[0][0]]
    at = tuple(sorted({row for row in RECORDED_AT if row < length} | {length}))
    names = [tensor.name for tensor in manifest.state]
    state = {f"{tensor.name}_in": np.zeros(tensor.shape, np.float32) for tensor in manifest.state}
    found = []
    for count, row in enumerate(rows, start=1):
        logits, *after = session.run([LOGITS, *(f"{name}_out" for name in names)], {ROW: row[None], **state})
        state = {f"{name}_in": array for name, array in zip(names, after, strict=True)}
        if count in at:
            found.append(logits[0])
    return at, found


def _nested(logits: Logits) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(horizon) for horizon in logits.tolist())
