"""Several symbols' frames at once: their steps are taken together, and each weight is read once for all.

The predictions are those of one `Pipeline.on_frame` after the other, bit for bit. Where frames come one by
one nothing is gained, and nothing is waited for: whoever calls has the frames already.
"""

from collections.abc import Sequence
from typing import TypeAlias

from inference.fused.step_batch import CAPACITY, StepBatch
from inference.pipeline import Pipeline
from inference.prediction import Prediction

Due: TypeAlias = tuple[Pipeline, bytes, int]
"""A pipeline, the frame that is due on it, and when that was received."""


class PipelineBatch:
    """Takes frames of pipelines that share one model. Not for two threads at once."""

    def __init__(self, steps: StepBatch) -> None:
        self._steps = steps

    def on_frames(self, due: Sequence[Due]) -> list[Prediction | None]:
        """Take each frame in, in order; answers what `Pipeline.on_frame` would have answered to each.

        A pipeline that is due twice, or whose engine is not of the batch's model, is no mistake: it takes its
        step when it has to.
        """
        steps = self._steps
        answers: list[Prediction | None] = [None] * len(due)
        owed: list[int] = []
        waiting: set[Pipeline] = set()
        try:
            for place, (pipeline, frame, receive_ns) in enumerate(due):
                if len(owed) == CAPACITY or pipeline in waiting:
                    self._finish(due, owed, answers)
                    owed, waiting = [], set()
                if pipeline.seat is None or pipeline.seat.model is not steps.model:
                    answers[place] = pipeline.on_frame(frame, receive_ns)
                elif pipeline.take(frame, receive_ns, steps):
                    owed.append(place)
                    waiting.add(pipeline)
        finally:  # a row without its step would be missing from its symbol's state
            self._finish(due, owed, answers)
        return answers

    def _finish(self, due: Sequence[Due], owed: list[int], answers: list[Prediction | None]) -> None:
        if not owed:
            return
        for place, outcome in zip(owed, self._steps.step(), strict=True):
            pipeline, _, receive_ns = due[place]
            answers[place] = pipeline.finish(outcome, receive_ns)
