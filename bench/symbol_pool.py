"""Pipelines of many symbols on one model, and frames for them in any order."""

import time

from bench.memory import resident_kib
from bench.symbol_frames import DEPTH, SymbolFrames
from inference.artifact import Artifact
from inference.pipeline import Pipeline
from inference.pipeline_batch import Due
from lob.instrument import Instrument


class SymbolPool:
    """Symbols of one model, warm, each with book, ring and state of its own.

    Their frames are those of the timing stream with the symbol's name in them: each costs the same work, so
    what differs between one symbol and hundreds is what the caches hold.
    """

    def __init__(self, artifact: Artifact, symbols: int, *, seed: int) -> None:
        """Make `symbols` pipelines and feed each until it predicts; raises as `Pipeline.create`."""
        self._frames = frames = SymbolFrames(symbols, seed=seed)
        instrument = Instrument(symbol="FIRSTUSDT", tick_size=frames.tick_size)
        first = Pipeline.create(artifact, instrument, depth=DEPTH)
        before_kib, start = resident_kib(), time.perf_counter()
        self.pipelines = [
            Pipeline.create(
                artifact,
                Instrument(symbol=name, tick_size=frames.tick_size),
                engine=first.engine,
                depth=DEPTH,
            )
            for name in frames.names
        ]
        self.seconds = time.perf_counter() - start
        """What making them took, the model loaded already."""
        rows = 2 + artifact.manifest.window_length  # every ring is written once around
        for number, pipeline in enumerate(self.pipelines):
            pipeline.on_connected()
            for receive_ns, frame in (frames.take(number) for _ in range(rows)):
                pipeline.on_frame(frame, receive_ns)
        self.kib_a_symbol = (resident_kib() - before_kib) / symbols
        """Resident memory that a warm symbol added."""

    def due(self, number: int) -> Due:
        """The symbol's next frame."""
        receive_ns, frame = self._frames.take(number)
        return self.pipelines[number], frame, receive_ns
