"""Frames to rows: statuses, resets, joins, and that compiled and plain code agree."""

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.book import DEFAULT_CAPACITY, BookStatus
from lob.errors import InputError
from lob.instrument import Instrument
from lob.messages import WHOLE_BOOK, Acknowledgement, Malformed, Pong
from lob.row_status import RowStatus
from lob.rows import RowPath, book_capacity
from lob.schema import LOB44, Schema
from lob.venues import make_decoder

REPOSITORY = Path(__file__).resolve().parents[2]
INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.1")
BIDS = [("100.0", "1"), ("99.9", "2")]
ASKS = [("100.2", "3")]
Frame = Callable[..., bytes]


def bybit_path(sampling: str = "top_changed", **settings: Any) -> RowPath:
    return RowPath(make_decoder("bybit"), INSTRUMENT, LOB44, sampling, 4, **settings)


def started(frame: Frame, sampling: str = "top_changed") -> RowPath:
    path = bybit_path(sampling)
    assert path.on_frame(frame(5, BIDS, ASKS, snapshot=True), 0) is RowStatus.SNAPSHOT
    return path


def test_numbers_of_the_book_s_statuses_are_the_rows() -> None:
    assert int(BookStatus.OK) == RowStatus.ROW
    for status in set(BookStatus) - {BookStatus.OK}:
        assert RowStatus[status.name] == int(status)


def test_snapshot_and_changes_give_rows(bybit_frame: Frame) -> None:
    path = bybit_path()
    assert path.on_frame(bybit_frame(4, BIDS), 0) is RowStatus.WAITING
    assert path.on_frame(bybit_frame(5, BIDS, ASKS, snapshot=True), 0) is RowStatus.SNAPSHOT
    assert (path.update_id, path.exchange_ms, path.gateway_ms) == (5, 1_700_000_000_005, 1_700_000_000_010)
    assert path.mid == 100.1
    first = path.window.latest().copy()
    assert path.on_frame(bybit_frame(6, [("100.1", "4")]), 0) is RowStatus.ROW
    assert (path.update_id, path.exchange_ms) == (6, 1_700_000_000_006)
    assert path.mid == 100.15
    assert path.window.count == 2
    assert np.array_equal(path.window.window()[-2], first)
    names = LOB44.feature_names
    assert path.window.latest()[names.index("spread")] == 1.0
    # Every bid price got better (or was an empty padding level at a lower price): 4 + 1 + 2 arrived.
    assert path.window.latest()[names.index("ofi")] == 7.0


def test_sampling_says_which_messages_give_rows(bybit_frame: Frame) -> None:
    unchanged = bybit_frame(6, [("100.0", "1")])
    path = started(bybit_frame)
    assert path.on_frame(unchanged, 0) is RowStatus.NO_ROW
    assert (path.window.count, path.update_id) == (1, 6)
    path = started(bybit_frame, "every_message")
    assert path.on_frame(unchanged, 0) is RowStatus.ROW
    assert path.window.count == 2


def test_snapshot_resets_the_window(bybit_frame: Frame) -> None:
    path = started(bybit_frame)
    for update_id in range(6, 12):
        assert path.on_frame(bybit_frame(update_id, [("99.9", f"{update_id}")]), 0) is RowStatus.ROW
    assert path.window.count == 4
    assert path.window.latest()[-1] != 0.0
    assert path.on_frame(bybit_frame(11, BIDS, ASKS, snapshot=True), 0) is RowStatus.SNAPSHOT
    assert path.window.count == 1
    assert path.window.latest()[-1] == 0.0
    assert not path.window.window()[:-1].any()


def test_gap_waits_for_a_snapshot(bybit_frame: Frame) -> None:
    path = started(bybit_frame)
    assert path.on_frame(bybit_frame(7, [("99.9", "7")]), 0) is RowStatus.GAP
    assert path.on_frame(bybit_frame(8, [("99.9", "8")]), 0) is RowStatus.WAITING
    assert path.update_id == 5
    assert path.on_frame(bybit_frame(9, BIDS, ASKS, snapshot=True), 0) is RowStatus.SNAPSHOT
    assert path.on_frame(bybit_frame(10, [("99.9", "8")]), 0) is RowStatus.ROW


