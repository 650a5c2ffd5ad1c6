"""From a frame's bytes to a feature row in the window: the only composition of these steps."""

from collections import deque
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from lob.book import DEFAULT_CAPACITY, BookStatus, Floats, Integers, OrderBook, update_book
from lob.errors import InputError
from lob.features import empty_top, sample_row
from lob.instrument import Instrument
from lob.kernel import kernel
from lob.messages import BookUpdate, Malformed, Message
from lob.schema import LOB44, Schema, check_sampling
from lob.venues import Decoder
from lob.window import RingWindow

MAXIMUM_PENDING = 2_000
"""Changes kept for a snapshot sent apart; the oldest go first, and then the join shows a gap."""


class RowStatus(IntEnum):
    """What a frame came to. ROW and SNAPSHOT leave a new row in the window; the others leave it alone.

    SNAPSHOT: the first row since the book started anew, alone in a window that was reset: the snapshot's
    own, or that of the change after which both sides are there. GAP, CROSSED, MALFORMED and OVERFLOW leave
    the book unusable (then WAITING) until the next snapshot; NOT_JSON does not, as the sequence shows the
    loss if it was a book message.
    """

    ROW = 0
    SNAPSHOT = 1
    NO_ROW = 2  # applied, and the first levels did not change
    IGNORED = 3  # an old message, or a resend of what is already applied
    WAITING = 4  # a change before the snapshot
    ONE_SIDED = 5  # applied; one side is empty
    GAP = 6
    CROSSED = 7
    MALFORMED = 8  # a book message with levels that cannot be read
    OVERFLOW = 9  # more levels than the book holds
    NOT_JSON = 10  # not JSON, or JSON of no known shape
    NOT_BOOK = 11  # well formed, but no book message
    OTHER_STREAM = 12  # a book message of another symbol or depth


_STATUSES = tuple(RowStatus)
_ROW, _SNAPSHOT, _NO_ROW = RowStatus.ROW.value, RowStatus.SNAPSHOT.value, RowStatus.NO_ROW.value
_APPLIED = frozenset({_ROW, _SNAPSHOT, _NO_ROW, RowStatus.ONE_SIDED.value})
_IGNORED = RowStatus.IGNORED.value
_KEPT_FOR_SNAPSHOT = frozenset({RowStatus.WAITING.value, RowStatus.GAP.value})


