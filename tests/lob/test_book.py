"""The jitted book against dictionaries: any sequence of messages, sound or not."""

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lob.book import BookStatus, OrderBook, set_level
from lob.errors import InputError
from lob.instrument import Instrument
from lob.messages import BookUpdate

INSTRUMENT = Instrument(symbol="X", tick_size="0.5")
Levels = Sequence[tuple[int, float]]


def text(levels: Levels) -> bytes:
    return json.dumps([[f"{ticks / 2:.1f}", repr(float(size))] for ticks, size in levels]).encode()


def message(
    update_id: int,
    bids: Levels | bytes = (),
    asks: Levels | bytes = (),
    *,
    snapshot: bool = False,
    continues: bool = False,
) -> BookUpdate:
    return BookUpdate(
        symbol="X",
        is_snapshot=snapshot,
        first_update_id=update_id,
        update_id=update_id,
        previous_update_id=-1,
        sequence=0,
        exchange_ms=0,
        gateway_ms=0,
        bids=bids if isinstance(bids, bytes) else text(bids),
        asks=asks if isinstance(asks, bytes) else text(asks),
        continues=continues,
    )


def contents(book: OrderBook) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    (bid_ticks, bid_sizes), (ask_ticks, ask_sizes) = book.bids(), book.asks()
    return (
        list(zip(bid_ticks.tolist(), bid_sizes.tolist(), strict=True)),
        list(zip(ask_ticks.tolist(), ask_sizes.tolist(), strict=True)),
    )


def started(capacity: int = 16) -> OrderBook:
    book = OrderBook(INSTRUMENT, capacity)
    assert book.apply(message(5, [(10, 1.0), (9, 2.0)], [(12, 3.0)], snapshot=True)) is BookStatus.SNAPSHOT
    return book


class ModelBook:
    """What an order book is, in dictionaries: every rule of it, none of its speed."""

    def __init__(self) -> None:
        self.bids: dict[int, float] = {}
        self.asks: dict[int, float] = {}
        self.last = 0
        self.usable = False

    def apply(self, update_id: int, bids: Levels, asks: Levels, *, snapshot: bool) -> BookStatus:
        if not snapshot:
            if not self.usable:
                return BookStatus.WAITING
            if update_id <= self.last:
                return BookStatus.IGNORED
            if update_id != self.last + 1:
                self.usable = False
                return BookStatus.GAP
        new_bids = {} if snapshot else dict(self.bids)
        new_asks = {} if snapshot else dict(self.asks)
        for side, levels in ((new_bids, bids), (new_asks, asks)):
            for ticks, size in levels:
                side[ticks] = size
                if size == 0:
                    del side[ticks]
        same = [*bids] == sorted(self.bids.items(), reverse=True) and [*asks] == sorted(self.asks.items())
        if snapshot and self.usable and update_id == self.last and same:
            return BookStatus.IGNORED
        self.bids, self.asks, self.last = new_bids, new_asks, update_id
        one_sided = not new_bids or not new_asks
        self.usable = one_sided or max(new_bids) < min(new_asks)
        if not self.usable:
            return BookStatus.CROSSED
        if one_sided:
            return BookStatus.ONE_SIDED
        return BookStatus.SNAPSHOT if snapshot else BookStatus.OK


SIZES = st.sampled_from([0.0, 0.001, 1.5, 7.0])
BID_LEVELS = st.lists(st.tuples(st.integers(1, 21), SIZES), max_size=6)
ASK_LEVELS = st.lists(st.tuples(st.integers(19, 40), SIZES), max_size=6)
STEPS = st.lists(
    st.tuples(st.integers(0, 7), st.sampled_from([0, 0, 1, 1, 1, 1, 1, 1, 2]), BID_LEVELS, ASK_LEVELS),
    max_size=25,
)


@settings(max_examples=300)
@given(STEPS)
def test_any_messages_make_the_book_dictionaries_make(
    steps: list[tuple[int, int, Levels, Levels]],
) -> None:
    """Snapshots (1 in 8), duplicates, gaps and crossing levels among sound changes, in any order."""
    book, model = OrderBook(INSTRUMENT, 64), ModelBook()
    for kind, advance, bids, asks in steps:
        update_id = model.last + advance
        expected = model.apply(update_id, bids, asks, snapshot=kind == 0)
        update = message(update_id, bids, asks, snapshot=kind == 0)
        assert book.apply(update) is expected
        assert contents(book) == (sorted(model.bids.items(), reverse=True), sorted(model.asks.items()))
        assert book.usable == model.usable
        assert book.update_id == model.last


