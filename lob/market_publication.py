"""What the simulated market publishes: its first levels, as the changes since the message before."""

from typing import NamedTuple

import numpy as np
from numba import njit

from lob.market_flow import BID, EVENTS, LAST_EVENT_US, Integers, State, advance

MAXIMUM_DELAY_US = 4_000
"""The gateway sends a message up to this long after its interval ends."""


class Published(NamedTuple):
    """The levels that the last message left subscribers with, best first, bids in row 0 and asks in row 1."""

    ticks: Integers  # (2, depth)
    lots: Integers  # (2, depth)
    counts: Integers  # (2,)


class Batch(NamedTuple):
    """M messages as arrays, of at most 4 * depth changes each; a size of 0 lots deletes the level."""

    ticks: Integers  # (changes,)
    lots: Integers  # (changes,)
    messages: Integers  # (M, 5): end of its bids, end of its asks, last event us, sending us, events so far


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def run(
    rng: np.random.Generator,
    state: State,
    published: Published,
    batch: Batch,
    elapsed_us: int,
    interval_us: int,
) -> int:
    """Simulate from `elapsed_us` since the market's start until `batch` is full; answers the time reached.

    An interval that changes no published level sends nothing.
    """
    end = 0
    sent = 0
    while sent < batch.messages.shape[0]:
        advance(rng, state, elapsed_us, interval_us)
        elapsed_us += interval_us
        message = batch.messages[sent]
        delay_us = int(rng.random() * MAXIMUM_DELAY_US)
        bids_end = publish_side(state, 0, published, batch, end)
        asks_end = publish_side(state, 1, published, batch, bids_end)
        if asks_end > end:
            message[0], message[1] = bids_end, asks_end
            message[2], message[3] = state.touch[LAST_EVENT_US], elapsed_us + delay_us
            message[4] = state.touch[EVENTS]
            end = asks_end
            sent += 1
    return elapsed_us