@pytest.mark.parametrize(
    ("bids", "status"),
    [
        ([("100.2", "1")], RowStatus.CROSSED),
        ([("99.95", "1")], RowStatus.MALFORMED),
        ([("99.9", "-1")], RowStatus.MALFORMED),
        ([("99.9", "1", "2")], RowStatus.MALFORMED),
        ({"99.9": "1"}, RowStatus.MALFORMED),
        ([(f"{99 - step / 10:.1f}", "1") for step in range(100)], RowStatus.OVERFLOW),
    ],
)
def test_doubtful_book_gives_no_rows_until_a_snapshot(
    bybit_frame: Frame, bids: list[tuple[str, str]], status: RowStatus
) -> None:
    path = bybit_path(capacity=50)
    path.on_frame(bybit_frame(5, BIDS, ASKS, snapshot=True), 0)
    assert path.on_frame(bybit_frame(6, bids), 0) is status
    assert path.window.count == 1
    assert path.on_frame(bybit_frame(7, [("99.9", "8")]), 0) is RowStatus.WAITING
    bad_snapshot = bybit_frame(8, bids, ASKS, snapshot=True)
    assert path.on_frame(bad_snapshot, 0) is status
    assert path.on_frame(bybit_frame(9, [("99.9", "8")]), 0) is RowStatus.WAITING
    assert path.on_frame(bybit_frame(10, BIDS, ASKS, snapshot=True), 0) is RowStatus.SNAPSHOT


def test_a_book_of_a_known_depth_takes_no_more_room_than_it_needs(bybit_frame: Frame) -> None:
    capacities = [book_capacity(depth) for depth in (1, 50, 200, 500, 1000, None, WHOLE_BOOK)]
    assert capacities == [1_024, 1_024, 1_024, 2_000, 4_000, DEFAULT_CAPACITY, DEFAULT_CAPACITY]
    path = bybit_path(depth=50)
    full = [(f"{1000 - level / 10:.1f}", "1") for level in range(1_025)]
    asks = [("1000.1", "1")]
    assert path.on_frame(bybit_frame(5, full[:-1], asks, snapshot=True), 0) is RowStatus.SNAPSHOT
    assert path.on_frame(bybit_frame(6, full, asks, snapshot=True), 0) is RowStatus.OVERFLOW


def test_one_side_empty_gives_no_row_and_comes_back(bybit_frame: Frame) -> None:
    path = started(bybit_frame)
    assert path.on_frame(bybit_frame(6, (), [("100.2", "0")]), 0) is RowStatus.ONE_SIDED
    assert math.isnan(path.mid)
    assert path.update_id == 6
    assert path.on_frame(bybit_frame(7, (), [("100.3", "1")]), 0) is RowStatus.ROW
    assert path.window.count == 2
    empty = bybit_frame(8, (), (), snapshot=True)
    assert path.on_frame(empty, 0) is RowStatus.ONE_SIDED
    assert path.window.count == 0
    assert path.on_frame(bybit_frame(9, BIDS, ASKS), 0) is RowStatus.SNAPSHOT  # the new book's first row
    assert path.window.count == 1
    assert path.window.latest()[-1] == 0.0
    assert path.on_frame(bybit_frame(10, [("100.0", "2")]), 0) is RowStatus.ROW


def test_ring_of_one_row_tells_the_first_from_the_others(bybit_frame: Frame) -> None:
    path = RowPath(make_decoder("bybit"), INSTRUMENT, window_length=1)
    assert path.on_frame(bybit_frame(5, BIDS, ASKS, snapshot=True), 0) is RowStatus.SNAPSHOT
    assert path.on_frame(bybit_frame(6, [("100.0", "2")]), 0) is RowStatus.ROW


