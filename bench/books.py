"""Our book beside other people's, as subjects of the harness that read the very same frames.

Three questions are asked of every book, each in the same way:

- Applying a change: ours from the message that `lob.bybit` decodes, whose levels are still text, so reading
  the numbers, the sequence check and the check for a crossed book lie in the timed part; a peer's from the
  decoded JSON, with the levels already split into Python strings, so that it is spared decoding.
- Applying it and reading the best bid and ask (`-best`), since one peer sorts only when it is read.
- From the frame (`-frame`): the peers' decoding and applying, and for ours `row`, which also checks topic and
  sequence and writes the feature row.

A row of figures counts only if the books are right: `bench.book_comparison` follows every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final

import msgspec

from bench.frame_source import FrameSource, kept_in_memory, seeded_source
from bench.peers.book_peer import make_peer
from bench.stages import NOT_KEPT, BookStage, DecodeStage, Stage
from lob.book import BookStatus
from lob.messages import BookUpdate
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.venues import make_decoder

CHANGES_A_SIDE: Final = {50: 3, 200: 10, 1000: 30}
"""Changes a side of every delta, by depth: a slower topic gathers more of them."""


class BookBestStage(BookStage):
    """A message into our book, and its best levels read from Python."""

    name = "book-best"
    method = "book.apply(message), then book.bids(1), book.asks(1), from Python"

    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Time applying and reading; a change that left a sound book is kept."""
        update = self.decoder.decode(frame)
        if not isinstance(update, BookUpdate):
            return NOT_KEPT
        book = self.book
        start = perf_counter_ns()
        status = book.apply(update)
        book.bids(1)
        book.asks(1)
        duration_ns = perf_counter_ns() - start
        return duration_ns if status is BookStatus.OK and not update.is_snapshot else NOT_KEPT


class RowStage(Stage):
    """A frame's bytes to an updated book and its feature row."""

    name = "row"
    precision = "float32"
    method = "RowPath.on_frame(frame, receive_ns) from Python: decode, sequence, book, feature row written"

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source)
        self.model = source.input_size
        self.path = RowPath(make_decoder(source.venue), source.instrument)

    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Time the frame; one that gave a row is kept."""
        start = perf_counter_ns()
        status = self.path.on_frame(frame, receive_ns)
        duration_ns = perf_counter_ns() - start
        return duration_ns if status is RowStatus.ROW else NOT_KEPT

    def restart(self) -> None:
        """Wait for a snapshot, with no rows."""
        self.path.reset()


class PeerStage(Stage):
    """A peer's book, applying decoded JSON; the frame is decoded right before, untimed."""

    suffix = ""

    def __init__(self, source: FrameSource, peer: str) -> None:
        """Make the peer called `peer`; raises ModuleNotFoundError where it is not installed."""
        super().__init__(source)
        self._peer_name = peer
        self._topic = _topic(source)
        self.peer = make_peer(peer, self._topic)
        self.name = peer + self.suffix
        self.model = source.input_size
        self.precision = self.peer.precision
        self.method = self.peer.apply_method
        self.messages = 0

    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Time applying; all but the snapshot are kept."""
        message = msgspec.json.decode(frame)
        is_snapshot = message["type"] == "snapshot"
        apply = self.peer.apply
        start = perf_counter_ns()
        apply(message)
        duration_ns = perf_counter_ns() - start
        self.messages += 1
        return NOT_KEPT if is_snapshot else duration_ns

    def restart(self) -> None:
        """Wait for a snapshot with an empty book."""
        self.peer = make_peer(self._peer_name, self._topic)
        self.messages = 0


class PeerBestStage(PeerStage):
    """A peer's book, applying decoded JSON and reading its best levels."""

    suffix = "-best"

    def __init__(self, source: FrameSource, peer: str) -> None:
        """Make the peer called `peer`, which can read its best levels."""
        super().__init__(source, peer)
        self.method = f"the same apply, then {self.peer.best_method}"

    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Time applying and reading; all but the snapshot are kept."""
        message = msgspec.json.decode(frame)
        is_snapshot = message["type"] == "snapshot"
        peer = self.peer
        start = perf_counter_ns()
        peer.apply(message)
        peer.best()
        duration_ns = perf_counter_ns() - start
        self.messages += 1
        return NOT_KEPT if is_snapshot else duration_ns


class PeerFrameStage(PeerStage):
    """A peer's book from a frame's text, as a websocket library hands it over."""

    suffix = "-frame"

    def __init__(self, source: FrameSource, peer: str) -> None:
        """Make the peer called `peer`."""
        super().__init__(source, peer)
        self.method = self.peer.frame_method

    def tick(self, frame: bytes, receive_ns: int) -> int:
        """Time decoding and applying; all but the snapshot are kept."""
        text = frame.decode()
        on_frame = self.peer.on_frame
        start = perf_counter_ns()
        on_frame(text)
        duration_ns = perf_counter_ns() - start
        self.messages += 1
        return NOT_KEPT if '"type":"snapshot"' in text else duration_ns


@dataclass(frozen=True, kw_only=True)
class BookSubjects:
    """The subjects of one depth, and the frames all of them read."""

    source: FrameSource
    stages: list[Stage]


def make_book_subjects(depth: int, peers: Sequence[str], *, seed: int, frames: int) -> BookSubjects:
    """Ours and the peers called `peers` on the same `frames` frames of `depth`, all of them made now.

    Raises InputError for a depth the stream does not have.
    """
    source = kept_in_memory(seeded_source(seed, depth=depth, changes_a_side=CHANGES_A_SIDE[depth]), frames)
    with_best = [peer for peer in peers if make_peer(peer, _topic(source)).best_method]
    return BookSubjects(
        source=source,
        stages=[
            BookStage(source),
            *(PeerStage(source, peer) for peer in peers),
            BookBestStage(source),
            *(PeerBestStage(source, peer) for peer in with_best),
            DecodeStage(source),
            RowStage(source),
            *(PeerFrameStage(source, peer) for peer in peers),
        ],
    )


def _topic(source: FrameSource) -> str:
    return f"orderbook.{source.input_size.removeprefix('depth')}.{source.instrument.symbol}"
