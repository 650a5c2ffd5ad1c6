"""The whole book: a snapshot fetched apart joined at the change it equals, against dictionaries.

Frames are made here, in the shapes of Bybit's documentation ("Full Orderbook", "Get Full Depth Orderbook").
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob import exact_join
from lob.bybit import BybitDecoder, book_topic
from lob.captures import open_capture, open_captures
from lob.captures.capture import recording_header
from lob.captures.index import read_index
from lob.captures.inspection import inspect_capture
from lob.captures.rotation import RotatingWriter, RotationPolicy
from lob.exact_join import MAXIMUM_KEPT, ExactJoin, Join
from lob.instrument import Instrument
from lob.messages import WHOLE_BOOK, BookUpdate, Malformed, VenueError
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.schema import LOB44

INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.1")
BIDS = [("100.0", "1"), ("99.9", "2")]
ASKS = [("100.2", "3")]
Levels = Sequence[tuple[str, str]]
Dictionaries = Callable[[], Any]


def change(update: int, bids: Levels = (), asks: Levels = (), *, sequence: int = 0) -> bytes:
    """A change of `orderbook.full`; `sequence` is ten times `update` unless given."""
    frame = {
        "topic": "orderbook.full.BTCUSDT",
        "ts": 1_700_000_000_005 + update,
        "type": "delta",
        "data": {"s": "BTCUSDT", "b": bids, "a": asks, "u": update, "seq": sequence or 10 * update},
        "cts": 1_700_000_000_000 + update,
    }
    return json.dumps(frame, separators=(",", ":")).encode()


def snapshot(update: int, bids: Levels = BIDS, asks: Levels = ASKS, *, sequence: int = 0) -> bytes:
    """An answer of `v5/market/full_orderbook`."""
    result = {
        "s": "BTCUSDT",
        "b": bids,
        "a": asks,
        "ts": 1_700_000_000_005 + update,
        "u": update,
        "seq": sequence or 10 * update,
        "cts": 1_700_000_000_000 + update,
    }
    answer = {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1_700_000_000_009}
    return json.dumps(answer).encode()


def whole_path() -> RowPath:
    return RowPath(BybitDecoder(), INSTRUMENT, LOB44, "every_message", 8, depth=WHOLE_BOOK)


def live_path() -> RowPath:
    path = whole_path()
    path.on_frame(change(5), 0)
    assert path.on_frame(snapshot(5), 0) is RowStatus.SNAPSHOT
    return path


def test_the_documented_messages_are_read() -> None:
    decoder = BybitDecoder()
    delta = decoder.decode(change(5, BIDS))
    assert isinstance(delta, BookUpdate)
    assert (delta.depth, delta.exact, delta.is_snapshot, delta.update_id, delta.sequence) == (
        WHOLE_BOOK,
        True,
        False,
        5,
        50,
    )
    answer = decoder.decode(snapshot(5))
    assert isinstance(answer, BookUpdate)
    assert (answer.depth, answer.exact, answer.is_snapshot) == (WHOLE_BOOK, True, True)
    assert (answer.exchange_ms, answer.gateway_ms) == (1_700_000_000_005, 1_700_000_000_010)
    assert decoder.decode(b'{"retCode":10001,"retMsg":"params error","result":{}}') == VenueError(
        "params error"
    )
    for bad in (
        b'{"retCode":0,"result":{}}',
        b'{"retCode":0}',
        b'{"retCode":"0","result":{}}',
        snapshot(5).replace(b'"seq": 50,', b""),
        change(5).replace(b',"seq":50', b""),
        change(5).replace(b"full.BTC", b"full.ETH"),
        change(5).replace(b"full.", b"Full."),
    ):
        assert isinstance(decoder.decode(bad), Malformed)
    assert book_topic(WHOLE_BOOK, "BTCUSDT") == "orderbook.full.BTCUSDT"
    assert book_topic(50, "BTCUSDT") == "orderbook.50.BTCUSDT"


def test_snapshot_joins_at_the_change_that_has_both_its_numbers() -> None:
    path = whole_path()
    for update in (5, 6, 7, 8):
        assert path.on_frame(change(update, [("99.8", f"{update}")]), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(6), 0) is RowStatus.SNAPSHOT
    assert (path.update_id, path.exchange_ms, path.window.count) == (8, 1_700_000_000_008, 1)
    assert path.book.bids()[1].tolist() == [1.0, 2.0, 8.0]
    assert path.on_frame(change(9, [("100.0", "4")]), 0) is RowStatus.ROW


def test_snapshot_ahead_of_the_stream_waits_for_it() -> None:
    path = whole_path()
    assert path.on_frame(snapshot(7), 0) is RowStatus.WAITING
    assert not path.book.usable
    for update in (5, 6):
        assert path.on_frame(change(update, [("99.8", "9")]), 0) is RowStatus.WAITING
    assert path.on_frame(change(7, [("100.0", "1")]), 0) is RowStatus.SNAPSHOT
    assert path.update_id == 7
    assert path.book.bids()[1].tolist() == [1.0, 2.0]  # what came before is in the snapshot, or gone


@pytest.mark.parametrize(
    ("update", "sequence"),
    [
        (4, 40),  # right before the first change, which the documentation refuses too
        (3, 30),
        (6, 61),  # the number of a change, the sequence of none
        (7, 60),  # the sequence of a change, the number of none
        (9, 60),
        (278_547, 20),  # of numbers before a restart
    ],
)
def test_snapshot_that_fits_no_change_is_refused_and_a_later_one_joins(update: int, sequence: int) -> None:
    path = whole_path()
    path.on_frame(change(5), 0)
    path.on_frame(change(6), 0)
    assert path.on_frame(snapshot(update, sequence=sequence), 0) is RowStatus.REFUSED
    assert not path.book.usable
    assert path.on_frame(change(7), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(6), 0) is RowStatus.SNAPSHOT
    assert path.update_id == 7


def test_snapshot_that_the_stream_goes_past_is_refused() -> None:
    path = whole_path()
    assert path.on_frame(snapshot(7), 0) is RowStatus.WAITING
    assert path.on_frame(change(8), 0) is RowStatus.REFUSED
    assert path.on_frame(change(9), 0) is RowStatus.WAITING


def test_gap_among_the_kept_changes_begins_them_anew() -> None:
    path = whole_path()
    path.on_frame(change(5), 0)
    path.on_frame(change(7), 0)
    assert path.on_frame(snapshot(5), 0) is RowStatus.REFUSED
    assert path.on_frame(snapshot(7), 0) is RowStatus.SNAPSHOT


def test_late_and_doubled_changes_are_left_out_before_the_snapshot() -> None:
    path = whole_path()
    for update in (5, 6, 6, 5, 7, 6):
        path.on_frame(change(update, [("99.8", f"{update}")]), 0)
    assert path.on_frame(change(8, sequence=65), 0) is RowStatus.WAITING  # its sequence falls: left out
    assert path.on_frame(snapshot(5), 0) is RowStatus.SNAPSHOT
    assert path.update_id == 7


def test_gap_in_a_running_stream_needs_a_new_snapshot_and_keeps_the_change() -> None:
    path = live_path()
    assert path.on_frame(change(7, [("99.8", "7")]), 0) is RowStatus.GAP
    assert path.on_frame(change(8), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(7, [("99.8", "7")]), 0) is RowStatus.SNAPSHOT
    assert (path.update_id, path.book.bids()[1].tolist()) == (8, [7.0])


def test_restart_is_told_by_number_one_and_joins_a_snapshot_of_the_new_numbers() -> None:
    for sequence in (55, 50):  # a change of the tick size need not raise it
        path = live_path()
        assert path.on_frame(change(1, sequence=sequence), 0) is RowStatus.GAP
        assert path.on_frame(snapshot(6), 0) is RowStatus.WAITING  # of the old numbers, as far as can be seen
        assert path.on_frame(change(2, sequence=66), 0) is RowStatus.REFUSED
        assert path.on_frame(snapshot(1, sequence=sequence), 0) is RowStatus.SNAPSHOT
        assert path.update_id == 2
        assert path.on_frame(change(3, sequence=67), 0) is RowStatus.ROW


def test_restart_drops_the_snapshot_at_hand() -> None:
    path = whole_path()
    path.on_frame(change(5), 0)
    assert path.on_frame(snapshot(7), 0) is RowStatus.WAITING
    assert path.on_frame(change(1, sequence=60), 0) is RowStatus.WAITING
    assert path.on_frame(change(1, sequence=60), 0) is RowStatus.WAITING  # sent twice
    assert path.on_frame(change(2, sequence=61), 0) is RowStatus.WAITING
    assert path.on_frame(change(1, sequence=60), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(1, sequence=60), 0) is RowStatus.SNAPSHOT
    assert path.update_id == 2
    assert path.on_frame(change(1, sequence=60), 0) is RowStatus.GAP  # late, or a restart: who knows


def test_number_one_sent_twice_after_the_join_is_no_restart() -> None:
    path = whole_path()
    path.on_frame(change(1), 0)
    assert path.on_frame(snapshot(1), 0) is RowStatus.SNAPSHOT
    assert path.on_frame(change(1), 0) is RowStatus.IGNORED
    assert path.on_frame(change(2), 0) is RowStatus.ROW


def test_sequence_that_falls_is_a_gap() -> None:
    path = live_path()
    assert path.on_frame(change(6, sequence=49), 0) is RowStatus.GAP
    assert not path.book.usable
    path = live_path()
    assert path.on_frame(change(6, sequence=50), 0) is RowStatus.ROW  # equal is no fall
    assert path.on_frame(change(4), 0) is RowStatus.IGNORED
    assert path.on_frame(change(4, sequence=71), 0) is RowStatus.GAP  # an old number, and newer: counted anew


def test_second_snapshot_of_a_book_in_sequence_is_ignored() -> None:
    path = live_path()
    assert path.on_frame(snapshot(9, [("1.0", "1")]), 0) is RowStatus.IGNORED
    assert path.on_frame(change(6), 0) is RowStatus.ROW
    assert path.on_frame(change(7), 0) is RowStatus.ROW


def test_book_that_is_crossed_by_the_join_is_lost() -> None:
    path = whole_path()
    path.on_frame(change(5), 0)
    path.on_frame(change(6, [("100.2", "1")]), 0)
    assert path.on_frame(snapshot(5), 0) is RowStatus.CROSSED
    assert path.on_frame(change(7), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(7), 0) is RowStatus.SNAPSHOT


def test_snapshot_that_cannot_be_read_leaves_nothing_behind() -> None:
    path = whole_path()
    for update in (5, 6, 7):
        path.on_frame(change(update), 0)
    assert path.on_frame(snapshot(5, [("99.95", "1")]), 0) is RowStatus.MALFORMED
    assert path.on_frame(change(1, sequence=80), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(1, sequence=80), 0) is RowStatus.SNAPSHOT
    assert path.update_id == 1


def test_snapshot_in_the_stream_overwrites_as_in_every_topic() -> None:
    in_stream = change(9, BIDS, ASKS).replace(b'"delta"', b'"snapshot"')
    for path in (whole_path(), live_path()):
        path.on_frame(change(8), 0)
        path.on_frame(snapshot(20), 0)
        assert path.on_frame(in_stream, 0) is RowStatus.SNAPSHOT
        assert path.on_frame(change(10), 0) is RowStatus.ROW
        assert path.on_frame(change(20), 0) is RowStatus.GAP  # what was kept before is forgotten
        assert path.on_frame(snapshot(20), 0) is RowStatus.SNAPSHOT


def test_numbers_from_elsewhere_do_not_block_the_join_for_good() -> None:
    path = whole_path()
    path.on_frame(change(5, sequence=10**12), 0)
    assert path.on_frame(snapshot(10**9, sequence=10**13), 0) is RowStatus.WAITING
    assert path.on_frame(change(6), 0) is RowStatus.WAITING  # its sequence falls: left out
    assert path.on_frame(change(7), 0) is RowStatus.WAITING  # a gap besides: the keeping begins anew
    assert path.on_frame(snapshot(7), 0) is RowStatus.SNAPSHOT


def test_empty_snapshot_of_a_delisted_symbol_gives_no_row() -> None:
    path = live_path()
    assert path.on_frame(change(1, sequence=60), 0) is RowStatus.GAP
    assert path.on_frame(snapshot(1, [], [], sequence=60), 0) is RowStatus.ONE_SIDED
    assert path.window.count == 0


def test_reset_forgets_changes_and_snapshot() -> None:
    path = whole_path()
    path.on_frame(snapshot(5), 0)
    path.reset()
    assert path.on_frame(change(5), 0) is RowStatus.WAITING
    path.reset()
    assert path.on_frame(snapshot(5), 0) is RowStatus.WAITING


def test_other_topics_go_their_own_way(bybit_frame: Callable[..., bytes]) -> None:
    path = live_path()
    assert path.on_frame(bybit_frame(6, BIDS, ASKS, snapshot=True), 0) is RowStatus.OTHER_STREAM
    ordinary = RowPath(BybitDecoder(), INSTRUMENT, window_length=4, depth=50)
    assert ordinary.on_frame(bybit_frame(5, BIDS, ASKS, snapshot=True), 0) is RowStatus.SNAPSHOT
    assert ordinary.on_frame(snapshot(6), 0) is RowStatus.OTHER_STREAM
    assert ordinary.on_frame(change(6), 0) is RowStatus.OTHER_STREAM
    assert ordinary.on_frame(bybit_frame(6, BIDS), 0) is RowStatus.NO_ROW


def test_depth_need_not_be_given() -> None:
    path = RowPath(BybitDecoder(), INSTRUMENT, LOB44, "every_message", 4)
    for update in (5, 6):
        assert path.on_frame(change(update), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(5), 0) is RowStatus.SNAPSHOT
    assert path.on_frame(change(7), 0) is RowStatus.ROW


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    path = whole_path()
    for update in range(1, MAXIMUM_KEPT + 11):
        assert path.on_frame(change(update), 0) is RowStatus.WAITING
    assert path.on_frame(snapshot(10), 0) is RowStatus.REFUSED  # the first ten had to go
    assert path.on_frame(snapshot(11), 0) is RowStatus.SNAPSHOT
    assert path.update_id == MAXIMUM_KEPT + 10
    monkeypatch.setattr(exact_join, "MAXIMUM_KEPT_BYTES", 100)
    decoder, join = BybitDecoder(), ExactJoin()
    for update in range(2, 20):
        message = decoder.decode(change(update, BIDS))
        assert isinstance(message, BookUpdate)
        assert join.add_change(message) is Join.WAITING
    kept = list(join._changes)
    assert 0 < sum(len(one.bids) + len(one.asks) for one in kept) <= 100
    assert kept[-1].update_id == 19


LEVELS = st.lists(
    st.tuples(
        st.integers(990, 999).map(lambda ticks: f"{ticks / 10:.1f}"), st.sampled_from(["0", "1", "2.5"])
    ),
    max_size=4,
    unique_by=lambda level: level[0],
)
FAULTS = ("none", "drop", "double", "late", "restart", "old-snapshot", "snapshot", "fall", "no-snapshot")


class Venue:
    """A market kept in a dictionary, its stream's frames, and the snapshots one might fetch of it."""

    def __init__(self, make_book: Dictionaries, first: int) -> None:
        self.book = make_book()
        self.book.replace(BIDS, ASKS)
        self.update, self.sequence = first, 10 * first
        self.snapshots: list[bytes] = []
        self.books: dict[tuple[int, int], object] = {}
        self._make_book = make_book
        self._remember()

    def next(self, bids: Levels, jump: int, *, restart: bool) -> bytes:
        self.update = 1 if restart else self.update + 1
        self.sequence += jump
        bids = [] if restart else bids
        self.book.change(bids, [])
        self._remember()
        return change(self.update, bids, sequence=self.sequence)

    def _remember(self) -> None:
        levels = self.book.best_first(1_000)
        sides = [[(f"{price:.1f}", f"{size}") for price, size in side] for side in levels]
        self.snapshots.append(snapshot(self.update, *sides, sequence=self.sequence))
        self.books[self.update, self.sequence] = levels