def test_old_messages_and_resends_are_ignored(bybit_frame: Frame) -> None:
    path = started(bybit_frame)
    assert path.on_frame(bybit_frame(5, [("99.9", "7")]), 0) is RowStatus.IGNORED
    assert path.on_frame(bybit_frame(2, [("99.9", "7")]), 0) is RowStatus.IGNORED
    assert path.on_frame(bybit_frame(5, BIDS, ASKS, snapshot=True), 0) is RowStatus.IGNORED
    assert path.window.count == 1


def test_update_one_overwrites(bybit_frame: Frame) -> None:
    path = started(bybit_frame)
    assert path.on_frame(bybit_frame(1, BIDS, [("100.4", "1")]), 0) is RowStatus.SNAPSHOT
    assert path.mid == 100.2
    assert path.window.count == 1


def test_one_level_topic_is_one_stream_of_replacements(bybit_frame: Frame) -> None:
    path = bybit_path()
    for update_id, size, status in [
        (10, "1", RowStatus.SNAPSHOT),
        (10, "1", RowStatus.IGNORED),
        (12, "2", RowStatus.ROW),
        (12, "2", RowStatus.IGNORED),
        (15, "2", RowStatus.NO_ROW),
        (16, "3", RowStatus.ROW),
        (1, "4", RowStatus.SNAPSHOT),
    ]:
        frame = bybit_frame(update_id, [("100.0", size)], ASKS, snapshot=True, depth=1)
        assert path.on_frame(frame, 0) is status
    assert path.window.count == 1


def test_other_symbols_and_depths_are_left_alone(bybit_frame: Frame) -> None:
    path = started(bybit_frame)
    assert path.on_frame(bybit_frame(6, BIDS, symbol="ETHUSDT"), 0) is RowStatus.OTHER_STREAM
    assert path.on_frame(bybit_frame(6, BIDS, depth=200), 0) is RowStatus.OTHER_STREAM
    one_level = bybit_frame(99, BIDS, ASKS, snapshot=True, depth=1)
    assert path.on_frame(one_level, 0) is RowStatus.OTHER_STREAM
    assert path.on_frame(bybit_frame(6, [("99.9", "7")]), 0) is RowStatus.ROW


def test_depth_can_be_chosen(bybit_frame: Frame) -> None:
    path = bybit_path(depth=200)
    assert path.on_frame(bybit_frame(5, BIDS, ASKS, snapshot=True), 0) is RowStatus.OTHER_STREAM
    assert path.on_frame(bybit_frame(5, BIDS, ASKS, snapshot=True, depth=200), 0) is RowStatus.SNAPSHOT
    path.reset()
    assert path.on_frame(bybit_frame(5, BIDS, ASKS, snapshot=True), 0) is RowStatus.OTHER_STREAM


def test_old_number_with_a_newer_sequence_is_a_gap(bybit_frame: Frame) -> None:
    """The service restarted and its snapshot, number 1, was lost."""
    path = started(bybit_frame)
    restarted = bybit_frame(2, [("99.9", "7")]).replace(b'"seq":20', b'"seq":51')
    assert path.on_frame(restarted, 0) is RowStatus.GAP
    assert path.on_frame(bybit_frame(6, [("99.9", "8")]), 0) is RowStatus.WAITING
    assert path.on_frame(bybit_frame(9, BIDS, ASKS, snapshot=True), 0) is RowStatus.SNAPSHOT


def test_frames_that_hold_no_book(bybit_frame: Frame) -> None:
    path = started(bybit_frame)
    assert path.on_frame(b"garbage", 0) is RowStatus.NOT_JSON
    garbage = path.message
    assert isinstance(garbage, Malformed)
    assert path.on_frame(bybit_frame(6, BIDS)[:-3], 0) is RowStatus.NOT_JSON
    assert path.on_frame(b'{"op":"pong","conn_id":"c"}', 0) is RowStatus.NOT_BOOK
    assert path.message == Pong("", "c")
    assert path.on_frame(b'{"success":true,"ret_msg":"","op":"subscribe"}', 0) is RowStatus.NOT_BOOK
    assert isinstance(path.message, Acknowledgement)
    assert path.on_frame(bybit_frame(7, BIDS), 0) is RowStatus.GAP  # what was lost with the cut frame shows


