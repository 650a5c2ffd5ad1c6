"""Whether all engines answer alike on recorded frames: every row through each, held against `ort-step`.

Each engine, number format and way through the pipeline (the fused one as one call and in stages) has a
pipeline of its own, fed with the same frames. The reference is `ort-step` in float32: for `ort-window`, whose
state starts from zero at every row, that of a step from zero over the same L rows.

A difference is that of one logit, relative to that logit where it is above 1, as `inference.precision`
counts it and allows it. What a subscriber sees is reported beside: probabilities and directions.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from inference.artifact import Artifact
from inference.calibration import Calibration
from inference.engines.engine import Logits
from inference.engines.ort_step import OrtStepEngine
from inference.engines.selection import offered_precisions
from inference.fused.probe import answering_every_row
from inference.pipeline import Pipeline
from inference.precision import TOLERANCES, logit_difference
from inference.prediction import Prediction
from lob.captures import CapturedFrame
from lob.errors import ArtifactError, InputError
from lob.instrument import Instrument
from lob.window import RingWindow

REFERENCE = "ort-step"

Answer = list[tuple[int, list[float]]]
"""Direction and probabilities (C,) by horizon."""


@dataclass(kw_only=True)
class Agreement:
    """How one engine's answers stood to the reference's.

    `rows` were compared. `changed_directions` counts, over all rows and horizons (`directions`), those that
    were another. `unequal_rows` are those that only one of the two answered, and for the one call those whose
    bits were not the staged pipeline's.
    """

    engine: str
    precision: str
    one_call: bool
    tolerance: float
    rows: int = 0
    largest_difference: float = 0.0
    largest_probability_difference: float = 0.0
    directions: int = 0
    changed_directions: int = 0
    unequal_rows: int = 0

    @property
    def changed_share(self) -> float:
        """The share of directions that were another."""
        return self.changed_directions / max(self.directions, 1)

    @property
    def agrees(self) -> bool:
        """Whether all that was compared was within the tolerance."""
        return self.unequal_rows == 0 and self.largest_difference <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class AgreementReport:
    """What a comparison came to; `refused` says by engine and format why one could not be compared.

    `unanswered` says where there was no row to compare in which state the book ended, and why.
    """

    frames: int
    rows: int
    agreements: list[Agreement]
    refused: dict[str, str] = field(default_factory=dict)
    unanswered: str = ""

    @property
    def agrees(self) -> bool:
        """Whether there were rows to compare, and every engine could be made and agrees."""
        return self.rows > 0 and not self.refused and all(agreement.agrees for agreement in self.agreements)


def compare_engines(
    artifact: Artifact,
    instrument: Instrument,
    frames: Iterable[CapturedFrame],
    *,
    venue: str = "bybit",
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    window_every: int = 1,
    on_frames: Callable[[int], None] | None = None,
) -> AgreementReport:
    """Run `frames` through every engine and number format that `artifact` has; hold their answers together.

    `engines`, `precisions`: only these. `window_every`: compare `ort-window` at one in so many rows, since
    its reference takes L steps for each. `on_frames` is told how many frames were taken so far. Raises as
    `Pipeline.create` where the reference cannot be made, InputError where nothing is left to compare.
    """
    if window_every < 1:
        raise InputError(f"window_every: {window_every} came; allowed: 1 or more")

    def connected(engine: str, precision: str, *, staged: bool) -> Pipeline:
        pipeline = Pipeline.create(
            artifact, instrument, engine=engine, precision=precision, venue=venue, staged=staged
        )
        pipeline.on_connected()
        return pipeline

    reference = connected(REFERENCE, "float32", staged=True)
    steps: list[_StepSubject] = []
    windows: list[_WindowSubject] = []
    refused: dict[str, str] = {}
    for engine, offered in offered_precisions(artifact).items():
        for precision in offered:
            if (engines and engine not in engines) or (precisions and precision not in precisions):
                continue
            try:
                pipeline = connected(engine, precision, staged=engine == "fused")
                if engine == "ort-window":
                    windows.append(_WindowSubject(pipeline, artifact, reference.rows.window, window_every))
                    continue
                staged = _StepSubject(pipeline)
                steps.append(staged)
                if engine == "fused":
                    steps.append(_StepSubject(connected(engine, precision, staged=False), staged=staged))
            except ArtifactError as error:
                refused[f"{engine} {precision}"] = str(error)
    if not steps and not windows:
        said = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise InputError(f"engine, precision: nothing to compare with model {artifact.name} {said}".rstrip())
    taken = rows = 0
    for receive_ns, frame in frames:
        wanted = reference.on_frame(frame, receive_ns)
        rows += wanted is not None
        for step in steps:
            step.take(frame, receive_ns, wanted, reference.engine.logits)
        for window in windows:
            window.take(frame, receive_ns, wanted)
        taken += 1
        if on_frames is not None:
            on_frames(taken)
    return AgreementReport(
        frames=taken,
        rows=rows,
        agreements=[*(step.agreement for step in steps), *(window.agreement for window in windows)],
        refused=refused,
        unanswered="" if rows else f"{reference.state.value}: {reference.reason or 'no reason'}",
    )


class _StepSubject:
    """A pipeline whose engine carries its state on, as the reference does."""

    def __init__(self, pipeline: Pipeline, *, staged: "_StepSubject | None" = None) -> None:
        """`staged`: the same in stages, fed before this one, which is one call."""
        self.agreement = _new_agreement(pipeline, one_call=staged is not None)
        self.answer: Answer | None = None
        self._pipeline = pipeline
        self._staged = staged

    def take(self, frame: bytes, receive_ns: int, wanted: Prediction | None, logits: Logits) -> None:
        """Take a frame that the reference answered with `wanted` and `logits` (H, C)."""
        came = self._pipeline.on_frame(frame, receive_ns)
        self.answer = _answer(came)
        unlike_staged = self._staged is not None and self.answer != self._staged.answer
        if unlike_staged or (came is None) != (wanted is None):
            self.agreement.unequal_rows += 1
        elif wanted is not None:
            _compare(self.agreement, self.answer, self._pipeline.engine.logits, _answer(wanted), logits)


class _WindowSubject:
    """A pipeline whose engine takes the last L rows, beside steps from a zero state over the same rows."""

    def __init__(self, pipeline: Pipeline, artifact: Artifact, ring: RingWindow, every: int) -> None:
        """`ring` holds the reference's rows; one in `every` is compared."""
        self.agreement = _new_agreement(pipeline, one_call=False)
        self._pipeline = pipeline
        self._reference = OrtStepEngine(answering_every_row(artifact))
        self._calibration = Calibration(artifact.manifest.temperatures, len(artifact.manifest.classes))
        self._ring = ring
        self._every = every
        self._seen = 0

    def take(self, frame: bytes, receive_ns: int, wanted: Prediction | None) -> None:
        """Take a frame that the reference answered with `wanted`."""
        came = self._pipeline.on_frame(frame, receive_ns)
        ring = self._ring
        if came is None:
            self.agreement.unequal_rows += wanted is not None and ring.count == ring.length
            return
        self._seen += 1
        if self._seen % self._every:
            return
        reference, calibration = self._reference, self._calibration
        reference.reset()
        for row in ring.window():
            reference.push(row)
        calibration.apply(reference.logits)
        directions = (calibration.best - 1).tolist()
        answer = list(zip(directions, calibration.probabilities.tolist(), strict=True))
        _compare(self.agreement, _answer(came), self._pipeline.engine.logits, answer, reference.logits)


def _new_agreement(pipeline: Pipeline, *, one_call: bool) -> Agreement:
    precision = pipeline.precision
    return Agreement(
        engine=pipeline.engine.name, precision=precision, one_call=one_call, tolerance=TOLERANCES[precision]
    )


def _answer(prediction: Prediction | None) -> Answer | None:
    if prediction is None:
        return None
    return [(horizon.direction, horizon.probabilities) for horizon in prediction.horizons]


def _compare(
    agreement: Agreement, answer: Answer | None, logits: Logits, wanted: Answer | None, wanted_logits: Logits
) -> None:
    """Note one row's answers, both there."""
    assert answer is not None, "an engine that answered"
    assert wanted is not None, "a reference that answered"
    agreement.rows += 1
    apart = logit_difference(logits, wanted_logits)
    agreement.largest_difference = float(np.maximum(agreement.largest_difference, apart))
    for (direction, probabilities), (wanted_direction, wanted_probabilities) in zip(
        answer, wanted, strict=True
    ):
        agreement.directions += 1
        agreement.changed_directions += direction != wanted_direction
        for one, other in zip(probabilities, wanted_probabilities, strict=True):
            if abs(one - other) > agreement.largest_probability_difference:
                agreement.largest_probability_difference = abs(one - other)
