"""Bybit's own Python client, pybit: the local book its websocket manager keeps for an order-book stream.

The manager is pybit's, unconnected: only its subclasses open a socket. A side is a list of [price, size]
texts in the order they came; pybit never sorts it and never looks at the sequence.
"""

from functools import partial

from pybit._websocket_stream import _V5WebSocketManager

from bench.peers.book_peer import BookPeer, JsonMessage, PrintedSide


class PybitBook(BookPeer):
    """pybit's `_V5WebSocketManager` with one subscription, whose callback does nothing."""

    name = "pybit"
    precision = "text"
    apply_method = (
        "_V5WebSocketManager._process_delta_orderbook(message, topic), from decoded JSON; "
        "numbers stay text, sides are not sorted, no sequence check"
    )
    frame_method = (
        "_V5WebSocketManager._on_message(text) to a callback that does nothing: "
        "json.loads, the same apply, its deep copy of the message"
    )

    def __init__(self, topic: str) -> None:
        """An empty book of `topic`."""
        self._manager = _V5WebSocketManager("Unified V5", testnet=False)
        self._manager._set_callback(topic, _ignore)
        self._topic = topic
        self.apply = partial(self._manager._process_delta_orderbook, topic=topic)
        self.on_frame = self._manager._on_message

    def levels(self) -> tuple[PrintedSide, PrintedSide]:
        """(bids, asks), sorted here."""
        book = self._manager.data[self._topic]
        bids, asks = ([(float(price), float(size)) for price, size in book[side]] for side in "ba")
        return sorted(bids, reverse=True), sorted(asks)


def _ignore(message: JsonMessage) -> None:
    """What a subscriber of pybit's would do with the book."""
