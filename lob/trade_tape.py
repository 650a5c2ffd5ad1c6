"""Trades on the book's timeline: which ones had happened by the time of each book update.

Books and trades of one symbol come in messages of their own. Both carry the matching engine's time, and by
that they are joined: a trade belongs to the first book update whose exchange time is not before its own.
"""

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from lob.errors import InputError
from lob.instrument import Instrument
from lob.messages import Trade

DEFAULT_CAPACITY = 4_096


class TapedTrade(Struct, gc=False, frozen=True):
    """One trade, its price in ticks; `side` is the taker's: 1 bought, -1 sold."""

    exchange_ms: int
    price_ticks: int
    size: float
    side: int
    trade_id: str
    sequence: int


class TradeTape:
    """The trades of one symbol that no book update has taken yet, at most `capacity`, oldest first.

    `trades` counts those added; `late` those of them whose time a book update had already passed when they
    came: they go to the next one; `dropped` the oldest, let go of for want of room; `malformed` those whose
    price or size is none, or off the instrument's grid.
    """

    def __init__(self, instrument: Instrument, capacity: int = DEFAULT_CAPACITY) -> None:
        if capacity < 1:
            raise InputError(f"capacity: {capacity} came, 1 or more is allowed")
        self.trades = self.late = self.dropped = self.malformed = 0
        self._instrument = instrument
        self._capacity = capacity
        self._waiting: deque[TapedTrade] = deque()
        self._book_ms = -1

    def __len__(self) -> int:
        """How many trades wait for a book update."""
        return len(self._waiting)

    def add(self, trades: Iterable[Trade]) -> None:
        """Put trades on the tape, each at its exchange time; those of one time in the order they came."""
        for trade in trades:
            try:
                taped = self._read(trade)
            except InputError:
                self.malformed += 1
                continue
            self.trades += 1
            self.late += taped.exchange_ms <= self._book_ms
            self._insert(taped)
            if len(self._waiting) > self._capacity:
                self._waiting.popleft()
                self.dropped += 1

    def take(self, exchange_ms: int) -> list[TapedTrade]:
        """The trades up to `exchange_ms`, the time of a book update, that no earlier call has answered."""
        self._book_ms = max(self._book_ms, exchange_ms)
        waiting = self._waiting
        taken = []
        while waiting and waiting[0].exchange_ms <= exchange_ms:
            taken.append(waiting.popleft())
        return taken

    def reset(self) -> None:
        """Begin anew, as on a new connection; the counts stay."""
        self._waiting.clear()
        self._book_ms = -1

    def _insert(self, taped: TapedTrade) -> None:
        waiting = self._waiting
        place = len(waiting)
        while place and waiting[place - 1].exchange_ms > taped.exchange_ms:
            place -= 1
        waiting.insert(place, taped)  # at the end nearly always: a venue prints trades in their order

    def _read(self, trade: Trade) -> TapedTrade:
        digits = trade.size.replace(".", "", 1)
        size = float(trade.size) if digits.isascii() and digits.isdigit() else 0.0
        if not size > 0:
            raise InputError(f"size: {trade.size!r} came, a number above 0 is allowed")
        return TapedTrade(
            trade.exchange_ms,
            self._instrument.ticks(trade.price),
            size,
            trade.side,
            trade.trade_id,
            trade.sequence,
        )