@given(
    st.integers(1, 500),
    st.lists(st.tuples(st.sampled_from(FAULTS), LEVELS, st.integers(1, 3), st.integers(0, 20)), max_size=60),
)
def test_any_faults_leave_the_dictionary_s_book_or_none(
    make_dictionary_book: Dictionaries, first: int, steps: list[tuple[str, Levels, int, int]]
) -> None:
    """Whenever the path has a book it is the venue's at that number; after any fault a snapshot heals it."""
    venue, path = Venue(make_dictionary_book, first), whole_path()
    late: bytes | None = None

    def feed(frame: bytes) -> RowStatus:
        before = path.book.usable
        status = path.on_frame(frame, 0)
        assert path.book.usable or status not in {RowStatus.ROW, RowStatus.SNAPSHOT}
        assert not (before and not path.book.usable) or status is RowStatus.GAP
        if path.book.usable:
            numbers = path.book.update_id, int(path._numbers[1])
            assert path.book.printed(1_000) == venue.books[numbers]
        return status

    for fault, bids, jump, back in steps:
        frame = venue.next(bids, jump, restart=fault == "restart")
        if fault == "late":
            late = frame
        elif fault == "fall":
            feed(change(venue.update, bids, sequence=venue.sequence - 10_000))
        elif fault != "drop":
            feed(frame)
        if fault == "double":
            feed(frame)
        elif late is not None and fault != "late":
            feed(late)
            late = None
        if not path.book.usable and fault != "no-snapshot":
            feed(venue.snapshots[max(0, len(venue.snapshots) - 1 - back) if fault == "old-snapshot" else -1])
    feed(venue.next([], 1, restart=False))
    if not path.book.usable:
        feed(venue.snapshots[-1])
    feed(venue.next([("99.1", "7")], 1, restart=False))
    assert path.book.usable
    assert (path.update_id, path.book.printed(1_000)) == (venue.update, venue.book.best_first(1_000))