@given(st.lists(st.tuples(st.integers(-60, -1), SIZES), max_size=120))
def test_set_level_keeps_a_sorted_side(changes: list[tuple[int, float]]) -> None:
    keys, sizes, count = np.zeros(64, np.int64), np.zeros(64), 0
    side: dict[int, float] = {}
    for key, size in changes:
        count = set_level(keys, sizes, count, key, size)
        side[key] = size
        if size == 0.0:
            del side[key]
        assert dict(zip(keys[:count].tolist(), sizes[:count].tolist(), strict=True)) == side
        assert keys[:count].tolist() == sorted(side)


def test_full_side_takes_changes_but_no_new_level() -> None:
    keys, sizes = np.array([1, 2, 3]), np.ones(3)
    assert set_level(keys, sizes, 3, 2, 5.0) == 3
    assert sizes.tolist() == [1.0, 5.0, 1.0]
    assert set_level(keys, sizes, 3, 4, 1.0) == -1
    assert set_level(keys, sizes, 3, 4, 0.0) == 3
    assert set_level(keys, sizes, 3, 1, 0.0) == 2
    assert keys[:2].tolist() == [2, 3]


def test_snapshot_in_any_order_makes_the_same_book() -> None:
    levels = [(9, 2.0), (10, 1.0), (7, 0.0), (8, 4.0), (9, 5.0)]
    book = OrderBook(INSTRUMENT, 16)
    assert book.apply(message(1, levels, [(12, 3.0), (11, 1.0)], snapshot=True)) is BookStatus.SNAPSHOT
    assert contents(book) == ([(10, 1.0), (9, 5.0), (8, 4.0)], [(11, 1.0), (12, 3.0)])


def test_changes_wait_before_the_first_snapshot() -> None:
    book = OrderBook(INSTRUMENT)
    assert book.apply(message(1, [(10, 1.0)])) is BookStatus.WAITING
    assert contents(book) == ([], [])
    assert not book.usable
    assert math.isnan(book.mid)


def test_gap_makes_it_unusable_until_a_snapshot() -> None:
    book = started()
    assert book.apply(message(7, [(10, 9.0)])) is BookStatus.GAP
    assert contents(book)[0] == [(10, 1.0), (9, 2.0)]
    assert book.apply(message(6, [(10, 9.0)])) is BookStatus.WAITING
    assert book.apply(message(8, [(10, 7.0)], [(11, 1.0)], snapshot=True)) is BookStatus.SNAPSHOT
    assert book.apply(message(9, [(10, 8.0)])) is BookStatus.OK
    assert contents(book) == ([(10, 8.0)], [(11, 1.0)])


def test_old_change_is_ignored() -> None:
    book = started()
    for update_id in (1, 4, 5):
        assert book.apply(message(update_id, [(10, 9.0)])) is BookStatus.IGNORED
    assert contents(book)[0] == [(10, 1.0), (9, 2.0)]
    assert book.apply(message(6, [(10, 9.0)])) is BookStatus.OK


def test_resent_snapshot_is_ignored_and_a_different_one_is_not() -> None:
    book = started()
    assert book.apply(message(6, [(8, 1.0)])) is BookStatus.OK
    resent = message(6, [(10, 1.0), (9, 2.0), (8, 1.0)], [(12, 3.0)], snapshot=True)
    assert book.apply(resent) is BookStatus.IGNORED
    assert book.restarts == 1
    assert book.apply(message(7, [(8, 0.0)])) is BookStatus.OK
    assert book.apply(message(7, [(10, 4.0)], [(12, 3.0)], snapshot=True)) is BookStatus.SNAPSHOT
    assert book.restarts == 2
    assert contents(book) == ([(10, 4.0)], [(12, 3.0)])


@pytest.mark.parametrize("update_id", [1, 3, 5, 6, 100])
def test_snapshot_overwrites_whatever_its_number(update_id: int) -> None:
    book = started()
    assert book.apply(message(update_id, [(3, 1.0)], [(4, 1.0)], snapshot=True)) is BookStatus.SNAPSHOT
    assert contents(book) == ([(3, 1.0)], [(4, 1.0)])
    assert book.update_id == update_id
    assert book.apply(message(update_id + 1, [(2, 1.0)])) is BookStatus.OK


def test_replacement_inside_a_stream_is_no_new_start() -> None:
    book = started()
    replacement = message(9, [(11, 1.0)], [(12, 1.0)], snapshot=True, continues=True)
    assert book.apply(replacement) is BookStatus.OK
    assert book.restarts == 1
    assert contents(book) == ([(11, 1.0)], [(12, 1.0)])
    assert book.apply(replacement) is BookStatus.IGNORED
    older = message(1, [(11, 1.0)], [(12, 1.0)], snapshot=True, continues=True)
    assert book.apply(older) is BookStatus.SNAPSHOT
    book.invalidate()
    assert book.apply(replacement) is BookStatus.SNAPSHOT
    assert book.restarts == 3


