"""Which frames of a connection are taken between two turns of the event loop: one, or several that wait."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from serve.subscription import Subscription
from serve.venue_connection import StampedConnection

MOST_A_TURN = 8
"""Frames of one turn, as many as a batch steps at once: the loop's other tasks wait for no more ticks."""

Arrival: TypeAlias = tuple[Subscription, bytes, int]
"""A topic's subscription, a frame of it, and when that was received."""


class FrameTurns:
    """Routes a connection's frames to their topics, and takes those that wait in turns.

    No turn holds two frames of one symbol: whoever listens to it has had the loop's turn between them, and
    what came of them is in the same order however many frames wait.
    """

    def __init__(
        self, connection: StampedConnection, subscriptions: Mapping[str, Subscription], topic_prefix: bytes
    ) -> None:
        self.held: tuple[bytes, int] | None = None
        """A frame that was received and could not be in its turn: the next one begins with it."""
        self._connection = connection
        self._routes = {name.encode(): one for name, one in subscriptions.items()}
        self.several = len({one.topic.symbol for one in subscriptions.values()}) > 1
        """Whether there are symbols for more than one frame a turn."""
        self._prefix = topic_prefix
        self._start = len(topic_prefix)

    def route(self, frame: bytes) -> Subscription | None:
        """Whose frame it is; None where its topic does not stand first, is not ours, or there is none."""
        # The topic's text stands first in every pushed frame: no decoding is needed to find it.
        start = self._start
        return (
            self._routes.get(frame[start : frame.find(b'"', start)])
            if frame.startswith(self._prefix)
            else None
        )

    async def take(self, first: Arrival, hand_over: Callable[[Arrival], None]) -> None:
        """Hand over `first` and those that wait behind it, of other symbols, one by one; waits for none."""
        connection = self._connection
        symbols = {first[0].topic.symbol}
        hand_over(first)
        while len(symbols) < MOST_A_TURN and connection.whole_messages:
            frame, receive_ns = await connection.receive()
            one = self.route(frame)
            if one is None or one.topic.symbol in symbols:
                self.held = frame, receive_ns
                return
            symbols.add(one.topic.symbol)
            hand_over((one, frame, receive_ns))
