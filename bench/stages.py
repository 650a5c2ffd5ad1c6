"""The stages between a frame's bytes and a prediction's, as subjects of the harness.

Every stage is fed the same frames and keeps its own state. All of its calls are made in order and timed; kept
are those that did the stage's work on a change of the book: a snapshot, a frame that changes nothing a row
looks at, an engine's warming rows are not what a tick costs. Each message is applied once; where a capture
has ended, the stage forgets its state outside the timed part and the capture starts again from its snapshot.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from time import perf_counter_ns
from typing import Final

import numpy as np

from bench.compiled_clock import new_stamp, timed_sample_row
from bench.frame_source import FrameSource, FrameTape
from bench.harness import time_calls
from bench.samples import Samples
from inference.artifact import Artifact
from inference.engines.selection import create_engine
from inference.pipeline import Pipeline
from inference.prediction import encode_prediction
from lob.book import BookStatus, OrderBook
from lob.captures import CapturedFrame
from lob.errors import InputError
from lob.features import empty_top
from lob.messages import BookUpdate, Message
from lob.rows import RowPath, RowStatus
from lob.schema import LOB44, Sampling
from lob.venues import make_decoder
from lob.window import RingWindow

SAMPLE_LATENCY_NS: Final = 123_456
"""What a prediction to be encoded says it took, so that its numbers have the digits of a real one's."""

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
                continue
            kept = self.time(frames)
            durations_ns[filled : filled + len(kept)] = kept
            filled += len(kept)
            fruitless = 0 if kept else fruitless + len(frames)
            if fruitless > FRUITLESS_FRAMES:
                raise InputError(
                    f"{self.name}: none of {fruitless:,} frames of {self._title} gave it anything to do"
                )

    @abstractmethod
    def time(self, frames: Sequence[CapturedFrame]) -> list[int]:
        """Take `frames` in and answer the nanoseconds of each call to be kept."""

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

    def time(self, frames: Sequence[CapturedFrame]) -> list[int]:
        """Time decoding; the changes of the book are kept."""
        messages, durations_ns = time_calls(self._decoder.decode, [(frame,) for _, frame in frames])
        return [
            duration_ns
            for message, duration_ns in zip(messages, durations_ns, strict=True)
            if isinstance(message, BookUpdate) and not message.is_snapshot
        ]


class BookStage(Stage):
    """A message into the book: sequence check, reading its levels, changing the sides, soundness check."""

    name = "book"
    precision = "float64"
    method = "book.apply(message) from Python, sequence check and level parsing in it"

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source)
        self.model = source.input_size
        self._decoder = make_decoder(source.venue)
        self._book = OrderBook(source.instrument)

    def time(self, frames: Sequence[CapturedFrame]) -> list[int]:
        """Time applying; changes that left a sound book are kept."""
        updates = _book_updates(self._decoder.decode(frame) for _, frame in frames)
        answers, durations_ns = time_calls(self._book.apply, [(update,) for update in updates])
        return [
            duration_ns
            for update, status, duration_ns in zip(updates, answers, durations_ns, strict=True)
            if status is BookStatus.OK and not update.is_snapshot
        ]

    def restart(self) -> None:
        """Wait for a snapshot."""
        self._book.invalidate()


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

    def time(self, frames: Sequence[CapturedFrame]) -> list[int]:
        """Apply each change untimed, then time its row; sampled rows are kept."""
        kept = []
        book, ring = self._book, self._ring
        for update in _book_updates(self._decoder.decode(frame) for _, frame in frames):
            status = book.apply(update)
            if status is BookStatus.SNAPSHOT:
                ring.reset()
                self._top.fill(np.nan)
            elif status is not BookStatus.OK:
                continue
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
            if duration_ns >= 0:
                ring.advance()
                if not update.is_snapshot:
                    kept.append(duration_ns)
        return kept

    def restart(self) -> None:
        """Wait for a snapshot."""
        self._book.invalidate()


