"""The order book of one instrument: sorted arrays of ticks and sizes, changed in one jitted call a message.

Both sides are sorted upwards by a key, ticks for bids and -ticks for asks, so that the best level of either
stands last: changes gather near the touch, and there they move little. The state is three plain arrays
(`header`, `keys`, `sizes`), so that other jitted code can take the book in.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from lob.decimal_text import Levels, read_levels
from lob.errors import InputError
from lob.instrument import Instrument
from lob.kernel import kernel
from lob.messages import BookUpdate
from lob.moving import move
from lob.sync import Verdict, sequence_verdict

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DEFAULT_CAPACITY = 65_536
"""Levels a side, and levels a side of one message: well above what a full-depth feed of a day gathers."""

BID_COUNT, ASK_COUNT, UPDATE_ID, USABLE, JOINED, RESTARTS, TICK_MANTISSA, TICK_DECIMALS = range(8)
"""Places in `header`; RESTARTS counts the snapshots the book began anew from, JOINED is 1 after a delta."""

BIDS, ASKS, NEW_BIDS, NEW_ASKS = range(4)
"""Rows of `keys` and `sizes`: the two sides, and the levels of the message being applied."""

_LINEAR_STEPS = 8  # levels from the touch that are looked at one by one before the search halves


class BookStatus(IntEnum):
    """What a message did to the book. From GAP on the book is unusable until the next snapshot.

    The numbers are those of `lob.row_status.RowStatus`.
    """

    OK = 0
    SNAPSHOT = 1  # applied, and the book began anew
    IGNORED = 3
    WAITING = 4
    ONE_SIDED = 5  # applied; one side is empty
    GAP = 6
    CROSSED = 7
    MALFORMED = 8
    OVERFLOW = 9


_STATUSES = {status.value: status for status in BookStatus}


class OrderBook:
    """One instrument's book, at most `capacity` levels a side.

    Raises InputError where `capacity` is below 1.
    """

    def __init__(self, instrument: Instrument, capacity: int = DEFAULT_CAPACITY) -> None:
        if capacity < 1:
            raise InputError(f"capacity: came {capacity}; allowed: 1 or more levels")
        self.instrument = instrument
        self.capacity = capacity
        self.header: Integers = np.zeros(8, np.int64)
        self.keys: Integers = np.zeros((4, capacity), np.int64)
        self.sizes: Floats = np.zeros((4, capacity), np.float64)
        self.header[TICK_MANTISSA] = instrument.tick_mantissa
        self.header[TICK_DECIMALS] = instrument.tick_decimals

    def apply(self, update: BookUpdate) -> BookStatus:
        """Take one message in. All of it is applied or nothing; a change that overflows empties the book."""
        code = update_book(
            self.header,
            self.keys,
            self.sizes,
            update.is_snapshot,
            update.continues,
            update.first_update_id,
            update.update_id,
            update.previous_update_id,
            bytes(update.bids),
            bytes(update.asks),
        )
        return _STATUSES[code]

    def invalidate(self) -> None:
        """Refuse all changes until the next snapshot, as after a lost connection."""
        self.header[USABLE] = 0

    @property
    def usable(self) -> bool:
        """Whether the book is in sequence since a snapshot."""
        return bool(self.header[USABLE])

    @property
    def update_id(self) -> int:
        """The last update applied; 0 before the first snapshot."""
        return int(self.header[UPDATE_ID])

    @property
    def restarts(self) -> int:
        """How many snapshots the book began anew from."""
        return int(self.header[RESTARTS])

    def bids(self, levels: int | None = None) -> tuple[Integers, Floats]:
        """(ticks, sizes) of the best `levels` bids, all where None, best first: new arrays."""
        return self._side(BIDS, int(self.header[BID_COUNT]), levels)

    def asks(self, levels: int | None = None) -> tuple[Integers, Floats]:
        """(ticks, sizes) of the best `levels` asks, all where None, best first: new arrays."""
        keys, sizes = self._side(ASKS, int(self.header[ASK_COUNT]), levels)
        return -keys, sizes

    def printed(self, levels: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """(bids, asks) as lists of (price, size), best first, at most `levels` each."""
        price = self.instrument.price
        bids, asks = (
            [(price(ticks), size) for ticks, size in zip(side[0].tolist(), side[1].tolist(), strict=True)]
            for side in (self.bids(levels), self.asks(levels))
        )
        return bids, asks

    @property
    def mid(self) -> float:
        """The price half way between the best bid and ask, correctly rounded; nan where one is missing."""
        bids, asks = int(self.header[BID_COUNT]), int(self.header[ASK_COUNT])
        if bids == 0 or asks == 0:
            return float("nan")
        return self.instrument.mid(int(self.keys[BIDS, bids - 1]), -int(self.keys[ASKS, asks - 1]))

    def _side(self, side: int, count: int, levels: int | None) -> tuple[Integers, Floats]:
        """(keys, sizes) of a side, best first."""
        if levels is not None and levels < 0:
            raise InputError(f"levels: came {levels}; allowed: 0 or more")
        first = 0 if levels is None else max(0, count - levels)
        return self.keys[side, first:count][::-1].copy(), self.sizes[side, first:count][::-1].copy()


@kernel
def update_book(
    header: Integers,
    keys: Integers,
    sizes: Floats,
    is_snapshot: bool,
    continues: bool,
    first_update_id: int,
    update_id: int,
    previous_update_id: int,
    bids: bytes,
    asks: bytes,
) -> int:
    """Apply one message to the book; answers a `BookStatus` as an int.

    header (8,), keys (4, capacity), sizes (4, capacity) as `OrderBook` holds them; `bids` and `asks` are JSON
    text. All levels are read before the first is applied.
    """
    usable, last_update_id = header[USABLE] != 0, header[UPDATE_ID]
    status = _judged(header, is_snapshot, first_update_id, update_id, previous_update_id)
    if status != BookStatus.OK.value:
        return status
    mantissa, decimals = header[TICK_MANTISSA], header[TICK_DECIMALS]
    new_bids = read_levels(bids, keys[NEW_BIDS], sizes[NEW_BIDS], 1, mantissa, decimals)
    new_asks = read_levels(asks, keys[NEW_ASKS], sizes[NEW_ASKS], -1, mantissa, decimals)
    if new_bids < 0 or new_asks < 0:
        malformed = new_bids == Levels.MALFORMED.value or new_asks == Levels.MALFORMED.value
        return BookStatus.MALFORMED.value if malformed else BookStatus.OVERFLOW.value
    if not is_snapshot:
        return _change_sides(header, keys, sizes, update_id, new_bids, new_asks)
    if usable and update_id == last_update_id and _holds(header, keys, sizes, new_bids, new_asks):
        header[USABLE] = 1
        return BookStatus.IGNORED.value  # orderbook.1 re-sends an unchanged book every three seconds
    restarts = not (continues and usable and update_id > last_update_id)
    header[RESTARTS] += restarts
    bid_count = _replace_side(keys, sizes, BIDS, NEW_BIDS, new_bids)
    ask_count = _replace_side(keys, sizes, ASKS, NEW_ASKS, new_asks)
    header[JOINED] = 0
    status = _settled(header, keys, update_id, bid_count, ask_count)
    return BookStatus.SNAPSHOT.value if restarts and status == BookStatus.OK.value else status


@kernel
def apply_change(
    header: Integers,
    keys: Integers,
    sizes: Floats,
    first_update_id: int,
    update_id: int,
    previous_update_id: int,
    new_bids: int,
    new_asks: int,
) -> int:
    """Apply a change whose levels already stand in the rows NEW_BIDS and NEW_ASKS of `keys` and `sizes`.

    Answers a `BookStatus` as an int. The rest as `update_book`.
    """
    status = _judged(header, False, first_update_id, update_id, previous_update_id)
    if status != BookStatus.OK.value:
        return status
    return _change_sides(header, keys, sizes, update_id, new_bids, new_asks)


@kernel
def _judged(
    header: Integers, is_snapshot: bool, first_update_id: int, update_id: int, previous_update_id: int
) -> int:
    """OK, and the book unusable until the message proves sound, where it is next in the sequence."""
    verdict = sequence_verdict(
        is_snapshot,
        first_update_id,
        update_id,
        previous_update_id,
        header[UPDATE_ID],
        header[USABLE] != 0,
        header[JOINED] != 0,
    )
    if verdict == Verdict.IGNORE.value:
        return BookStatus.IGNORED.value
    if verdict == Verdict.WAIT.value:
        return BookStatus.WAITING.value
    header[USABLE] = 0
    return BookStatus.GAP.value if verdict == Verdict.GAP.value else BookStatus.OK.value


@kernel
def _change_sides(
    header: Integers, keys: Integers, sizes: Floats, update_id: int, new_bids: int, new_asks: int
) -> int:
    """Apply a change that is next in the sequence; answers a `BookStatus` as an int."""
    bid_count = _change_side(keys, sizes, BIDS, NEW_BIDS, header[BID_COUNT], new_bids)
    ask_count = _change_side(keys, sizes, ASKS, NEW_ASKS, header[ASK_COUNT], new_asks)
    if bid_count < 0 or ask_count < 0:
        header[BID_COUNT] = 0  # a book half changed is worse than none
        header[ASK_COUNT] = 0
        return BookStatus.OVERFLOW.value
    header[JOINED] = 1
    return _settled(header, keys, update_id, bid_count, ask_count)


@kernel
def _settled(header: Integers, keys: Integers, update_id: int, bid_count: int, ask_count: int) -> int:
    """Note what the sides hold now, and the book usable where that is sound: OK, ONE_SIDED or CROSSED."""
    header[BID_COUNT] = bid_count
    header[ASK_COUNT] = ask_count
    header[UPDATE_ID] = update_id
    one_sided = bid_count == 0 or ask_count == 0
    if not one_sided and keys[BIDS, bid_count - 1] + keys[ASKS, ask_count - 1] >= 0:
        return BookStatus.CROSSED.value
    header[USABLE] = 1
    return BookStatus.ONE_SIDED.value if one_sided else BookStatus.OK.value


@kernel
def set_level(keys: Integers, sizes: Floats, count: int, key: int, size: float) -> int:
    """Set, insert or (size 0) delete one level of a side (capacity,); its new count, -1 where it is full.

    Deleting a level that is not there changes nothing.
    """
    place = count  # one past the last key below or at `key`
    stop = max(0, count - _LINEAR_STEPS)
    while place > stop and keys[place - 1] > key:
        place -= 1
    if place == stop and stop > 0 and keys[stop - 1] > key:
        low, high = 0, stop - 1
        while low < high:
            middle = (low + high) // 2
            if keys[middle] > key:
                high = middle
            else:
                low = middle + 1
        place = low
    if place > 0 and keys[place - 1] == key:
        if size > 0.0:
            sizes[place - 1] = size
            return count
        move(keys, place - 1, place, count - place)
        move(sizes, place - 1, place, count - place)
        return count - 1
    if size == 0.0:
        return count
    if count == len(keys):
        return -1
    move(keys, place + 1, place, count - place)
    move(sizes, place + 1, place, count - place)
    keys[place] = key
    sizes[place] = size
    return count + 1


@kernel
def _change_side(keys: Integers, sizes: Floats, side: int, source: int, count: int, changes: int) -> int:
    """Apply the first `changes` levels of row `source` to `side`; its count, -1 where it is full."""
    side_keys, side_sizes = keys[side], sizes[side]
    for index in range(changes):
        count = set_level(side_keys, side_sizes, count, keys[source, index], sizes[source, index])
        if count < 0:
            return -1
    return count


@kernel
def _replace_side(keys: Integers, sizes: Floats, side: int, source: int, levels: int) -> int:
    """Make row `side` of the first `levels` levels of row `source`; answers its count."""
    if _is_best_first(keys[source], sizes[source], levels):
        for index in range(levels):
            keys[side, levels - 1 - index] = keys[source, index]
            sizes[side, levels - 1 - index] = sizes[source, index]
        return levels
    return _change_side(keys, sizes, side, source, 0, levels)


@kernel
def _is_best_first(keys: Integers, sizes: Floats, levels: int) -> bool:
    """Whether levels fall strictly from the best on and none is empty, as venues send snapshots."""
    for index in range(levels):
        if sizes[index] == 0.0 or (index > 0 and keys[index] >= keys[index - 1]):
            return False
    return True


@kernel
def _holds(header: Integers, keys: Integers, sizes: Floats, new_bids: int, new_asks: int) -> bool:
    """Whether the message's levels, best first, are the book as it stands."""
    if new_bids != header[BID_COUNT] or new_asks != header[ASK_COUNT]:
        return False
    for side, source, count in ((BIDS, NEW_BIDS, new_bids), (ASKS, NEW_ASKS, new_asks)):
        for index in range(count):
            place = count - 1 - index
            if keys[side, place] != keys[source, index] or sizes[side, place] != sizes[source, index]:
                return False
    return True
