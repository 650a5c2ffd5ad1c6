"""Frames of several symbols that wait together: the steps of those that share a model are one call.

What is published is what each publisher would have published on its own, in the order of the frames.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from inference.engines.fused import FusedEngine
from inference.fused.loaded_model import LoadedModel
from inference.fused.step_batch import is_compiled
from inference.pipeline import Pipeline
from inference.pipeline_batch import Due as PipelineDue
from inference.pipeline_batch import PipelineBatch
from inference.prediction import Prediction
from inference.rehearsal import warm_up_batch
from lob.errors import InputError
from serve.frame_consumer import Due
from serve.publisher import PredictionPublisher

logger = logging.getLogger(__name__)

BatchMode: TypeAlias = Literal["auto", "on", "off"]
BATCH_MODES: tuple[BatchMode, ...] = get_args(BatchMode)

LEAST_SYMBOLS = 16
"""With fewer, so many frames of different symbols hardly ever wait."""

LEAST_WEIGHT_BYTES = 384 * 1024
"""Smaller weights stay in the caches from one symbol's step to the next's: reading them once for all gains
nothing. Larger ones gain a tenth to a third (measured, docs/many-symbols.md)."""


@dataclass(frozen=True, kw_only=True)
class BatchPolicy:
    """Whether the steps of frames that wait together are taken together.

    `auto`: where enough symbols share a model whose weights are large enough; `on`: wherever the engine can.
    A batch answers all its symbols at its end, so it is of use only where the queue is long: while fewer than
    `least_waiting` frames wait behind the first one, they are taken one by one, which answers sooner. Raises
    InputError where a setting is not allowed.
    """

    mode: BatchMode = "auto"
    least_waiting: int = 24

    def __post_init__(self) -> None:
        if self.mode not in BATCH_MODES:
            raise InputError(f"batch: {self.mode!r} came; allowed: {', '.join(BATCH_MODES)}")
        if self.least_waiting < 1:
            raise InputError(f"batch least_waiting: {self.least_waiting} came; allowed: 1 or more")

    def suits(self, model: LoadedModel) -> bool:
        """Whether steps of `model` are to be taken together."""
        return self.mode == "on" or (self.mode == "auto" and model.params.nbytes >= LEAST_WEIGHT_BYTES)


class PublisherBatch:
    """Takes frames of several publishers at once; a `serve.frame_consumer.FrameBatch`.

    A model that has replaced another is batched as well where the call for its sizes is compiled already: to
    compile it would keep the ticks waiting. Until then, and where an engine cannot, each steps alone.
    """

    def __init__(self, publishers: Sequence[PredictionPublisher], policy: BatchPolicy) -> None:
        """Compile the call for the first publisher's model, or take it from the disk.

        Raises InputError where its engine takes no batches.
        """
        self.least_waiting = policy.least_waiting
        self._policy = policy
        self._pipelines = [one.pipeline for one in publishers]
        self._batches: dict[int, tuple[LoadedModel, PipelineBatch | None]] = {}
        first = self._pipelines[0]
        if first.seat is None or not isinstance(first.engine, FusedEngine):
            raise InputError(f"batch: engine {first.engine.name} came; allowed: {FusedEngine.name}")
        batch = PipelineBatch(first.engine.batch())
        self._batches[id(first.seat.model)] = first.seat.model, batch
        warm_up_batch(batch, first)

    def on_frames(self, due: Sequence[Due]) -> None:
        """Take each frame in and publish what comes of it, in this order; no symbol has two."""
        answers = iter(
            self._answers(
                [
                    (consumer.pipeline, frame, receive_ns)
                    for consumer, frame, receive_ns in due
                    if isinstance(consumer, PredictionPublisher)
                ]
            )
        )
        for consumer, frame, receive_ns in due:
            if isinstance(consumer, PredictionPublisher):
                consumer.on_prediction(next(answers), receive_ns)
            else:
                consumer.on_frame(frame, receive_ns)

    def _answers(self, due: Sequence[PipelineDue]) -> Iterable[Prediction | None]:
        batch = next((self._batch_of(one) for one, _, _ in due if one.seat is not None), None)
        if batch is None:
            return (one.on_frame(frame, receive_ns) for one, frame, receive_ns in due)
        return batch.on_frames(due)

    def _batch_of(self, pipeline: Pipeline) -> PipelineBatch | None:
        """The batch of the model that answers for `pipeline`; None where it steps alone."""
        assert pipeline.seat is not None, "a pipeline without a seat steps alone"
        model = pipeline.seat.model
        known = self._batches.get(id(model))
        if known is None:
            known = self._batches[id(model)] = model, self._new_batch(pipeline, model)
            served = {id(one.seat.model) for one in self._pipelines if one.seat is not None}
            self._batches = {key: one for key, one in self._batches.items() if key in served}
        return known[1]

    def _new_batch(self, pipeline: Pipeline, model: LoadedModel) -> PipelineBatch | None:
        engine = pipeline.engine
        if (
            not isinstance(engine, FusedEngine)
            or not self._policy.suits(model)
            or not is_compiled(model.sizes)
        ):
            return None
        return PipelineBatch(engine.batch())


def publisher_batch(publishers: Sequence[PredictionPublisher], policy: BatchPolicy) -> PublisherBatch | None:
    """What takes frames of `publishers` together, which share one model; None where each is taken alone.

    Raises InputError where batches are asked for and the engine takes none.
    """
    if policy.mode == "off" or len(publishers) < (2 if policy.mode == "on" else LEAST_SYMBOLS):
        return None
    seat = publishers[0].pipeline.seat
    if policy.mode == "auto" and (seat is None or not policy.suits(seat.model)):
        return None
    batch = PublisherBatch(publishers, policy)
    logger.info("where %d or more frames wait, symbols' steps are taken together", policy.least_waiting)
    return batch
