"""The feature kernel against the same arithmetic written over lists, to the last bit."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.book import ASK_COUNT, ASKS, BID_COUNT, BIDS, OrderBook
from lob.features import empty_top, sample_row
from lob.instrument import Instrument
from lob.schema import FEATURE_COUNT, LEVELS, LOB44
from lob.window import RingWindow

Side = Sequence[tuple[int, float]]
Book = tuple[Side, Side]
Row = npt.NDArray[np.float32]


def padded(side: Side) -> list[tuple[int, float]]:
    """Ten levels: where there are fewer, the deepest price with nothing at it."""
    levels = list(side[:LEVELS])
    return levels + [(levels[-1][0], 0.0)] * (LEVELS - len(levels))


def plain_row(book: Book, previous: Book | None) -> Row:
    """A `lob44` row (F,) by its definition; `previous` is the book of the row before it."""
    bids, asks = padded(book[0]), padded(book[1])
    mid = 0.5 * (bids[0][0] + asks[0][0])
    columns: list[float] = []
    for (bid, bid_size), (ask, ask_size) in zip(bids, asks, strict=True):
        columns += [mid - bid, math.log1p(bid_size), ask - mid, math.log1p(ask_size)]
    (bid, bid_size), (ask, ask_size) = bids[0], asks[0]
    imbalance = (bid_size - ask_size) / (bid_size + ask_size)
    flow = 0.0
    if previous is not None:
        for now, before, sign in level_pairs(bids, asks, padded(previous[0]), padded(previous[1])):
            better = sign * (now[0] - before[0])
            arrived = now[1] if better >= 0 else 0.0
            left = before[1] if better <= 0 else 0.0
            flow += sign * (arrived - left)
    columns += [0.5 * (ask - bid) * imbalance, float(ask - bid), imbalance, flow]
    return np.array(columns, np.float64).astype(np.float32)


def level_pairs(
    bids: Side, asks: Side, bids_before: Side, asks_before: Side
) -> list[tuple[tuple[int, float], tuple[int, float], int]]:
    """(level now, level before, +1 for bids and -1 for asks), from the touch outwards."""
    pairs = []
    for level in range(LEVELS):
        pairs.append((bids[level], bids_before[level], 1))
        pairs.append((asks[level], asks_before[level], -1))
    return pairs


class Sampler:
    """A book filled by hand, and a ring its rows go to."""

    def __init__(self, *, every_message: bool, length: int = 3) -> None:
        self.book = OrderBook(Instrument(symbol="X", tick_size="1"), 64)
        self.ring = RingWindow(length, FEATURE_COUNT)
        self.top = empty_top()
        self.every_message = every_message

    def sample(self, book: Book) -> Row | None:
        """The row of `book`; None where the kernel takes none."""
        header, keys, sizes = self.book.header, self.book.keys, self.book.sizes
        for side, place, levels, sign in ((BIDS, BID_COUNT, book[0], 1), (ASKS, ASK_COUNT, book[1], -1)):
            header[place] = len(levels)
            keys[side, : len(levels)] = [sign * ticks for ticks, _ in reversed(levels)]
            sizes[side, : len(levels)] = [size for _, size in reversed(levels)]
        storage, slot = self.ring.storage, self.ring.next_slot
        if not sample_row(header, keys, sizes, self.top, self.every_message, storage, slot):
            return None
        assert np.array_equal(storage[slot], storage[slot + self.ring.length])
        self.ring.advance()
        return self.ring.latest().copy()


def deep(seed: int) -> Book:
    """A book of 15 levels a side."""
    draw = np.random.default_rng(seed)
    steps = draw.integers(1, 4, (2, 15)).cumsum(axis=1)
    sizes = draw.uniform(0.001, 50.0, (2, 15))
    bids = [(1000 - int(step), float(size)) for step, size in zip(steps[0], sizes[0], strict=True)]
    asks = [(1000 + int(step), float(size)) for step, size in zip(steps[1], sizes[1], strict=True)]
    return bids, asks


SIZES = st.floats(1e-8, 1e18, allow_nan=False)
BIDS_DRAWN = st.dictionaries(st.integers(1, 30), SIZES, min_size=1, max_size=14)
ASKS_DRAWN = st.dictionaries(st.integers(31, 60), SIZES, min_size=1, max_size=14)


@given(st.lists(st.tuples(BIDS_DRAWN, ASKS_DRAWN), min_size=1, max_size=8), st.booleans())
def test_rows_equal_the_plain_twin(
    books: list[tuple[dict[int, float], dict[int, float]]], every_message: bool
) -> None:
    sampler = Sampler(every_message=every_message)
    previous: Book | None = None
    for bids, asks in books:
        book: Book = (sorted(bids.items(), reverse=True), sorted(asks.items()))
        row = sampler.sample(book)
        same_top = previous is not None and [padded(side) for side in book] == [padded(s) for s in previous]
        assert (row is None) == (same_top and not every_message)
        if row is not None:
            assert row.tobytes() == plain_row(book, previous).tobytes()
            assert np.all(np.isfinite(row))
            previous = book


def test_deep_books_in_a_row_equal_the_plain_twin() -> None:
    sampler = Sampler(every_message=False)
    previous: Book | None = None
    for seed in range(200):
        book = deep(seed)
        row = sampler.sample(book)
        assert row is not None
        assert row.tobytes() == plain_row(book, previous).tobytes()
        previous = book


def test_columns_by_hand() -> None:
    sampler = Sampler(every_message=True)
    first = sampler.sample(([(99, 3.0), (98, 1.0)], [(101, 1.0)]))
    assert first is not None
    named = dict(zip(LOB44.feature_names, first.tolist(), strict=True))
    assert named["bid_price_1"] == 1.0
    assert named["bid_price_2"] == named["bid_price_10"] == 2.0
    assert named["ask_price_1"] == named["ask_price_10"] == 1.0
    assert named["bid_size_1"] == pytest.approx(math.log(4.0))
    assert named["bid_size_3"] == named["ask_size_2"] == 0.0
    assert named["spread"] == 2.0
    assert named["imbalance_1"] == 0.5
    assert named["microprice"] == 0.5  # (99 * 1 + 101 * 3) / 4 - 100
    assert named["ofi"] == 0.0


def flow_between(before: Book, now: Book) -> float:
    sampler = Sampler(every_message=True)
    sampler.sample(before)
    row = sampler.sample(now)
    assert row is not None
    return float(row[LOB44.feature_names.index("ofi")])


TOUCH = ([(99, 3.0)], [(101, 2.0)])


@pytest.mark.parametrize(
    ("now", "flow"),
    [
        (([(99, 3.0)], [(101, 2.0)]), 0.0),
        (([(99, 5.0)], [(101, 2.0)]), 20.0 - 18.0),  # the padding levels stand at the same price, empty
        (([(99, 3.0)], [(101, 1.0)]), 1.0),
        (([(100, 4.0)], [(101, 2.0)]), 4.0),
        (([(98, 4.0)], [(101, 2.0)]), -3.0),
        (([(99, 3.0)], [(100, 7.0)]), -7.0),
        (([(99, 3.0)], [(102, 7.0)]), 2.0),
    ],
)
def test_flow_by_hand(now: Book, flow: float) -> None:
    assert flow_between(TOUCH, now) == flow


def test_unchanged_top_is_sampled_only_with_every_message() -> None:
    bids, asks = deep(1)
    below = ([*bids[:12], (bids[12][0], 77.0), *bids[13:]], asks)
    at_ten = ([*bids[:9], (bids[9][0], 77.0), *bids[10:]], asks)
    sampler = Sampler(every_message=False)
    assert sampler.sample((bids, asks)) is not None
    assert sampler.sample((bids, asks)) is None
    assert sampler.sample(below) is None
    assert sampler.sample(at_ten) is not None
    every = Sampler(every_message=True)
    assert every.sample((bids, asks)) is not None
    assert every.sample(below) is not None
    assert every.ring.count == 2
