"""The book many Python programs keep: two `sortedcontainers.SortedDict` of float price to float size."""

import msgspec
from sortedcontainers import SortedDict

from bench.peers.book_peer import BookPeer, JsonMessage, PrintedSide


class SortedDictBook(BookPeer):
    """Two SortedDicts without a key function, the best bid the last item: the fastest way to use them."""

    name = "sorteddict"
    precision = "float64"
    apply_method = (
        "a loop over the message's levels, from decoded JSON: text to float, set or delete in a SortedDict; "
        "no sequence check"
    )
    frame_method = "msgspec.json.decode(text), then the same apply"
    best_method = "bids.peekitem(-1), asks.peekitem(0)"

    def __init__(self, topic: str) -> None:
        """An empty book."""
        self._bids: SortedDict = SortedDict()
        self._asks: SortedDict = SortedDict()
        self.apply = self._apply
        self.on_frame = self._on_frame

    def _apply(self, message: JsonMessage) -> None:
        if message["type"] == "snapshot":
            self._bids, self._asks = SortedDict(), SortedDict()
        data = message["data"]
        for side, update in ((self._bids, data["b"]), (self._asks, data["a"])):
            for price_text, size_text in update:
                price, size = float(price_text), float(size_text)
                if size == 0.0:
                    side.pop(price, None)
                else:
                    side[price] = size

    def _on_frame(self, text: str) -> None:
        self._apply(msgspec.json.decode(text))

    def best(self) -> object:
        """((price, size), (price, size)) of the best bid and ask."""
        return self._bids.peekitem(-1), self._asks.peekitem(0)

    def levels(self) -> tuple[PrintedSide, PrintedSide]:
        """(bids, asks), in the dictionaries' own order."""
        return list(reversed(self._bids.items())), list(self._asks.items())
