"""The reflection of a row is the row of the reflected book, taken through the real row path."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lob.bybit import BybitDecoder
from lob.instrument import Instrument
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.schema import LOB44
from training.mirror import reflect_labels, reflection

CENTRE_TICKS = 2000
Levels = list[tuple[int, int]]


def frame(update_id: int, kind: str, bids: Levels, asks: Levels) -> bytes:
    """One Bybit frame; prices in ticks of 0.1."""
    sides = {
        name: [[f"{ticks // 10}.{ticks % 10}", str(size)] for ticks, size in levels]
        for name, levels in (("b", bids), ("a", asks))
    }
    data = {"s": "TESTUSDT", "u": update_id, "seq": update_id} | sides
    return json.dumps(
        {"topic": "orderbook.50.TESTUSDT", "type": kind, "ts": 1, "cts": 1, "data": data}
    ).encode()


def rows_of(frames: list[bytes]) -> np.ndarray:
    """The rows of all frames."""
    path = RowPath(BybitDecoder(), Instrument(symbol="TESTUSDT", tick_size="0.1"))
    rows = [
        path.window.latest().copy()
        for each in frames
        if path.on_frame(each, 0) in {RowStatus.ROW, RowStatus.SNAPSHOT}
    ]
    return np.stack(rows)


def reflected(levels: Levels) -> Levels:
    """Levels mirrored at the centre price."""
    return [(2 * CENTRE_TICKS - ticks, size) for ticks, size in levels]


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20), st.integers(0, 9)), min_size=1, max_size=15))
def test_reflected_rows_are_the_rows_of_the_reflected_book(changes: list[tuple[bool, int, int]]) -> None:
    bids = [(CENTRE_TICKS - distance, 7 + distance) for distance in range(1, 13)]
    asks = [(CENTRE_TICKS + distance, 3 + distance) for distance in range(1, 13)]
    frames = [frame(1, "snapshot", bids, asks)]
    mirrored = [frame(1, "snapshot", reflected(asks), reflected(bids))]
    for number, (is_bid, distance, size) in enumerate(changes, start=2):
        level = [(CENTRE_TICKS - distance if is_bid else CENTRE_TICKS + distance, size)]
        one, other = (level, []) if is_bid else ([], level)
        frames.append(frame(number, "delta", one, other))
        mirrored.append(frame(number, "delta", reflected(other), reflected(one)))
    columns, signs = reflection(LOB44)
    np.testing.assert_allclose(rows_of(frames)[:, columns] * signs, rows_of(mirrored), atol=1e-5)


def test_reflecting_twice_changes_nothing() -> None:
    rows = np.random.default_rng(0).normal(size=(5, LOB44.feature_count)).astype(np.float32)
    columns, signs = reflection(LOB44)
    np.testing.assert_array_equal((rows[:, columns] * signs)[:, columns] * signs, rows)


def test_labels_swap_up_and_down() -> None:
    labels = np.array([0, 1, 2, -1], dtype=np.int8)
    np.testing.assert_array_equal(reflect_labels(labels), [2, 1, 0, -1])
