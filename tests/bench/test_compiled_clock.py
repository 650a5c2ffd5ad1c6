"""The compiled clock measures what happens between its readings, and the kernel does its work there."""

import numpy as np
import pytest

from bench.compiled_clock import CompiledClockReading, new_stamp, timed_nothing, timed_sample_row
from lob.book import OrderBook
from lob.features import empty_top, sample_row
from lob.instrument import Instrument
from lob.messages import BookUpdate
from lob.window import RingWindow


@pytest.fixture
def book() -> OrderBook:
    book = OrderBook(Instrument(symbol="BTCUSDT", tick_size="0.1"))
    update = BookUpdate("BTCUSDT", True, 1, 1, -1, 1, 1, 1, b'[["99.9","1.5"]]', b'[["100.1","2"]]')
    book.apply(update)
    return book


def test_the_timed_kernel_writes_the_row_that_the_kernel_writes(book: OrderBook) -> None:
    expected, ring = RingWindow(3, 44), RingWindow(3, 44)
    assert sample_row(book.header, book.keys, book.sizes, empty_top(), False, expected.storage, 1)
    top, stamp = empty_top(), new_stamp()
    arguments = (book.header, book.keys, book.sizes, top, False, ring.storage, 1, stamp)
    duration_ns = timed_sample_row()(*arguments)
    assert duration_ns >= 0
    assert ring.storage.tobytes() == expected.storage.tobytes()
    assert np.count_nonzero(ring.storage) > 0
    (first_s, first_ns), (second_s, second_ns) = stamp.tolist()
    assert duration_ns == (second_s - first_s) * 10**9 + second_ns - first_ns
    assert timed_sample_row()(*arguments) == -1  # the same book again: not sampled


def test_readings_go_forward() -> None:
    timed, stamp = timed_nothing(), new_stamp()
    assert timed(stamp) >= 0
    before = stamp.copy()
    timed(stamp)
    assert (stamp[0, 0], stamp[0, 1]) >= (before[1, 0], before[1, 1])


def test_reading_the_compiled_clock_fills_every_sample() -> None:
    durations_ns = np.full(500, -1, dtype=np.int64)
    CompiledClockReading().measure(durations_ns)
    assert durations_ns.min() >= 0
    assert np.median(durations_ns) < 1_000_000
