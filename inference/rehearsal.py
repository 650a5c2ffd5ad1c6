"""Ticks that are of no symbol: what is slow the first time, or after a pause, is done on them beforehand.

A rehearsal is a second pipeline on the same model. It shares weights, session and compiled code with the
pipeline that serves, and nothing that belongs to a symbol: book, window, state and counters are its own.
"""

from collections.abc import Iterator
from itertools import islice

from inference.pipeline import Pipeline
from inference.pipeline_batch import PipelineBatch
from lob.errors import ArtifactError
from lob.instrument import Instrument
from lob.rows import RowPath
from lob.venues import make_decoder

PREDICTIONS = 64
"""What warms a pipeline up."""

MAXIMUM_FRAMES = 10_000
"""A model that has not given them by then does not answer."""

REHEARSED_INSTRUMENT = Instrument(symbol="REHEARSAL", tick_size="0.10")
"""The book that made-up frames are of."""


class Rehearsal:
    """A pipeline of the kind of `pipeline` on its model, one made-up frame a step.

    A step takes what a frame of three changes takes. It leaves `pipeline`, its rows and its engine's state
    alone: they are not touched at all.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.engine = pipeline.engine
        """Whose model is rehearsed."""
        self.pipeline = Pipeline.create(pipeline.artifact, REHEARSED_INSTRUMENT, engine=pipeline.engine)
        self.pipeline.on_connected()
        self._frames = made_up_frames()
        self._frame = next(self._frames)
        self._number = 0

    def step(self) -> bool:
        """Take the next frame; answers whether a prediction came of it."""
        self._number += 1
        prediction = self.pipeline.on_frame(self._frame, self._number)
        self._frame = next(self._frames)  # now: a step is to begin as a tick does
        return prediction is not None


def warm_up(pipeline: Pipeline) -> Rehearsal:
    """Bring `pipeline` to its usual speed before its first frame; answers the rehearsal that did it.

    The rehearsal compiles every kernel, and its rows go through the engine of `pipeline`, which warms its
    session. `pipeline` itself sees no frame: book, counters and state are afterwards as they were. Raises
    ArtifactError for a model that does not answer.
    """
    rehearsal = Rehearsal(pipeline)
    rehearsed, ring = rehearsal.pipeline.rows.window, pipeline.rows.window
    predictions = 0
    for _ in range(MAXIMUM_FRAMES):
        position, count = rehearsed.position, rehearsed.count
        predictions += rehearsal.step()
        if (rehearsed.position, rehearsed.count) != (position, count):
            ring.append(rehearsed.latest())
            pipeline.engine.push(ring.latest())
        if predictions == PREDICTIONS:
            break
    pipeline.engine.reset()
    pipeline.rows.reset()
    if predictions < PREDICTIONS:
        state = rehearsal.pipeline.state.value
        raise ArtifactError(
            f"model {pipeline.artifact.name}: {predictions} predictions came of {MAXIMUM_FRAMES} made-up "
            f"frames (state {state}: {rehearsal.pipeline.reason}), {PREDICTIONS} are expected"
        )
    return rehearsal


def warm_up_batch(batch: PipelineBatch, pipeline: Pipeline) -> None:
    """Compile what several symbols' frames at once take, on frames of no symbol.

    `batch` is of the model of `pipeline`, which itself sees no frame.
    """
    rehearsed = [Rehearsal(pipeline).pipeline for _ in range(2)]
    for number, frame in enumerate(islice(made_up_frames(), 16)):
        # Spaces are not as expected: such a frame is decoded, not scanned.
        one = frame.replace(b":", b": ") if number % 2 else frame
        batch.on_frames([(pipeline, one, number) for pipeline in rehearsed])


def warm_up_rows() -> None:
    """Compile the kernels from frames to rows, for a process that runs no model."""
    rows = RowPath(make_decoder("bybit"), REHEARSED_INSTRUMENT)
    for number, frame in enumerate(islice(made_up_frames(), 8)):
        rows.on_frame(frame, number)


def made_up_frames() -> Iterator[bytes]:
    """Frames as Bybit's, without end: 20 levels a side, then sizes, deletes and inserts near the touch."""
    yield _frame(
        "snapshot",
        1_000,
        ",".join(f'["{100 - 0.1 * level:.1f}","1.5"]' for level in range(20)),
        ",".join(f'["{100.1 + 0.1 * level:.1f}","2.5"]' for level in range(20)),
    )
    number = 0
    while True:
        number += 1
        bid = f'["{"100.0" if number % 2 else "99.7"}","{1 + number % 7}.25"]'
        size = "0" if number % 4 == 0 else f"{1 + number % 5}.5"
        yield _frame("delta", 1_000 + number, f'{bid},["99.1","{1 + number % 3}.75"]', f'["100.1","{size}"]')


def _frame(kind: str, update_id: int, bids: str, asks: str) -> bytes:
    symbol = REHEARSED_INSTRUMENT.symbol
    return (
        f'{{"topic":"orderbook.50.{symbol}","type":"{kind}","ts":{update_id},"data":{{"s":"{symbol}",'
        f'"b":[{bids}],"a":[{asks}],"u":{update_id},"seq":{update_id}}},"cts":{update_id}}}'
    ).encode()