def test_long_random_streams_of_a_deep_book(make_dictionary_book: Dictionaries) -> None:
    """3,000 levels a side, changes at any depth, gaps and snapshots at random: the dictionary's book."""
    random = Random(4)
    book = make_dictionary_book()
    deep = Instrument(symbol="BTCUSDT", tick_size="1")
    path = RowPath(BybitDecoder(), deep, LOB44, "every_message", 4, depth=WHOLE_BOOK)
    bids = [(f"{50_000 - i}", "1") for i in range(3_000)]
    asks = [(f"{50_001 + i}", "1") for i in range(3_000)]
    book.replace(bids, asks)
    joins = 0
    for update in range(2, 2_000):
        sides: list[Levels] = [
            [(f"{price}", f"{random.choice((0, 0, 1, 2))}") for price in random.sample(prices, 8)]
            for prices in (range(46_000, 50_001), range(50_001, 54_001))
        ]
        book.change(*sides)
        if random.random() < 0.01:
            continue  # lost on the way
        path.on_frame(change(update, *sides), 0)
        if not path.book.usable and random.random() < 0.5:
            best = book.best_first(10_000)
            levels = [[(f"{price:.0f}", f"{size}") for price, size in side] for side in best]
            assert path.on_frame(snapshot(update, *levels), 0) is RowStatus.SNAPSHOT
            joins += 1
        if path.book.usable and update % 50 == 0:
            assert path.book.printed(10_000) == book.best_first(10_000)
    assert joins > 10


