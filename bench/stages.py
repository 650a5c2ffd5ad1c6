"""The stages between a frame's bytes and a prediction's, as subjects of the harness.

Every stage is fed the same frames and keeps its own state. It is timed where it stands in a tick: right after
the stages before it have taken the same frame, untimed. Samples are the calls that did the stage's work on a
change of the book: a snapshot, a frame that changes nothing a row looks at, an engine's warming rows are not
what a tick costs. Each message is applied once; where a capture has ended, the stage forgets its state
outside the timed part and the capture starts again from its snapshot.
"""

from abc import ABC, abstractmethod
from contextlib import suppress
from time import perf_counter_ns
from typing import Final

import numpy as np

from bench.compiled_clock import NOT_SAMPLED, new_stamp, timed_sample_row
from bench.frame_source import FrameSource, FrameTape
from bench.samples import Samples
from inference.artifact import Artifact
from inference.engines.selection import ENGINE_NAMES, choose_engine, create_engine, offered_precisions
from inference.pipeline import Pipeline
from inference.prediction import encode_prediction
from lob.book import BookStatus, OrderBook
from lob.errors import ArtifactError, InputError
from lob.features import empty_top
from lob.messages import BookUpdate
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.schema import LOB44, Sampling
from lob.venues import make_decoder
from lob.window import RingWindow

SAMPLE_LATENCY_NS: Final = 123_456
"""What a prediction to be encoded says it took, so that its numbers have the digits of a real one's."""

NOT_KEPT: Final = -1
"""What a stage answers for a call that is no sample."""

FRUITLESS_FRAMES: Final = 50_000
"""Frames in a row of which none did a stage's work, after which the input is called unfit."""


class Stage(ABC):
    """A subject fed with frames; a stage says how to time them and how to start anew."""

    name: str
    model: str
    precision: str
    method: str

    def __init__(self, source: FrameSource) -> None:
        self._title = source.title
        self._tape = FrameTape(source)

    def measure(self, durations_ns: Samples) -> None:
        """Fill `durations_ns` (N,) with the times of the next N calls that did this stage's work.

        Raises InputError where the frames give it none to do.
        """
        filled = fruitless = 0
        while filled < len(durations_ns):
            frames = self._tape.take(len(durations_ns) - filled)
            if not frames:
                self.restart()
            for receive_ns, frame in frames:
                duration_ns = self.tick(frame, receive_ns)
                if duration_ns != NOT_KEPT:
                    durations_ns[filled] = duration_ns
                    filled += 1
                    fruitless = 0
                else:
                    fruitless += 1
            if fruitless > FRUITLESS_FRAMES:
                raise InputError(
                    f"{self.name}: none of {fruitless:,} frames of {self._title} gave it anything to do"
                )

    @abstractmethod
    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Take the next frame through the stages before, then time this one: nanoseconds, or NOT_KEPT."""

    @abstractmethod
    def restart(self) -> None:
        """Forget all state, outside every timed part; the next frame is a snapshot."""


class DecodeStage(Stage):
    """A frame's bytes to a message."""

    name = "decode"
    precision = "none"
    method = "decoder.decode(frame) from Python"

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source)
        self.model = source.input_size
        self._decoder = make_decoder(source.venue)

    def restart(self) -> None:
        """Nothing is kept from frame to frame."""

    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Time decoding; a change of the book is kept."""
        start = perf_counter_ns()
        message = self._decoder.decode(frame)
        duration_ns = perf_counter_ns() - start
        kept = isinstance(message, BookUpdate) and not message.is_snapshot
        return duration_ns if kept else NOT_KEPT


class BookStage(Stage):
    """A message into the book: sequence check, reading its levels, changing the sides, soundness check."""

    name = "book"
    precision = "float64"
    method = "book.apply(message) from Python, sequence check and level parsing in it"

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source)
        self.model = source.input_size
        self.decoder = make_decoder(source.venue)
        self.book = OrderBook(source.instrument)

    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Time applying; a change that left a sound book is kept."""
        update = self.decoder.decode(frame)
        if not isinstance(update, BookUpdate):
            return NOT_KEPT
        start = perf_counter_ns()
        status = self.book.apply(update)
        duration_ns = perf_counter_ns() - start
        return duration_ns if status is BookStatus.OK and not update.is_snapshot else NOT_KEPT

    def restart(self) -> None:
        """Wait for a snapshot."""
        self.book.invalidate()