@pytest.mark.parametrize("touch", [12, 13])
def test_crossed_book_is_unusable(touch: int) -> None:
    book = started()
    assert book.apply(message(6, [(touch, 1.0)])) is BookStatus.CROSSED
    assert not book.usable
    assert book.apply(message(7, [(touch, 0.0)])) is BookStatus.WAITING
    crossed = message(8, [(touch, 1.0)], [(12, 1.0)], snapshot=True)
    assert book.apply(crossed) is BookStatus.CROSSED
    assert not book.usable


def test_crossing_inside_one_message_is_no_crossing() -> None:
    book = started()
    assert book.apply(message(6, [(12, 1.0)], [(12, 0.0), (13, 1.0)])) is BookStatus.OK
    assert contents(book) == ([(12, 1.0), (10, 1.0), (9, 2.0)], [(13, 1.0)])


def test_one_side_empty_comes_back_by_itself() -> None:
    book = started()
    assert book.apply(message(6, (), [(12, 0.0)])) is BookStatus.ONE_SIDED
    assert book.usable
    assert math.isnan(book.mid)
    assert book.apply(message(7, [(11, 1.0)])) is BookStatus.ONE_SIDED
    assert book.apply(message(8, (), [(13, 1.0)])) is BookStatus.OK
    assert book.mid == (11 + 13) / 4
    assert book.apply(message(9, (), (), snapshot=True)) is BookStatus.ONE_SIDED
    assert contents(book) == ([], [])


@pytest.mark.parametrize(
    "bad",
    [
        b'[["5.0","-1"]]',
        b'[["5.0","NaN"]]',
        b'[["5.0","1e5"]]',
        b'[["5.0",""]]',
        b'[["5.0"," 1"]]',
        b'[["5.1","1"]]',
        b'[["-5.0","1"]]',
        b'[["0","1"]]',
        b'[["5.0","1"],["5.5"]]',
        b'[["5.0","1","2"]]',
        b'[["5.0",1]]',
        b'[["\xff","1"]]',
        b'[["99999999999999999999999999","1"]]',
        b'{"5.0":"1"}',
        b"null",
    ],
)
@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("side", ["bids", "asks"])
def test_malformed_level_is_refused_whole(bad: bytes, snapshot: bool, side: str) -> None:
    book = started()
    before = contents(book)
    good = text([(10, 9.0)] if side == "asks" else [(12, 9.0)])
    update = message(6, bad if side == "bids" else good, bad if side == "asks" else good, snapshot=snapshot)
    assert book.apply(update) is BookStatus.MALFORMED
    assert contents(book) == before
    assert not book.usable
    assert book.apply(message(6, [(10, 9.0)])) is BookStatus.WAITING


def test_malformed_message_out_of_turn_is_judged_by_its_number() -> None:
    book = started()
    assert book.apply(message(5, b"garbage")) is BookStatus.IGNORED
    assert book.usable
    assert book.apply(message(9, b"garbage")) is BookStatus.GAP
    assert book.apply(message(6, b"garbage")) is BookStatus.WAITING


def test_overflow_leaves_no_book() -> None:
    book = OrderBook(INSTRUMENT, 3)
    snapshot = message(1, [(10, 1.0), (9, 1.0), (8, 1.0)], [(11, 1.0)], snapshot=True)
    assert book.apply(snapshot) is BookStatus.SNAPSHOT
    assert book.apply(message(2, [(9, 2.0), (8, 0.0), (7, 1.0)])) is BookStatus.OK
    assert book.apply(message(3, [(10, 5.0), (6, 1.0)])) is BookStatus.OVERFLOW
    assert contents(book) == ([], [])
    assert not book.usable
    too_many = [(ticks, 1.0) for ticks in range(10, 6, -1)]
    assert book.apply(message(4, too_many, [(11, 1.0)], snapshot=True)) is BookStatus.OVERFLOW
    assert book.apply(snapshot) is BookStatus.SNAPSHOT


def test_views_are_best_first_and_copies() -> None:
    book = started()
    ticks, sizes = book.bids(1)
    assert (ticks.tolist(), sizes.tolist()) == ([10], [1.0])
    ticks[0] = 99
    assert contents(book)[0][0] == (10, 1.0)
    assert book.asks(5)[0].tolist() == [12]
    assert book.bids(0)[0].tolist() == []
    assert book.printed(10) == ([(5.0, 1.0), (4.5, 2.0)], [(6.0, 3.0)])
    assert book.mid == 5.5
    with pytest.raises(InputError, match="levels: came -1"):
        book.bids(-1)


def test_book_without_room_is_refused() -> None:
    with pytest.raises(InputError, match="capacity: came 0"):
        OrderBook(INSTRUMENT, 0)
