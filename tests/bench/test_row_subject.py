"""Rows in memory, and what is timed on them."""

import time

import numpy as np
import pytest

from bench.row_subject import IdleSubject, RowSubject
from bench.row_tape import Rows, in_columns, seeded_rows
from lob.errors import InputError
from lob.schema import LOB44
from lob.window import RingWindow

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


class Listener:
    """Keeps the rows it was pushed, and the window the ring held then."""

    def __init__(self, ring: RingWindow) -> None:
        self.ring = ring
        self.rows: list[list[float]] = []
        self.windows: list[Rows] = []

    def push(self, row: Rows) -> None:
        self.rows.append(row.tolist())
        self.windows.append(self.ring.window().copy())


def make_subject(listener: Listener) -> RowSubject:
    return RowSubject(
        name="engine",
        model="m",
        precision="float32",
        method="a push",
        push=listener.push,
        ring=listener.ring,
        rows=ROWS,
    )


def test_every_call_gets_the_next_row_with_the_ring_written() -> None:
    listener = Listener(RingWindow(3, 2))
    subject = make_subject(listener)
    assert len(listener.rows) == 3  # the ring was filled before anything is timed
    durations_ns = np.full(10, -1, dtype=np.int64)
    subject.measure(durations_ns)
    assert durations_ns.min() >= 0
    assert listener.rows == [ROWS[place % 6].tolist() for place in range(13)]
    assert listener.windows[-1].tolist() == [ROWS[place % 6].tolist() for place in (10, 11, 12)]


def test_sleep_is_outside_the_timed_part() -> None:
    listener = Listener(RingWindow(1, 2))
    idle = IdleSubject(make_subject(listener), 30.0)
    durations_ns = np.full(2, -1, dtype=np.int64)
    start = time.perf_counter()
    idle.measure(durations_ns)
    assert time.perf_counter() - start >= 0.06
    assert durations_ns.min() >= 0
    assert len(listener.rows) == 3
    assert (idle.name, idle.model, idle.precision) == ("engine-idle", "m", "float32")
    assert "30 ms asleep" in idle.method


@pytest.mark.parametrize("idle_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_an_idle_time_that_is_none_is_refused(idle_ms: float) -> None:
    with pytest.raises(InputError, match="idle_ms is"):
        IdleSubject(make_subject(Listener(RingWindow(1, 2))), idle_ms)


def test_rows_are_those_of_the_serving_path() -> None:
    rows = seeded_rows(4, 60)
    assert rows.shape == (60, LOB44.feature_count)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    assert np.array_equal(rows, seeded_rows(4, 60))
    assert not np.array_equal(rows, seeded_rows(5, 60))


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_rows_are_cut_or_repeated_to_fit(columns: int) -> None:
    found = in_columns(ROWS, columns)
    assert found.flags.c_contiguous
    assert found.tolist() == [[row[place % 2] for place in range(columns)] for row in ROWS.tolist()]
