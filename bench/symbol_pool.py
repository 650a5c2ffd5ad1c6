"""Pipelines of many symbols on one model, and frames for them in any order."""

import time
from itertools import islice
from typing import Final

from bench.delta_stream import DeltaStream, DeltaStreamConfig
from bench.memory import resident_kib
from inference.artifact import Artifact
from inference.pipeline import Pipeline
from inference.pipeline_batch import Due
from lob.captures import CapturedFrame
from lob.instrument import Instrument

STREAMS: Final = 16
"""Different streams of frames; symbols beyond share them, each under its own name and at its own pace."""

MORE_FRAMES: Final = 256
"""So many frames of a stream are made at a time."""

_DEPTH: Final = 50


class _Frames:
    """The frames of one stream, kept, so that each symbol reads them at its own pace."""

    def __init__(self, seed: int) -> None:
        self.config = DeltaStreamConfig(seed=seed, depth=_DEPTH)
        self._source = iter(DeltaStream(self.config))
        self._kept: list[CapturedFrame] = []
        self._name = self.config.symbol.encode()

    def frame(self, number: int, symbol: bytes) -> tuple[int, bytes]:
        """When frame `number` was received, and its bytes with `symbol` in it."""
        while number >= len(self._kept):
            self._kept += [CapturedFrame(*one) for one in islice(self._source, MORE_FRAMES)]
        receive_ns, frame = self._kept[number]
        return receive_ns, frame.replace(self._name, symbol)


class SymbolPool:
    """Symbols of one model, warm, each with book, ring and state of its own.

    Their frames are those of the timing stream with the symbol's name in them: each costs the same work, so
    what differs between one symbol and hundreds is what the caches hold.
    """

    def __init__(self, artifact: Artifact, symbols: int, *, seed: int) -> None:
        """Make `symbols` pipelines and feed each until it predicts; raises as `Pipeline.create`."""
        self._streams = [_Frames(seed + number) for number in range(min(STREAMS, symbols))]
        self._names = [f"COIN{number}USDT" for number in range(symbols)]
        self._next = [0] * symbols
        tick_size = self._streams[0].config.tick_size
        first = Pipeline.create(artifact, Instrument(symbol="FIRSTUSDT", tick_size=tick_size), depth=_DEPTH)
        before_kib, start = resident_kib(), time.perf_counter()
        self.pipelines = [
            Pipeline.create(
                artifact, Instrument(symbol=name, tick_size=tick_size), engine=first.engine, depth=_DEPTH
            )
            for name in self._names
        ]
        self.seconds = time.perf_counter() - start
        """What making them took, the model loaded already."""
        rows = 2 + artifact.manifest.window_length  # every ring is written once around
        for number, pipeline in enumerate(self.pipelines):
            pipeline.on_connected()
            for receive_ns, frame in (self._take(number) for _ in range(rows)):
                pipeline.on_frame(frame, receive_ns)
        self.kib_a_symbol = (resident_kib() - before_kib) / symbols
        """Resident memory that a warm symbol added."""

    def due(self, number: int) -> Due:
        """The symbol's next frame."""
        receive_ns, frame = self._take(number)
        return self.pipelines[number], frame, receive_ns

    def _take(self, number: int) -> tuple[int, bytes]:
        at = self._next[number]
        self._next[number] = at + 1
        return self._streams[number % len(self._streams)].frame(at, self._names[number].encode())
