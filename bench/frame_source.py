"""What the stages are fed: the seeded stream of deltas, or a capture played again and again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from bench.delta_stream import DeltaStream, DeltaStreamConfig
from inference.capture_instrument import capture_instrument
from lob.captures import CapturedFrame, open_capture
from lob.errors import CaptureError
from lob.instrument import Instrument
from lob.messages import BookUpdate
from lob.venues import make_decoder

LARGEST_CAPTURE_FRAMES: Final = 200_000
"""Frames of a capture that are kept in memory; the rest of a longer one is left out."""


@dataclass(frozen=True, kw_only=True)
class FrameSource:
    """Frames of one instrument's book, from a snapshot on; each call of `passes` starts them anew."""

    title: str
    """What the frames are, for a reader of the figures."""
    venue: str
    instrument: Instrument
    input_size: str
    """The book's depth as results name it, `depth50`; `full` where the venue names none."""
    passes: Callable[[], Iterator[CapturedFrame]]


class FrameTape:
    """The frames of a source without end, in pieces that never cross from one pass into the next."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._frames = source.passes()

    def take(self, count: int) -> list[CapturedFrame]:
        """The next frames, at most `count` (at least 1) of them.

        Empty where a pass has ended: whoever keeps a book then forgets it, and takes again from a snapshot.
        """
        frames = list(islice(self._frames, count))
        if not frames:
            self._frames = self._source.passes()
        return frames


def seeded_source(seed: int, *, depth: int = 50, changes_a_side: int = 3) -> FrameSource:
    """The endless stream of `bench.delta_stream`: its one pass never ends.

    Raises InputError where the stream has no such depth or number of changes.
    """
    config = DeltaStreamConfig(seed=seed, depth=depth, changes_a_side=changes_a_side)
    stream = DeltaStream(config)
    return FrameSource(
        title=f"seeded Bybit deltas, {changes_a_side} bids and {changes_a_side} asks each, depth {depth}, "
        f"seed {seed}",
        venue="bybit",
        instrument=Instrument(symbol=config.symbol, tick_size=config.tick_size),
        input_size=f"depth{depth}",
        passes=lambda: (CapturedFrame(receive_ns, frame) for receive_ns, frame in stream),
    )


def kept_in_memory(source: FrameSource, count: int) -> FrameSource:
    """The first `count` frames of a source, made now: every reader of them gets the very same objects."""
    frames = list(islice(source.passes(), count))
    return replace(source, passes=lambda: iter(frames))


def capture_source(path: Path) -> FrameSource:
    """The book frames of a capture's first symbol, read into memory, a pass from the first snapshot on.

    A snapshot that came beside the stream is put before the changes it is joined to. Raises CaptureError
    where the file cannot be read or holds no snapshot of a book, InputError where its symbol or tick size
    cannot be told.
    """
    capture = open_capture(path)
    symbol = capture.instruments[0].symbol if capture.instruments else None
    instrument = capture_instrument(capture, symbol=symbol).instrument
    decoder = make_decoder(capture.venue)
    kept: list[tuple[CapturedFrame, BookUpdate]] = []
    for captured in islice(capture, LARGEST_CAPTURE_FRAMES):
        message = decoder.decode(captured.frame)
        if isinstance(message, BookUpdate) and message.symbol in {instrument.symbol, ""}:
            kept.append((captured, message))
    first = next((place for place, (_, update) in enumerate(kept) if update.is_snapshot), None)
    if first is None:
        raise CaptureError(
            f"{path}: no snapshot of {instrument.symbol}'s book came; one is needed to start from"
        )
    depth = kept[first][1].depth
    before = kept[:first] if decoder.snapshot_apart else []
    ordered = (kept[first], *before, *kept[first + 1 :])
    frames = [captured for captured, update in ordered if update.depth == depth]
    return FrameSource(
        title=f"capture {path.name}, {len(frames):,} book frames of {instrument.symbol}",
        venue=capture.venue,
        instrument=instrument,
        input_size=f"depth{depth}" if depth else "full",
        passes=lambda: iter(frames),
    )
