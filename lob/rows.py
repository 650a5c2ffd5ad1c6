"""From a frame's bytes to a feature row in the window: the only composition of these steps.

A change of the book is one jitted call. Where `lob.delta_scan` reads the frame itself, that call takes the
frame's bytes (`scan_and_sample`); everything else is decoded first (`update_and_sample`), and so is any frame
that the scanner does not take. Both ways come to the same.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from lob.book import DEFAULT_CAPACITY, BookStatus, OrderBook
from lob.delta_scan import (
    EVERY_MESSAGE,
    LAST_EXCHANGE,
    LAST_GATEWAY,
    LAST_SEQUENCE,
    LAST_UPDATE,
    follow,
    new_stream,
)
from lob.errors import InputError
from lob.exact_join import FIRST_UPDATE_ID, ExactJoin, Join
from lob.features import MID, empty_top, sample_row
from lob.instrument import Instrument
from lob.messages import WHOLE_BOOK, BookUpdate, Malformed, Message
from lob.row_kernels import ELSEWHERE, OUTCOME_SHIFT, RowSequel, scan_and_sample, update_and_sample
from lob.row_status import RowStatus
from lob.schema import LOB44, Schema, check_sampling
from lob.venues import Decoder
from lob.window import RingWindow

LEAST_CAPACITY = 1_024
"""Levels a side of the smallest book that `book_capacity` makes."""

MAXIMUM_PENDING = 2_000
"""Changes kept for a snapshot sent apart; the oldest go first, and then the join shows a gap."""

_STATUSES = tuple(RowStatus)
_STATUS_MASK = (1 << OUTCOME_SHIFT) - 1
_ROW, _SNAPSHOT, _NO_ROW = RowStatus.ROW.value, RowStatus.SNAPSHOT.value, RowStatus.NO_ROW.value
_APPLIED = frozenset({_ROW, _SNAPSHOT, _NO_ROW, RowStatus.ONE_SIDED.value})
_IGNORED = RowStatus.IGNORED.value
_NOT_JSON, _NOT_BOOK, _MALFORMED = (
    RowStatus.NOT_JSON.value,
    RowStatus.NOT_BOOK.value,
    RowStatus.MALFORMED.value,
)
_KEPT_FOR_SNAPSHOT = frozenset({RowStatus.WAITING.value, RowStatus.GAP.value})


def book_capacity(depth: int | None) -> int:
    """Levels a side that a book needs where its venue keeps it at `depth`; None, WHOLE_BOOK: all levels.

    Some to spare: one message may set new levels before it deletes old ones. Hundreds of books in one process
    are not to take the 4 MiB each that a whole one has room for.
    """
    if depth is None or depth == WHOLE_BOOK:
        return DEFAULT_CAPACITY
    return min(DEFAULT_CAPACITY, max(LEAST_CAPACITY, 4 * depth))


class RowPath:
    """One symbol's way from frames to rows. Not for two threads at once.

    `sampling` and `window_length` (L) as in `lob.schema` and `lob.window`. `depth` picks one of the depths a
    venue sends a symbol's book in, by default the one whose snapshot comes first; each has its own sequence.
    `capacity` of the book is `book_capacity` of that by default. Without `scan` every frame is decoded:
    slower, and otherwise the same. Raises InputError where a setting is not allowed.

    After a frame: `message` is what it held; `window.latest()` the row where the status is ROW or SNAPSHOT;
    `outcome` that of the sequel where one went on with the row, else 0; `update_id`, `exchange_ms` and
    `gateway_ms` are those of the last message applied; `book` the book. Changes that came before a snapshot
    sent apart are joined to it as one message: the snapshot's.
    """

    def __init__(
        self,
        decoder: Decoder,
        instrument: Instrument,
        schema: Schema = LOB44,
        sampling: str = "top_changed",
        window_length: int = 100,
        *,
        capacity: int | None = None,
        depth: int | None = None,
        scan: bool = True,
    ) -> None:
        if schema != LOB44:
            raise InputError(f"schema: no kernel computes {schema.name!r}; allowed: {LOB44.name!r}")
        self.decoder = decoder
        self.instrument = instrument
        self.symbol = instrument.symbol
        self.schema = schema
        self.sampling = check_sampling(sampling)
        self.book = OrderBook(instrument, book_capacity(depth) if capacity is None else capacity)
        self.window = RingWindow(window_length, schema.feature_count)
        self.outcome = 0
        self.scans = scan and bool(decoder.scannable_topic(1 if depth is None else depth))
        """Whether changes are read from their frames' bytes where those are as expected."""
        self._message: Message | None = None
        self._scanned: bytes | None = None  # the last frame, where nobody has asked for its message yet
        self._top = empty_top()
        self._mid = self._top[MID, :1].data
        self._stream = new_stream(self.sampling == "every_message")
        self._numbers = self._stream.data  # the same memory, read and written as Python's integers
        self._fixed_depth = self._depth = depth
        self._snapshot_apart = decoder.snapshot_apart
        self._pending: deque[BookUpdate] = deque(maxlen=MAXIMUM_PENDING)
        self._exact = ExactJoin()
        self._counts = [0] * len(_STATUSES)
        book = self.book
        self._own = (book.header, book.keys, book.sizes, self._top, self.window.storage, self._stream)
        self._goes_on = True  # for the frame that is being taken in
        self.go_on_with(None)
        self._follow()

    def on_frame(self, frame: bytes, receive_ns: int, *, go_on: bool = True) -> RowStatus:
        """Take one frame in; `receive_ns` stands in for the exchange's time where a message has none.

        Without `go_on` no sequel goes on with its row, whatever `go_on_with` was told.
        """
        if self._followed and type(frame) is bytes:
            if go_on:
                code = self._scan(*self._scan_arguments, self.window.next_slot, frame)
            else:
                code = scan_and_sample(*self._own, self.window.next_slot, frame)
            if code != ELSEWHERE:
                self._scanned = frame
                self.outcome = code >> OUTCOME_SHIFT
                code &= _STATUS_MASK
                if code == _ROW:
                    code = self._take_row()
                self._counts[code] += 1
                return _STATUSES[code]
        self.outcome = 0
        self._scanned = None
        self._goes_on = go_on
        message = self._message = self.decoder.decode(frame)
        if not isinstance(message, BookUpdate):
            code = _NOT_JSON if isinstance(message, Malformed) else _NOT_BOOK
        elif (message.symbol != self.symbol and message.symbol) or (
            message.depth != self._depth and not self._takes_depth(message)
        ):
            code = RowStatus.OTHER_STREAM.value
        elif message.exact:
            code = self._on_exact(message, receive_ns)
        elif message.is_snapshot:
            code = self._on_snapshot(message, receive_ns)
        else:
            code = self._on_change(message)
        self._counts[code] += 1
        return _STATUSES[code]

    def count_unnamed(self, *, readable: bool) -> None:
        """Count a frame that names no stream, which changes nothing, as `on_frame` would."""
        self._counts[_NOT_BOOK if readable else _NOT_JSON] += 1

    def go_on_with(self, sequel: RowSequel | None) -> None:
        """Have rows gone on with by `sequel` from now on; by none where it is None.

        Its kernel is called once without effect, so that it is compiled before the next frame.
        """
        own = self._own
        self._scan: Callable[..., int] = scan_and_sample
        self._update: Callable[..., int] = update_and_sample
        self._scan_arguments: tuple[Any, ...] = own
        self._update_arguments: tuple[Any, ...] = own
        if sequel is None:
            return
        if sequel.scans:
            self._scan, self._scan_arguments = sequel.kernel, own + sequel.arguments
            self._scan(*self._scan_arguments, self.window.next_slot, b"")
        else:
            self._update, self._update_arguments = sequel.kernel, own + sequel.arguments
            self._update(*self._update_arguments, self.window.next_slot, -1, -1, -1, b"", b"")

    def reset(self) -> None:
        """Start again from nothing, as on a new connection: no book until a snapshot, no rows."""
        self.book.invalidate()
        self._forget_rows()
        self._pending.clear()
        self._exact.reset()
        self._depth = self._fixed_depth
        self._follow()

    @property
    def message(self) -> Message | None:
        """What the last frame held; None before the first."""
        if self._scanned is not None:
            self._message = self.decoder.decode(self._scanned)
            self._scanned = None
        return self._message

    @property
    def update_id(self) -> int:
        """The number of the last message applied; 0 before the first."""
        return self._numbers[LAST_UPDATE]

    @property
    def sequence(self) -> int:
        """The venue's count of everything, at the last message applied; 0 where it says none."""
        return self._numbers[LAST_SEQUENCE]

    @property
    def exchange_ms(self) -> int:
        """When the matching engine made the last message applied."""
        return self._numbers[LAST_EXCHANGE]

    @property
    def gateway_ms(self) -> int:
        """When the exchange sent the last message applied."""
        return self._numbers[LAST_GATEWAY]

    @property
    def mid(self) -> float:
        """The book's mid price, correctly rounded; nan while a side is empty."""
        return self.book.mid

    @property
    def row_mid(self) -> float:
        """The mid price at the newest row, as `mid` was then; only right after that row's frame."""
        mid = self._mid[0]
        return mid if mid == mid else self.book.mid

    @property
    def taken(self) -> int:
        """How many rows there were so far, over all books."""
        return self._counts[_ROW] + self._counts[_SNAPSHOT]

    @property
    def books(self) -> int:
        """How many books rows have begun with so far; a model's rows begin anew with each."""
        return self._counts[_SNAPSHOT]

    @property
    def counters(self) -> dict[str, int]:
        """How many frames came to each `RowStatus`, by its lower-case name."""
        return {status.name.lower(): count for status, count in zip(_STATUSES, self._counts, strict=True)}

    @property
    def unreadable(self) -> int:
        """How many frames were no JSON, or held levels that could not be read."""
        return self._counts[_NOT_JSON] + self._counts[_MALFORMED]

    @property
    def held_snapshot(self) -> bool:
        """Whether the last frame held a snapshot; where it was IGNORED, the book still is as sent."""
        message = None if self._scanned is not None else self._message  # what is scanned is a change
        return isinstance(message, BookUpdate) and message.is_snapshot

    def _takes_depth(self, message: BookUpdate) -> bool:
        """Whether a message of another depth is ours; the first snapshot's depth is taken for good."""
        if self._depth is not None:
            return False
        if message.is_snapshot:
            self._depth = message.depth
            self._follow()
        return True

    def _follow(self) -> None:
        """Scan the changes of the book's topic from now on, where they can be and its depth is known."""
        topic = self.decoder.scannable_topic(self._depth) if self.scans and self._depth else b""
        self._followed = follow(self._stream, topic, self.symbol.encode())

    def _on_change(self, update: BookUpdate) -> int:
        """Apply a change and sample; answers a `RowStatus` as an int."""
        kernel, arguments = self._update, self._update_arguments
        if not self._goes_on:
            kernel, arguments = update_and_sample, self._own
        code = kernel(
            *arguments,
            self.window.next_slot,
            update.first_update_id,
            update.update_id,
            update.previous_update_id,
            bytes(update.bids),
            bytes(update.asks),
        )
        self.outcome = code >> OUTCOME_SHIFT
        code &= _STATUS_MASK
        if code in _APPLIED:
            self._take_times(update)
            if code == _ROW:
                code = self._take_row()
        elif self._snapshot_apart:
            if code in _KEPT_FOR_SNAPSHOT:
                self._pending.append(update)
        elif code == _IGNORED and update.sequence > self._numbers[LAST_SEQUENCE]:
            # Newer by the venue's count of everything, older by the book's: the book's numbers began anew
            # with a snapshot that never came, and would in time climb to the one expected next.
            self.book.invalidate()
            code = RowStatus.GAP.value
        return code

    def _on_exact(self, update: BookUpdate, receive_ns: int) -> int:
        """A change that goes on with the book, or else what is joined to one; a `RowStatus` as an int."""
        book, lost = self.book, False
        if book.usable:
            if update.is_snapshot:
                return RowStatus.IGNORED.value  # the book is in sequence without it
            code = self._on_change_in_order(update)
            if code != RowStatus.GAP.value:
                return code
            lost = True
        join = self._exact.add_snapshot(update) if update.is_snapshot else self._exact.add_change(update)
        if join is Join.JOINED:
            snapshot, later = self._exact.take()
            self._pending.extend(later)
            code = self._on_snapshot(snapshot, receive_ns)
            self._pending.clear()  # a snapshot that cannot be read leaves them
            return code
        if lost:
            return RowStatus.GAP.value
        return RowStatus.REFUSED.value if join is Join.REFUSED else RowStatus.WAITING.value

    def _on_change_in_order(self, update: BookUpdate) -> int:
        """Apply a change to a book in sequence, GAP where the venue counts anew or `sequence` falls."""
        last_id, last_sequence = self.book.update_id, self._numbers[LAST_SEQUENCE]
        falls = update.update_id == last_id + 1 and update.sequence < last_sequence
        repeats = update.update_id == last_id and update.sequence == last_sequence
        if falls or (update.update_id == FIRST_UPDATE_ID and not repeats):
            self.book.invalidate()
            return RowStatus.GAP.value
        return self._on_change(update)

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
            self._exact.reset()
            self._take_times(update)
            numbers = self._numbers
            numbers[LAST_EXCHANGE] = numbers[LAST_EXCHANGE] or receive_ns // 1_000_000
            numbers[LAST_GATEWAY] = numbers[LAST_GATEWAY] or numbers[LAST_EXCHANGE]
            status = self._join_pending(status)
        if status.value not in {_ROW, _SNAPSHOT}:
            return status.value
        window = self.window
        sampled = sample_row(
            book.header,
            book.keys,
            book.sizes,
            self._top,
            bool(self._numbers[EVERY_MESSAGE]),
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
        numbers = self._numbers
        numbers[LAST_UPDATE] = update.update_id
        numbers[LAST_SEQUENCE] = update.sequence
        numbers[LAST_EXCHANGE] = update.exchange_ms
        numbers[LAST_GATEWAY] = update.gateway_ms

    def _forget_rows(self) -> None:
        self.window.reset()
        self._top.fill(np.nan)
