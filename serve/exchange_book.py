"""The exchange's own book of one topic: what a client that comes later is given to start from.

It keeps the exchange's texts, in dictionaries, and shares no code with the book that subscribers keep: a
fault there cannot hide here.
"""

import msgspec

from lob.book_digest import ASK, BID, MASK, level_digest
from lob.bybit import is_whole_book

Levels = list[tuple[str, str]]
"""Prices and sizes as the exchange prints them."""


class BookData(msgspec.Struct, gc=False):
    """The levels of one message and its numbers."""

    s: str
    b: Levels
    a: Levels
    u: int
    seq: int = 0


class BookMessage(msgspec.Struct, gc=False, omit_defaults=True):
    """One message of an order-book topic."""

    topic: str
    type: str
    ts: int
    data: BookData
    cts: int | None = None


decode_book = msgspec.json.Decoder(BookMessage).decode


class ExchangeBook:
    """Follows a topic's frames. It knows nothing before a snapshot, nor after a gap until the next one."""

    def __init__(self) -> None:
        self._last: BookMessage | None = None
        self._bids: dict[float, tuple[str, str]] = {}
        self._asks: dict[float, tuple[str, str]] = {}
        self._digest = 0

    @property
    def is_known(self) -> bool:
        """Whether there is a book to give to a client."""
        return self._last is not None

    @property
    def update_id(self) -> int:
        """`u` of the last frame that was applied, 0 where the book is not known."""
        return self._last.data.u if self._last is not None else 0

    @property
    def sequence(self) -> int:
        """`seq` of the last frame that was applied, 0 where the book is not known."""
        return self._last.data.seq if self._last is not None else 0

    @property
    def digest(self) -> int:
        """The book's digest (`lob.book_digest`)."""
        return self._digest

    @property
    def bids(self) -> Levels:
        """The bids, best first."""
        return [self._bids[price] for price in sorted(self._bids, reverse=True)]

    @property
    def asks(self) -> Levels:
        """The asks, best first."""
        return [self._asks[price] for price in sorted(self._asks)]

    @property
    def sizes(self) -> tuple[int, int]:
        """How many bids and asks there are."""
        return len(self._bids), len(self._asks)

    def apply(self, frame: bytes) -> None:
        """Follow one frame; what cannot be read is passed over, and shows as a gap at the next one."""
        try:
            message = decode_book(frame)
            bids, asks = _by_price(message.data.b), _by_price(message.data.a)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return
        update_id = message.data.u
        if update_id == 1 and message.type != "snapshot" and is_whole_book(message.topic):
            self._last = None  # the numbers begin anew, and no level is told
            return
        if message.type == "snapshot" or update_id == 1:
            self._bids, self._asks, self._digest = {}, {}, 0
        elif self._last is None or update_id <= self._last.data.u:
            return
        elif update_id != self._last.data.u + 1:
            self._last = None
            return
        digest = self._digest
        for name, side, levels in ((BID, self._bids, bids), (ASK, self._asks, asks)):
            for price, level in levels.items():
                size = float(level[1])
                before = side.pop(price, None)
                if before is not None:
                    digest -= level_digest(name, price, float(before[1]))
                if size != 0:
                    side[price] = level
                    digest += level_digest(name, price, size)
        self._digest = digest & MASK
        self._last = message

    def snapshot(self) -> bytes:
        """The book as the frame that Bybit sends first; the caller has asked whether it is known."""
        last = self._last
        assert last is not None, "a snapshot of a book that is not known"
        data = BookData(last.data.s, self.bids, self.asks, last.data.u, last.data.seq)
        return msgspec.json.encode(BookMessage(last.topic, "snapshot", last.ts, data, last.cts))


def _by_price(levels: Levels) -> dict[float, tuple[str, str]]:
    """Levels by their price; raises ValueError where a price or a size is no number."""
    for _, size in levels:
        float(size)
    return {float(price): (price, size) for price, size in levels}
