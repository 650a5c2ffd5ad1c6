"""What the feed hands a recorder's frames to: all are written, and the book is watched on the way."""

from lob.captures.rotation import RotatingWriter
from lob.messages import Trades
from lob.off_grid import off_grid_price, off_grid_text
from lob.row_status import RowStatus
from serve.venue_stream import Topic, VenueStream

FLUSH_INTERVAL_NS = 500_000_000
"""Half of what a kill may cost, so that a busy machine's late timer does not make it more."""

_LOST = frozenset({RowStatus.GAP, RowStatus.CROSSED, RowStatus.MALFORMED, RowStatus.OVERFLOW})
_SOUND = frozenset(
    {RowStatus.ROW, RowStatus.SNAPSHOT, RowStatus.NO_ROW, RowStatus.ONE_SIDED, RowStatus.IGNORED}
)
_UNREADABLE = frozenset({RowStatus.NOT_JSON, RowStatus.MALFORMED})
_NO_SIGN_OF_LIFE = frozenset({RowStatus.NOT_JSON, RowStatus.NOT_BOOK, RowStatus.OTHER_STREAM})


class RecordingConsumer:
    """Writes every frame down and watches the book, so that a lost one is asked for again at once.

    A `serve.frame_consumer.FrameConsumer`; raises CaptureError where the disk refuses. The book is that of
    the frames written and of nothing else, as a reader of the captures will have it: a lost connection does
    not touch it, and only what is made of it here, `awaits_snapshot`, says that it is out of date.
    """

    keeps_book = True

    def __init__(self, writer: RotatingWriter, stall_ms: int) -> None:
        self.needs_resync = False
        self.awaits_snapshot = False
        """Whether the exchange's book is unknown until a snapshot comes."""
        self.reason = ""
        """Why the book was last lost."""
        self.off_grid_price = ""
        """The price off the tick grid that the book was lost by, as printed; empty once a snapshot held."""
        self.unreadable_frames = 0
        """Frames that are no JSON, or book messages with levels that cannot be read; written all the same."""
        self.stalls = 0
        self.snapshots = 0
        self.gaps = 0
        self.lost_books = 0
        """How often the book was lost, by a gap or otherwise."""
        self._writer = writer
        self._stall_ns = stall_ms * 1_000_000
        self._connected = False
        self._fresh_ns: int | None = None
        self._flushed_ns = 0

    def on_connected(self) -> None:
        """Begin anew: what the book was is past."""
        self._connected = True
        self._fresh_ns = None
        self.needs_resync = False
        self.awaits_snapshot = True

    def on_disconnected(self, reason: str) -> None:
        """The book is unknown until the next connection's snapshot."""
        self._connected = False
        self.needs_resync = False
        self.awaits_snapshot = False

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        """Write the frame, whatever it is, and see what it did to the book."""
        rows = self._writer.rows
        restarts = rows.book.restarts
        status = self._writer.record(receive_ns, frame)
        if status not in _NO_SIGN_OF_LIFE:
            self._fresh_ns = receive_ns
        if status in _LOST:
            reason = f"{status.name.lower()} after update {rows.update_id}"
            if status is RowStatus.MALFORMED:
                self.off_grid_price = off_grid_price(rows.message, rows.instrument)
                if self.off_grid_price:
                    reason = f"{reason}: {off_grid_text(self.off_grid_price, rows.instrument)}"
            self._lose(reason)
            if self._writer.counted_as in _LOST:
                self.lost_books += 1
                self.gaps += status is RowStatus.GAP
        elif status is RowStatus.REFUSED:
            self._lose(f"the snapshot does not fit the stream after update {rows.update_id}")
        elif status in _SOUND and (rows.held_snapshot or rows.book.restarts != restarts):
            self.needs_resync = self.awaits_snapshot = False
            self.off_grid_price = ""
        if status is RowStatus.SNAPSHOT:
            self.snapshots += 1
        elif status in _UNREADABLE:
            self.unreadable_frames += 1

    def on_unnamed_frame(self, frame: bytes, receive_ns: int, *, readable: bool) -> None:
        """Write it down as any other."""
        self.on_frame(frame, receive_ns)

    def check_freshness(self, now_ns: int) -> None:
        """Flush what was written, and notice a silent feed."""
        if now_ns - self._flushed_ns >= FLUSH_INTERVAL_NS:
            self._flushed_ns = now_ns
            self._writer.flush()
        if self._fresh_ns is None:
            self._fresh_ns = now_ns
        if self._connected and now_ns - self._fresh_ns >= self._stall_ns:
            self._fresh_ns = now_ns
            self.stalls += 1
            self._lose(f"no book message for {self._stall_ns // 1_000_000} ms")

    def resync_requested(self) -> None:
        """A new snapshot has been asked for."""
        self.needs_resync = False
        self._fresh_ns = None

    def _lose(self, reason: str) -> None:
        self.needs_resync = self.awaits_snapshot = True
        self.reason = reason


class TradeRecordingConsumer:
    """Writes a trade topic's frames into the file of the symbol's book, in the order in which they came.

    A `serve.frame_consumer.FrameConsumer`. There is no book to lose, and a symbol may trade seldom: silence
    is no stall.
    """

    keeps_book = False
    needs_resync = False
    awaits_snapshot = False
    reason = ""

    def __init__(self, writer: RotatingWriter, topic: Topic, venue: VenueStream) -> None:
        self.trades = 0
        """How many trades were printed."""
        self.unreadable_frames = 0
        """Frames of the topic that hold no trades; written all the same."""
        self._writer = writer
        self._topic = topic.name
        self._start = venue.topic_prefix + topic.name.encode() + b'"'
        self._venue = venue

    def on_connected(self) -> None:
        """Nothing is kept that could be out of date."""

    def on_disconnected(self, reason: str) -> None:
        """Nothing to do until the next connection."""

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        """Write the frame if it is the topic's own."""
        if not frame.startswith(self._start) and self._venue.topic_of(frame) != self._topic:
            return
        self._writer.record(receive_ns, frame)
        message = self._writer.rows.message
        if isinstance(message, Trades):
            self.trades += len(message.trades)
        else:
            self.unreadable_frames += 1

    def on_unnamed_frame(self, frame: bytes, receive_ns: int, *, readable: bool) -> None:
        """Nothing: the book's consumer writes it down."""

    def check_freshness(self, now_ns: int) -> None:
        """Trades need not come."""

    def resync_requested(self) -> None:
        """There is nothing to wait for."""
