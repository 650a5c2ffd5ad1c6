"""One symbol's trades, off the stream onto its tape; a `serve.frame_consumer.FrameConsumer`."""

from lob.messages import Malformed, Trades
from lob.trade_tape import TradeTape
from lob.venues import Decoder


class TradeConsumer:
    """Reads a trade topic's frames; it has no book to lose, so it never asks for a snapshot.

    A symbol may trade seldom: silence is no stall.
    """

    keeps_book = False
    needs_resync = False
    awaits_snapshot = False
    reason = ""

    def __init__(self, decoder: Decoder, tape: TradeTape) -> None:
        self.tape = tape
        self.malformed = 0
        self._decoder = decoder

    @property
    def unreadable_frames(self) -> int:
        """Frames and trades that could not be read."""
        return self.malformed + self.tape.malformed

    def on_connected(self) -> None:
        """What waits on the tape is of a connection that is gone."""
        self.tape.reset()

    def on_disconnected(self, reason: str) -> None:
        """Nothing to do until the next connection."""

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        """Put a message's trades on the tape."""
        message = self._decoder.decode(frame)
        if isinstance(message, Trades):
            self.tape.add(message.trades)
        elif isinstance(message, Malformed):
            self.malformed += 1

    def on_unnamed_frame(self, frame: bytes, receive_ns: int, *, readable: bool) -> None:
        """Count it where it may have been a trade."""
        self.malformed += not readable

    def check_freshness(self, now_ns: int) -> None:
        """Trades need not come."""

    def resync_requested(self) -> None:
        """There is nothing to wait for."""