def test_counters_count_every_frame(bybit_frame: Frame) -> None:
    path = started(bybit_frame)
    for frame in (b"x", b"y", bybit_frame(6, [("99.9", "7")]), bybit_frame(9)):
        path.on_frame(frame, 0)
    counters = path.counters
    assert set(counters) == {status.name.lower() for status in RowStatus}
    assert {name: number for name, number in counters.items() if number} == {
        "snapshot": 1,
        "not_json": 2,
        "row": 1,
        "gap": 1,
    }


def test_reset_starts_from_nothing(bybit_frame: Frame) -> None:
    path = started(bybit_frame)
    path.reset()
    assert path.window.count == 0
    assert path.on_frame(bybit_frame(6, BIDS), 0) is RowStatus.WAITING
    assert path.on_frame(bybit_frame(5, BIDS, ASKS, snapshot=True), 0) is RowStatus.SNAPSHOT


def test_settings_are_checked() -> None:
    decoder = make_decoder("bybit")
    with pytest.raises(InputError, match="schema: no kernel computes 'other'; allowed: 'lob44'"):
        RowPath(decoder, INSTRUMENT, Schema(name="other", version=1, feature_names=("a",)))
    with pytest.raises(InputError, match="sampling"):
        RowPath(decoder, INSTRUMENT, LOB44, "hourly")
    with pytest.raises(InputError, match="length"):
        RowPath(decoder, INSTRUMENT, LOB44, window_length=0)


LEVELS = st.lists(
    st.tuples(
        st.integers(990, 1010).map(lambda ticks: f"{ticks / 10:.1f}"), st.sampled_from(["0", "1", "2.5"])
    ),
    max_size=4,
)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), LEVELS, LEVELS), max_size=20))
def test_rows_come_only_from_a_sound_book(
    bybit_frame: Frame, steps: list[tuple[int, int, list[tuple[str, str]], list[tuple[str, str]]]]
) -> None:
    path = bybit_path("every_message")
    update_id, rows = 100, 0  # away from 1, which makes a snapshot of a change
    for kind, advance, bids, asks in steps:
        update_id += advance
        status = path.on_frame(bybit_frame(update_id, bids, asks, snapshot=kind == 0), 0)
        rows = 0 if kind == 0 and status not in {RowStatus.IGNORED, RowStatus.MALFORMED} else rows
        if status in {RowStatus.ROW, RowStatus.SNAPSHOT}:
            rows += 1
            (best_bid, *_), (best_ask, *_) = path.book.bids(1)[0], path.book.asks(1)[0]
            assert path.book.usable
            assert best_bid < best_ask
            assert path.window.latest()[LOB44.feature_names.index("spread")] == best_ask - best_bid
        assert path.window.count == min(rows, path.window.length)
        if status in {RowStatus.GAP, RowStatus.CROSSED, RowStatus.WAITING}:
            assert not path.book.usable


ROWS_OF_A_CAPTURE = """
import hashlib, sys
from itertools import islice
from pathlib import Path
from lob.instrument import Instrument
from lob.rows import RowPath
from lob.venues import make_decoder

path = RowPath(make_decoder("bybit"), Instrument(symbol="BTCUSDT", tick_size="0.1"), sampling="every_message")
digest = hashlib.sha256()
with Path(sys.argv[1]).open("rb") as lines:
    for line in islice(lines, 150):
        digest.update(bytes([path.on_frame(line, 0)]) + path.window.window().tobytes())
print(digest.hexdigest())
"""


def test_compiled_and_plain_code_give_the_same_rows(data_dir: Path) -> None:
    folder = data_dir / "bybit" / "spot_btcusdt_cpp_trading_core"
    capture = str(next(folder.glob("*.ndjson")))
    answers = set()
    for disabled in ("0", "1"):
        result = subprocess.run(
            [sys.executable, "-c", ROWS_OF_A_CAPTURE, capture],
            env=os.environ | {"NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
        answers.add(result.stdout)
    assert len(answers) == 1
    assert len(answers.pop().strip()) == len(hashlib.sha256().hexdigest())
