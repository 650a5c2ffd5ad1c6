"""Frames of many symbols: the timing stream's, under each symbol's name and at its own pace."""

from itertools import islice
from typing import Final

from bench.delta_stream import DeltaStream, DeltaStreamConfig
from lob.captures import CapturedFrame

STREAMS: Final = 16
"""Different streams of frames; symbols beyond share them."""

MORE_FRAMES: Final = 256
"""So many frames of a stream are made at a time."""

DEPTH: Final = 50


class _Stream:
    """The frames of one stream, kept, so that each symbol reads them at its own pace."""

    def __init__(self, seed: int) -> None:
        self.config = DeltaStreamConfig(seed=seed, depth=DEPTH)
        self._source = iter(DeltaStream(self.config))
        self._kept: list[CapturedFrame] = []
        self._name = self.config.symbol.encode()

    def frame(self, number: int, symbol: bytes) -> CapturedFrame:
        """Frame `number`, with `symbol` in it."""
        while number >= len(self._kept):
            self._kept += [CapturedFrame(*one) for one in islice(self._source, MORE_FRAMES)]
        receive_ns, frame = self._kept[number]
        return CapturedFrame(receive_ns, frame.replace(self._name, symbol))


class SymbolFrames:
    """The frames of `symbols` symbols: each costs the same work, and is a row. A snapshot comes first."""

    def __init__(self, symbols: int, *, seed: int) -> None:
        self._streams = [_Stream(seed + number) for number in range(min(STREAMS, symbols))]
        self.names = [f"COIN{number}USDT" for number in range(symbols)]
        self.tick_size = self._streams[0].config.tick_size
        self._next = [0] * symbols

    def take(self, number: int) -> CapturedFrame:
        """The next frame of symbol `number`."""
        at = self._next[number]
        self._next[number] = at + 1
        return self._streams[number % len(self._streams)].frame(at, self.names[number].encode())