class EngineStage(Stage):
    """One push of a new row into an engine."""

    precision = "float32"

    def __init__(self, source: FrameSource, artifact: Artifact, engine: str, model: str) -> None:
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
        self._engine = create_engine(engine, artifact, self._path.window)
        self.precision = str(self._engine.describe()["precision"])
        self.method = f"engine.push(row) from Python, {self._engine.describe()['graph_nodes']} graph nodes"

    def time(self, frames: Sequence[CapturedFrame]) -> list[int]:
        """Make each row untimed, then time its push; answers of the warm engine are kept."""
        clock = perf_counter_ns
        kept = []
        path, engine, window = self._path, self._engine, self._path.window
        for receive_ns, frame in frames:
            if path.on_frame(frame, receive_ns) not in {RowStatus.ROW, RowStatus.SNAPSHOT}:
                continue
            if window.count == 1:
                engine.reset()
            row = window.latest()
            start = clock()
            logits = engine.push(row)
            duration_ns = clock() - start
            if logits is not None:
                kept.append(duration_ns)
        return kept

    def restart(self) -> None:
        """Wait for a snapshot, with an engine that has seen no row."""
        self._path.reset()
        self._engine.reset()


class OnFrameStage(Stage):
    """The whole of a tick: a frame's bytes to a calibrated prediction."""

    name = "on_frame"

    def __init__(self, source: FrameSource, artifact: Artifact, engine: str, model: str) -> None:
        """Make a pipeline with the engine called `engine`; `model` is what the results call its weights."""
        super().__init__(source)
        self.model = model
        self.pipeline = _connected_pipeline(source, artifact, engine)
        self.precision = str(self.pipeline.engine.describe()["precision"])
        self.method = f"pipeline.on_frame(frame, receive_ns) from Python, engine {self.pipeline.engine.name}"

    def time(self, frames: Sequence[CapturedFrame]) -> list[int]:
        """Time every frame; those that ended in a prediction are kept."""
        arguments = [(frame, receive_ns) for receive_ns, frame in frames]
        predictions, durations_ns = time_calls(self.pipeline.on_frame, arguments)
        return [
            duration_ns
            for prediction, duration_ns in zip(predictions, durations_ns, strict=True)
            if prediction is not None
        ]

    def restart(self) -> None:
        """Wait for a snapshot, as on a new connection."""
        _reconnect(self.pipeline)


class EncodeStage(Stage):
    """A prediction to the JSON that subscribers get."""

    name = "encode"
    precision = "none"
    method = "encode_prediction(prediction) from Python"

    def __init__(self, source: FrameSource, artifact: Artifact, engine: str, model: str) -> None:
        """Make the pipeline whose predictions are encoded."""
        super().__init__(source)
        self.model = model
        self.pipeline = _connected_pipeline(source, artifact, engine)

    def time(self, frames: Sequence[CapturedFrame]) -> list[int]:
        """Make the predictions untimed, then time encoding each."""
        answers = (self.pipeline.on_frame(frame, receive_ns) for receive_ns, frame in frames)
        predictions = [(prediction,) for prediction in answers if prediction is not None]
        for (prediction,) in predictions:
            prediction.stamp(prediction.receive_ns + SAMPLE_LATENCY_NS)
        return time_calls(encode_prediction, predictions)[1]

    def restart(self) -> None:
        """Wait for a snapshot, as on a new connection."""
        _reconnect(self.pipeline)


def _connected_pipeline(source: FrameSource, artifact: Artifact, engine: str) -> Pipeline:
    """A pipeline that waits for its first snapshot."""
    pipeline = Pipeline.create(artifact, source.instrument, engine=engine, venue=source.venue)
    pipeline.on_connected()
    return pipeline


def _reconnect(pipeline: Pipeline) -> None:
    pipeline.on_disconnected("the capture has ended")
    pipeline.on_connected()


def _book_updates(messages: Iterable[Message]) -> list[BookUpdate]:
    """The book messages among `messages`."""
    return [message for message in messages if isinstance(message, BookUpdate)]