class RowPath:
    """One symbol's way from frames to rows. Not for two threads at once.

    `sampling` and `window_length` (L) as in `lob.schema` and `lob.window`. `depth` picks one of the depths a
    venue sends a symbol's book in, by default the one whose snapshot comes first; each has its own sequence.
    Raises InputError where a setting is not allowed.

    After a frame: `message` is what it held; `window.latest()` the row where the status is ROW or SNAPSHOT;
    `update_id`, `exchange_ms` and `gateway_ms` are those of the last message applied; `book` the book.
    Changes that came before a snapshot sent apart are joined to it as one message: the snapshot's.
    """

    def __init__(
        self,
        decoder: Decoder,
        instrument: Instrument,
        schema: Schema = LOB44,
        sampling: str = "top_changed",
        window_length: int = 100,
        *,
        capacity: int = DEFAULT_CAPACITY,
        depth: int | None = None,
    ) -> None:
        if schema != LOB44:
            raise InputError(f"schema: no kernel computes {schema.name!r}; allowed: {LOB44.name!r}")
        self.decoder = decoder
        self.instrument = instrument
        self.symbol = instrument.symbol
        self.schema = schema
        self.sampling = check_sampling(sampling)
        self.book = OrderBook(instrument, capacity)
        self.window = RingWindow(window_length, schema.feature_count)
        self.message: Message | None = None
        self.update_id = 0
        self.exchange_ms = 0
        self.gateway_ms = 0
        self._top = empty_top()
        self._every_message = self.sampling == "every_message"
        self._fixed_depth = self._depth = depth
        self._sequence = 0  # of the last message applied
        self._snapshot_apart = decoder.snapshot_apart
        self._pending: deque[BookUpdate] = deque(maxlen=MAXIMUM_PENDING)
        self._counts = [0] * len(_STATUSES)

    def on_frame(self, frame: bytes, receive_ns: int) -> RowStatus:
        """Take one frame in; `receive_ns` stands in for the exchange's time where a message has none."""
        message = self.message = self.decoder.decode(frame)
        if not isinstance(message, BookUpdate):
            not_json = isinstance(message, Malformed)
            code = RowStatus.NOT_JSON.value if not_json else RowStatus.NOT_BOOK.value
        elif (message.symbol != self.symbol and message.symbol) or (
            message.depth != self._depth and not self._takes_depth(message)
        ):
            code = RowStatus.OTHER_STREAM.value
        elif message.is_snapshot:
            code = self._on_snapshot(message, receive_ns)
        else:
            code = self._on_change(message)
        self._counts[code] += 1
        return _STATUSES[code]

    def reset(self) -> None:
        """Start again from nothing, as on a new connection: no book until a snapshot, no rows."""
        self.book.invalidate()
        self._forget_rows()
        self._pending.clear()
        self._depth = self._fixed_depth

    @property
    def mid(self) -> float:
        """The book's mid price, correctly rounded; nan while a side is empty."""
        return self.book.mid

    @property
    def counters(self) -> dict[str, int]:
        """How many frames came to each `RowStatus`, by its lower-case name."""
        return {status.name.lower(): count for status, count in zip(_STATUSES, self._counts, strict=True)}

    @property
    def held_snapshot(self) -> bool:
        """Whether the last frame held a snapshot; where it was IGNORED, the book still is as sent."""
        return isinstance(self.message, BookUpdate) and self.message.is_snapshot

    def _takes_depth(self, message: BookUpdate) -> bool:
        """Whether a message of another depth is ours; the first snapshot's depth is taken for good."""
        if self._depth is not None:
            return False
        if message.is_snapshot:
            self._depth = message.depth
        return True

    def _on_change(self, update: BookUpdate) -> int:
        """Apply a change and sample; answers a `RowStatus` as an int."""
        book, window = self.book, self.window
        code = update_and_sample(
            book.header,
            book.keys,
            book.sizes,
            self._top,
            window.storage,
            window.next_slot,
            self._every_message,
            update.first_update_id,
            update.update_id,
            update.previous_update_id,
            bytes(update.bids),
            bytes(update.asks),
        )
        if code in _APPLIED:
            self._take_times(update)
            if code == _ROW:
                code = self._take_row()
        elif self._snapshot_apart:
            if code in _KEPT_FOR_SNAPSHOT:
                self._pending.append(update)
        elif code == _IGNORED and update.sequence > self._sequence:
            # Newer by the venue's count of everything, older by the book's: the book's numbers began anew
            # with a snapshot that never came, and would in time climb to the one expected next.
            book.invalidate()
            code = RowStatus.GAP.value
        return code

    def _on_snapshot(self, update: BookUpdate, receive_ns: int) -> int:
        """Start from a snapshot, join what was kept for it, sample; answers a `RowStatus` as an int."""
        book = self.book
        if self._snapshot_apart and book.usable and update.update_id <= book.update_id:
            return RowStatus.IGNORED.value
        restarts = book.restarts
        status = book.apply(update)
        if status is BookStatus.IGNORED:
            return status.value
        if book.restarts != restarts:
            self._forget_rows()
        if status.value in _APPLIED:
            self._take_times(update)
            self.exchange_ms = self.exchange_ms or receive_ns // 1_000_000
            self.gateway_ms = self.gateway_ms or self.exchange_ms
            status = self._join_pending(status)
        if status.value not in {_ROW, _SNAPSHOT}:
            return status.value
        window = self.window
        sampled = sample_row(
            book.header,
            book.keys,
            book.sizes,
            self._top,
            self._every_message,
            window.storage,
            window.next_slot,
        )
        return self._take_row() if sampled else _NO_ROW

    def _join_pending(self, status: BookStatus) -> BookStatus:
        """Apply the changes kept for the snapshot just applied; the book's status after the last one."""
        for update in self._pending:
            joined = self.book.apply(update)
            if joined is BookStatus.IGNORED:
                continue
            status = joined
            if joined is BookStatus.GAP:  # a snapshot older than what was kept: a newer one can still join it
                return status
            if joined.value not in _APPLIED:
                break
            self._take_times(update)
        self._pending.clear()
        return status

    def _take_row(self) -> int:
        """Take the row just written as the newest; answers a `RowStatus` as an int."""
        window = self.window
        code = _ROW if window.count else _SNAPSHOT
        window.advance()
        return code

    def _take_times(self, update: BookUpdate) -> None:
        self._sequence = update.sequence
        self.update_id = update.update_id
        self.exchange_ms = update.exchange_ms
        self.gateway_ms = update.gateway_ms

    def _forget_rows(self) -> None:
        self.window.reset()
        self._top.fill(np.nan)


@kernel
def update_and_sample(
    header: Integers,
    keys: Integers,
    sizes: Floats,
    top: Floats,
    storage: npt.NDArray[np.float32],
    slot: int,
    every_message: bool,
    first_update_id: int,
    update_id: int,
    previous_update_id: int,
    bids: bytes,
    asks: bytes,
) -> int:
    """Apply a change to the book and write its row to `slot` if sampled; answers a `RowStatus` as an int."""
    status = update_book(
        header, keys, sizes, False, False, first_update_id, update_id, previous_update_id, bids, asks
    )
    if status != BookStatus.OK.value:
        return status
    if sample_row(header, keys, sizes, top, every_message, storage, slot):
        return RowStatus.ROW.value
    return RowStatus.NO_ROW.value