class FeaturesStage(Stage):
    """The feature row of a changed book, inside the jitted call."""

    name = "features"
    model = LOB44.name
    precision = "float32"
    method = "sample_row between two readings of the clock inside one jitted call, its sampling check in it"

    def __init__(self, source: FrameSource, sampling: Sampling, window_length: int) -> None:
        super().__init__(source)
        self._decoder = make_decoder(source.venue)
        self._book = OrderBook(source.instrument)
        self._ring = RingWindow(window_length, LOB44.feature_count)
        self._top = empty_top()
        self._every_message = sampling == "every_message"
        self._timed = timed_sample_row()
        self._stamp = new_stamp()

    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Apply the change, then time its row; a sampled row is kept."""
        update = self._decoder.decode(frame)
        if not isinstance(update, BookUpdate):
            return NOT_KEPT
        book, ring = self._book, self._ring
        status = book.apply(update)
        if status is BookStatus.SNAPSHOT:
            ring.reset()
            self._top.fill(np.nan)
        elif status is not BookStatus.OK:
            return NOT_KEPT
        duration_ns = self._timed(
            book.header,
            book.keys,
            book.sizes,
            self._top,
            self._every_message,
            ring.storage,
            ring.next_slot,
            self._stamp,
        )
        if duration_ns == NOT_SAMPLED:
            return NOT_KEPT
        ring.advance()
        return NOT_KEPT if update.is_snapshot else duration_ns

    def restart(self) -> None:
        """Wait for a snapshot."""
        self._book.invalidate()


class EngineStage(Stage):
    """One push of a new row into an engine."""

    def __init__(
        self,
        source: FrameSource,
        artifact: Artifact,
        engine: str,
        model: str,
        *,
        precision: str = "float32",
    ) -> None:
        """Make the engine called `engine`; `model` is what the results call its weights."""
        super().__init__(source)
        self.name = engine
        self.model = model
        manifest = artifact.manifest
        self._path = RowPath(
            make_decoder(source.venue),
            source.instrument,
            artifact.schema,
            manifest.sampling,
            manifest.window_length,
        )
        self._engine = create_engine(engine, artifact, self._path.window, precision=precision)
        self.precision = str(self._engine.describe()["precision"])
        self.method = "engine.push(row) from Python"

    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Make the row, then time its push; an answer of the warm engine is kept."""
        if self._path.on_frame(frame, receive_ns) not in {RowStatus.ROW, RowStatus.SNAPSHOT}:
            return NOT_KEPT
        engine, window = self._engine, self._path.window
        if window.count == 1:
            engine.reset()
        row = window.latest()
        start = perf_counter_ns()
        logits = engine.push(row)
        duration_ns = perf_counter_ns() - start
        return NOT_KEPT if logits is None else duration_ns

    def restart(self) -> None:
        """Wait for a snapshot, with an engine that has seen no row."""
        self._path.reset()
        self._engine.reset()


class OnFrameStage(Stage):
    """The whole of a tick: a frame's bytes to a calibrated prediction."""

    name = "on_frame"

    def __init__(
        self,
        source: FrameSource,
        artifact: Artifact,
        engine: str,
        model: str,
        *,
        precision: str = "float32",
        staged: bool = False,
    ) -> None:
        """Make a pipeline with the engine called `engine`; `model` is what the results call its weights.

        `staged`: with `fused`, take the steps one after the other that are one call otherwise.
        """
        super().__init__(source)
        self.model = model
        self.pipeline = _connected_pipeline(source, artifact, engine, precision, staged=staged)
        self.precision = self.pipeline.precision
        self.method = f"pipeline.on_frame(frame, receive_ns) from Python, engine {self.pipeline.engine.name}"
        if staged:
            self.name = "on_frame-staged"
            self.method += ", each step a call of its own"

    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Time the frame; one that ended in a prediction is kept."""
        start = perf_counter_ns()
        prediction = self.pipeline.on_frame(frame, receive_ns)
        duration_ns = perf_counter_ns() - start
        return NOT_KEPT if prediction is None else duration_ns

    def restart(self) -> None:
        """Wait for a snapshot, as on a new connection."""
        _reconnect(self.pipeline)


class EncodeStage(Stage):
    """A prediction to the JSON that subscribers get."""

    name = "encode"
    precision = "none"
    method = "encode_prediction(prediction) from Python"

    def __init__(
        self,
        source: FrameSource,
        artifact: Artifact,
        engine: str,
        model: str,
        *,
        precision: str = "float32",
    ) -> None:
        """Make the pipeline whose predictions are encoded."""
        super().__init__(source)
        self.model = model
        self.pipeline = _connected_pipeline(source, artifact, engine, precision)

    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Make the prediction, then time encoding it."""
        prediction = self.pipeline.on_frame(frame, receive_ns)
        if prediction is None:
            return NOT_KEPT
        prediction.stamp(receive_ns + SAMPLE_LATENCY_NS)
        start = perf_counter_ns()
        encode_prediction(prediction)
        return perf_counter_ns() - start

    def restart(self) -> None:
        """Wait for a snapshot, as on a new connection."""
        _reconnect(self.pipeline)


def make_stages(
    source: FrameSource, artifact: Artifact, model: str, precision: str = "float32"
) -> list[Stage]:
    """All stages in the order a frame meets them, the engines being those the artifact has graphs for.

    `model` is what the results call its weights. The tick answers in `precision`, and so do the engines that
    offer it; the others stand beside them in float32. Raises InputError and ArtifactError as the parts do.
    """
    manifest, offered = artifact.manifest, offered_precisions(artifact)
    on_frame = [OnFrameStage(source, artifact, "auto", model, precision=precision)]
    if choose_engine("auto", artifact, precision) == "fused":
        on_frame.append(OnFrameStage(source, artifact, "fused", model, precision=precision, staged=True))
    return [
        DecodeStage(source),
        BookStage(source),
        FeaturesStage(source, manifest.sampling, manifest.window_length),
        *(
            EngineStage(
                source,
                artifact,
                engine,
                model,
                precision=precision if precision in offered[engine] else "float32",
            )
            for engine in available_engines(artifact)
        ),
        *on_frame,
        EncodeStage(source, artifact, "auto", model, precision=precision),
    ]


def available_engines(artifact: Artifact) -> list[str]:
    """The names of the engines that can run this artifact."""
    names = []
    for name in ENGINE_NAMES:
        if name == "auto":
            continue
        with suppress(ArtifactError):
            names.append(choose_engine(name, artifact))
    return names


def _connected_pipeline(
    source: FrameSource, artifact: Artifact, engine: str, precision: str, *, staged: bool = False
) -> Pipeline:
    """A pipeline that waits for its first snapshot."""
    pipeline = Pipeline.create(
        artifact,
        source.instrument,
        engine=engine,
        precision=precision,
        venue=source.venue,
        staged=staged,
    )
    pipeline.on_connected()
    return pipeline


def _reconnect(pipeline: Pipeline) -> None:
    pipeline.on_disconnected("the capture has ended")
    pipeline.on_connected()