def test_a_capture_of_plain_lines_may_begin_with_the_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "whole.ndjson"
    path.write_bytes(b"\n".join([snapshot(6), change(5), change(6), change(7)]) + b"\n")
    rows = whole_path()
    statuses = [rows.on_frame(frame, receive_ns) for receive_ns, frame in open_capture(path)]
    assert statuses == [RowStatus.WAITING, RowStatus.WAITING, RowStatus.SNAPSHOT, RowStatus.ROW]


def test_a_new_file_begun_amid_a_join_is_whole_in_itself(tmp_path: Path) -> None:
    """What was kept for the snapshot stands in the file before: recorder and reader begin alike."""
    paths = [tmp_path / f"{number}.jsonl.zst" for number in range(3)]
    names = iter(paths)
    second_ns = 1_000_000_000
    frames = [change(5), change(6), snapshot(5), change(7), snapshot(7), change(8), change(9)]
    with RotatingWriter(
        RowPath(BybitDecoder(), INSTRUMENT, depth=WHOLE_BOOK),
        depth=WHOLE_BOOK,
        name_file=lambda _: next(names),
        created_ns=0,
        policy=RotationPolicy(every_s=1, file_bytes=None),
    ) as writer:
        statuses = [
            writer.record(place * second_ns // 2 + (place > 1), frame)
            for place, frame in enumerate(frames[:4])
        ]
        statuses += [writer.record(second_ns + place, frame) for place, frame in enumerate(frames[4:6], 9)]
        statuses.append(writer.record(2 * second_ns, frames[6]))
    assert statuses == [
        RowStatus.WAITING,
        RowStatus.WAITING,
        RowStatus.WAITING,  # in a new file, of a change that stands in the one before
        RowStatus.REFUSED,
        RowStatus.SNAPSHOT,
        RowStatus.NO_ROW,
        RowStatus.NO_ROW,
    ]
    for path in paths:
        found, told = inspect_capture(path, INSTRUMENT).index, read_index(path)
        assert found == told
    header = recording_header(paths[2])
    assert header is not None
    assert header.checkpoint is not None
    assert '"orderbook.full.BTCUSDT"' in header.checkpoint.frame
    whole = [path.on_frame(frame, 0) for path in [whole_path()] for _, frame in open_captures(paths)]
    assert whole.count(RowStatus.SNAPSHOT) == 1
    assert RowStatus.GAP not in whole
