"""The `lob44` feature row, computed from the book straight into the ring window, in one jitted call.

The arithmetic is float64 on integer ticks, each number rounded once to float32 as it is stored.
"""

import math

import numpy as np
import numpy.typing as npt

from lob.book import ASK_COUNT, ASKS, BID_COUNT, BIDS, TICK_DECIMALS, TICK_MANTISSA, Floats, Integers
from lob.decimal_text import EXACT_MANTISSA, FLOAT_POWERS
from lob.kernel import kernel
from lob.schema import FEATURE_COUNT, LEVELS

BID_TICKS, BID_SIZES, ASK_TICKS, ASK_SIZES, BID_LOGS, ASK_LOGS, MID = range(7)
"""Rows of a `top` array (7, LEVELS): the first levels of the book a row was last taken from.

The first of MID is the mid price, correctly rounded; nan where that takes more than float64 arithmetic.
"""

_MICROPRICE, _SPREAD, _IMBALANCE, _FLOW = range(4 * LEVELS, FEATURE_COUNT)


def empty_top() -> Floats:
    """A `top` (7, LEVELS) of no row yet.

    It is nan, which differs from any level and stands in no order to it: the next row is sampled, with flow
    0.
    """
    return np.full((7, LEVELS), np.nan)


@kernel
def sample_row(
    header: Integers,
    keys: Integers,
    sizes: Floats,
    top: Floats,
    every_message: bool,
    storage: npt.NDArray[np.float32],
    slot: int,
) -> bool:
    """Write the row of a two-sided book to both places of `slot`; answers whether it did.

    It does not where the first levels are those of the last row, unless `every_message`.

    header, keys, sizes: the book's state (see `lob.book`); top (7, LEVELS): the levels of the last row,
    brought up to date; storage (2L, F) float32. Columns: see `lob.schema.LOB44`.
    """
    bid_count, ask_count = header[BID_COUNT], header[ASK_COUNT]
    flow = 0.0
    changed = False
    for level in range(LEVELS):
        place = bid_count - 1 - level
        ticks = float(keys[BIDS, max(place, 0)])
        size = sizes[BIDS, place] if place >= 0 else 0.0
        before, size_before = top[BID_TICKS, level], top[BID_SIZES, level]
        if ticks != before or size != size_before:
            changed = True
            arrived = size if ticks >= before else 0.0
            left = size_before if ticks <= before else 0.0
            flow += arrived - left
            top[BID_TICKS, level] = ticks
            if size != size_before:
                top[BID_SIZES, level] = size
                top[BID_LOGS, level] = math.log1p(size)
        place = ask_count - 1 - level
        ticks = float(-keys[ASKS, max(place, 0)])
        size = sizes[ASKS, place] if place >= 0 else 0.0
        before, size_before = top[ASK_TICKS, level], top[ASK_SIZES, level]
        if ticks != before or size != size_before:
            changed = True
            arrived = size if ticks <= before else 0.0
            left = size_before if ticks >= before else 0.0
            flow -= arrived - left
            top[ASK_TICKS, level] = ticks
            if size != size_before:
                top[ASK_SIZES, level] = size
                top[ASK_LOGS, level] = math.log1p(size)
    if not changed and not every_message:
        return False

    mid = 0.5 * (top[BID_TICKS, 0] + top[ASK_TICKS, 0])
    row, mirror = storage[slot], storage[slot + storage.shape[0] // 2]
    for level in range(LEVELS):
        row[4 * level] = mid - top[BID_TICKS, level]
        row[4 * level + 1] = top[BID_LOGS, level]
        row[4 * level + 2] = top[ASK_TICKS, level] - mid
        row[4 * level + 3] = top[ASK_LOGS, level]
    spread = top[ASK_TICKS, 0] - top[BID_TICKS, 0]
    bid_size, ask_size = top[BID_SIZES, 0], top[ASK_SIZES, 0]
    imbalance = (bid_size - ask_size) / (bid_size + ask_size)
    # (bid * qa + ask * qb) / (qa + qb) - mid, without the cancellation.
    row[_MICROPRICE] = 0.5 * spread * imbalance
    row[_SPREAD] = spread
    row[_IMBALANCE] = imbalance
    row[_FLOW] = flow
    for column in range(FEATURE_COUNT):
        mirror[column] = row[column]
    top[MID, 0] = _mid_price(header, keys)
    return True


@kernel
def _mid_price(header: Integers, keys: Integers) -> float:
    """`Instrument.mid` of a two-sided book by one division of exact numbers; nan where they are not exact."""
    ticks = keys[BIDS, header[BID_COUNT] - 1] - keys[ASKS, header[ASK_COUNT] - 1]
    doubled = ticks * header[TICK_MANTISSA]
    return doubled / (2.0 * FLOAT_POWERS[header[TICK_DECIMALS]]) if doubled < EXACT_MANTISSA else np.nan
