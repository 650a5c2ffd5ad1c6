"""The exchange's own book of one topic: what a client that comes later is given to start from.

It keeps the exchange's texts, in dictionaries, and shares no code with the book that subscribers keep: a
fault there cannot hide here.
"""

import msgspec

Levels = list[tuple[str, str]]
"""Prices and sizes as the exchange prints them."""


class _Data(msgspec.Struct, gc=False):
    s: str
    b: Levels
    a: Levels
    u: int
    seq: int = 0


class _Message(msgspec.Struct, gc=False, omit_defaults=True):
    topic: str
    type: str
    ts: int
    data: _Data
    cts: int | None = None


_decode = msgspec.json.Decoder(_Message).decode


class ExchangeBook:
    """Follows a topic's frames. It knows nothing before a snapshot, nor after a gap until the next one."""

    def __init__(self) -> None:
        self._last: _Message | None = None
        self._bids: dict[float, tuple[str, str]] = {}
        self._asks: dict[float, tuple[str, str]] = {}

    @property
    def is_known(self) -> bool:
        """Whether there is a book to give to a client."""
        return self._last is not None

    @property
    def update_id(self) -> int:
        """`u` of the last frame that was applied, 0 where the book is not known."""
        return self._last.data.u if self._last is not None else 0

    def apply(self, frame: bytes) -> None:
        """Follow one frame; what cannot be read is passed over, and shows as a gap at the next one."""
        try:
            message = _decode(frame)
            bids, asks = _by_price(message.data.b), _by_price(message.data.a)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return
        update_id = message.data.u
        if message.type == "snapshot" or update_id == 1:
            self._bids, self._asks = {}, {}
        elif self._last is None or update_id <= self._last.data.u:
            return
        elif update_id != self._last.data.u + 1:
            self._last = None
            return
        for side, levels in ((self._bids, bids), (self._asks, asks)):
            for price, level in levels.items():
                if float(level[1]) == 0:
                    side.pop(price, None)
                else:
                    side[price] = level
        self._last = message

    def snapshot(self) -> bytes:
        """The book as the frame that Bybit sends first; the caller has asked whether it is known."""
        last = self._last
        assert last is not None, "a snapshot of a book that is not known"
        bids = [self._bids[price] for price in sorted(self._bids, reverse=True)]
        asks = [self._asks[price] for price in sorted(self._asks)]
        data = _Data(last.data.s, bids, asks, last.data.u, last.data.seq)
        return msgspec.json.encode(_Message(last.topic, "snapshot", last.ts, data, last.cts))


def _by_price(levels: Levels) -> dict[float, tuple[str, str]]:
    """Levels by their price; raises ValueError where a price or a size is no number."""
    for _, size in levels:
        float(size)
    return {float(price): (price, size) for price, size in levels}
