"""cryptofeed's order book in C (package `order-book`), applied as cryptofeed's Bybit adapter applies it.

The adapter is a method of a feed with sockets and callbacks and cannot run alone, so its loop over a
message's levels stands here again, from cryptofeed 2.4.1, `exchanges/bybit.py`, `_book`: every price and size
becomes a Decimal, the side is looked up for every level, a size of 0 deletes the price where it is there, all
others set it. What the adapter does around it (the pair's name, the callbacks) is left out, in its favour; so
is its JSON library, yapic.json, for a faster one, msgspec.

A side of this book is a dictionary that is sorted when it is next read, not when it changes. So applying
alone leaves the sorting undone; `best` makes it happen.
"""

from decimal import Decimal

import msgspec
from order_book import OrderBook

from bench.peers.book_peer import BookPeer, JsonMessage, PrintedSide

_BID, _ASK = "bid", "ask"


class COrderBook(BookPeer):
    """`order_book.OrderBook`, unlimited in depth, as cryptofeed makes it."""

    name = "c-order-book"
    precision = "decimal"
    apply_method = (
        "the loop of cryptofeed's Bybit adapter over the message's levels, from decoded JSON: text to "
        "Decimal, set or delete; the sides are left unsorted until read, no sequence check"
    )
    frame_method = "msgspec.json.decode(text), then the same apply"
    best_method = "bids.index(0), asks.index(0), which sorts the sides that gained or lost a price"

    def __init__(self, topic: str) -> None:
        """An empty book."""
        self._book = OrderBook()
        self.apply = self._apply
        self.on_frame = self._on_frame

    def _apply(self, message: JsonMessage) -> None:
        if message["type"] == "snapshot":
            self._book = OrderBook()
        book = self._book
        for key, update in message["data"].items():
            side = _BID if key == "b" else _ASK
            if key in {"a", "b"}:
                for price_text, size_text in update:
                    price = Decimal(price_text)
                    size = Decimal(size_text)
                    if size == 0:
                        if price in book[side]:
                            del book[side][price]
                    else:
                        book[side][price] = size

    def _on_frame(self, text: str) -> None:
        self._apply(msgspec.json.decode(text))

    def best(self) -> object:
        """((price, size), (price, size)) of the best bid and ask."""
        return self._book.bids.index(0), self._book.asks.index(0)

    def levels(self) -> tuple[PrintedSide, PrintedSide]:
        """(bids, asks), in the order the book itself gives."""
        bids, asks = (
            [(float(price), float(size)) for price, size in side.to_list()]
            for side in (self._book.bids, self._book.asks)
        )
        return bids, asks
