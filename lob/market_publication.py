"""What the simulated market publishes: its first levels, as the changes since the message before.

One market has several feeds, one a depth, each at its own interval, and its trades.
"""

from typing import NamedTuple

import numpy as np

from lob.kernel import allocating_kernel, kernel
from lob.market_flow import ASK, BID, EVENTS, LAST_EVENT_US, TRADES, Integers, State, advance

MAXIMUM_DELAY_US = 4_000
"""The gateway sends a message of the book up to this long after its interval ends."""

TRADE_DELAY_US = 500
"""The gateway sends an interval's trades this long after its end."""

REPEAT_US = 3_000_000
"""A one-level feed without a change sends its last message again after this long (Bybit v5, "Orderbook")."""

# Columns of `Batch.messages`. A message's changes are BEGIN to BIDS_END to ASKS_END; of trades, their rows
# are BEGIN to ASKS_END. REPEATS is 1 for a message that says again what the one before it said.
FEED, BEGIN, BIDS_END, ASKS_END, EVENT_US, SENT_US, EVENT_COUNT, REPEATS = range(8)
MESSAGE_COLUMNS = 8

TRADE_FEED = -1
"""In the column FEED: the message holds trades."""


class Published(NamedTuple):
    """The levels that the last message left subscribers with, best first, bids in row 0 and asks in row 1."""

    ticks: Integers  # (2, depth)
    lots: Integers  # (2, depth)
    counts: Integers  # (2,)


class Feeds(NamedTuple):
    """D feeds of one market: `depths` levels a side every `intervals_us`, W the largest depth."""

    depths: Integers  # (D,)
    intervals_us: Integers  # (D,)
    ticks: Integers  # (D, 2, W)
    lots: Integers  # (D, 2, W)
    counts: Integers  # (D, 2)
    sent_us: Integers  # (D,) the end of the interval that the last message told of


class Batch(NamedTuple):
    """Messages as arrays; a change to 0 lots deletes the level."""

    ticks: Integers  # (changes,)
    lots: Integers  # (changes,)
    messages: Integers  # (M, MESSAGE_COLUMNS)


@kernel
def top_levels(state: State, side: int, ticks: Integers, lots: Integers) -> int:
    """Write the side's first levels, best first, to `ticks` and `lots` (depth,); answers how many."""
    mask = state.lots.size - 1
    away = -1 if side == BID else 1
    count = 0
    for behind in range(state.reach + 1):
        tick = state.touch[side] + away * behind
        held = state.lots[tick & mask]
        if held > 0:
            ticks[count] = tick
            lots[count] = held
            count += 1
            if count == ticks.size:
                break
    return count


@allocating_kernel
def publish_side(state: State, side: int, published: Published, batch: Batch, end: int) -> int:
    """Write the changes from the published levels to the present ones, best first, into `batch`.

    They start at `end`; answers where they end. The present levels become the published ones.
    """
    away = -1 if side == BID else 1
    old_ticks = published.ticks[side].copy()
    old_lots = published.lots[side].copy()
    old_count = published.counts[side]
    new_ticks, new_lots = published.ticks[side], published.lots[side]
    new_count = top_levels(state, side, new_ticks, new_lots)
    published.counts[side] = new_count
    old = new = 0
    while old < old_count or new < new_count:
        if new == new_count or (old < old_count and away * (new_ticks[new] - old_ticks[old]) > 0):
            batch.ticks[end] = old_ticks[old]
            batch.lots[end] = 0
            old += 1
            end += 1
            continue
        kept = old < old_count and old_ticks[old] == new_ticks[new]
        if not kept or old_lots[old] != new_lots[new]:
            batch.ticks[end] = new_ticks[new]
            batch.lots[end] = new_lots[new]
            end += 1
        old += kept
        new += 1
    return end


@kernel
def _whole_side(published: Published, side: int, batch: Batch, end: int) -> int:
    """Write the published levels themselves into `batch` from `end` on; answers where they end."""
    for level in range(published.counts[side]):
        batch.ticks[end] = published.ticks[side, level]
        batch.lots[end] = published.lots[side, level]
        end += 1
    return end


@allocating_kernel
def run(
    rng: np.random.Generator, state: State, feeds: Feeds, batch: Batch, elapsed_us: int, step_us: int
) -> tuple[int, int]:
    """Simulate steps from `elapsed_us` since the market's start until `batch` has no room for one more.

    Answers the number of messages and the time reached. The messages of one step are in the order of the
    feeds, trades last; their times of sending are not in order. `step_us` divides every feed's interval. An
    interval that changes no published level sends nothing, but a one-level feed that has been silent for
    REPEAT_US, which sends whole levels and not changes. Trades are recorded, from row 0 of `state.trades` on,
    where that has rows.
    """
    state.touch[TRADES] = 0
    trades_told = end = sent = 0
    most_changes = 0
    for feed in range(feeds.depths.size):
        most_changes += 4 * feeds.depths[feed]
    while sent + feeds.depths.size + 1 <= batch.messages.shape[0] and end + most_changes <= batch.ticks.size:
        advance(rng, state, elapsed_us, step_us)
        elapsed_us += step_us
        for feed in range(feeds.depths.size):
            if elapsed_us % feeds.intervals_us[feed] != 0:
                continue
            delay_us = int(rng.random() * MAXIMUM_DELAY_US)
            depth = feeds.depths[feed]
            published = Published(
                feeds.ticks[feed, :, :depth], feeds.lots[feed, :, :depth], feeds.counts[feed]
            )
            begin = end
            bids_end = publish_side(state, BID, published, batch, begin)
            end = publish_side(state, ASK, published, batch, bids_end)
            repeats = depth == 1 and end == begin and elapsed_us - feeds.sent_us[feed] >= REPEAT_US
            if end == begin and not repeats:
                continue
            if depth == 1:
                bids_end = _whole_side(published, BID, batch, begin)
                end = _whole_side(published, ASK, batch, bids_end)
            feeds.sent_us[feed] = elapsed_us
            message = batch.messages[sent]
            message[FEED], message[REPEATS] = feed, repeats
            message[BEGIN], message[BIDS_END], message[ASKS_END] = begin, bids_end, end
            message[EVENT_US], message[SENT_US] = state.touch[LAST_EVENT_US], elapsed_us + delay_us
            message[EVENT_COUNT] = state.touch[EVENTS]
            sent += 1
        if state.touch[TRADES] > trades_told:
            message = batch.messages[sent]
            message[FEED], message[REPEATS] = TRADE_FEED, 0
            message[BEGIN], message[BIDS_END], message[ASKS_END] = (
                trades_told,
                trades_told,
                state.touch[TRADES],
            )
            message[EVENT_US], message[SENT_US] = state.touch[LAST_EVENT_US], elapsed_us + TRADE_DELAY_US
            message[EVENT_COUNT] = state.touch[EVENTS]
            trades_told = state.touch[TRADES]
            sent += 1
    return sent, elapsed_us
