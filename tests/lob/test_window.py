"""The mirrored ring against a plain list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.errors import InputError
from lob.window import RingWindow

FEATURES = 3


@given(st.integers(1, 7), st.lists(st.one_of(st.integers(0, 1000), st.none()), max_size=60))
def test_ring_equals_a_list(length: int, operations: list[int | None]) -> None:
    ring = RingWindow(length, FEATURES)
    rows: list[list[int]] = []
    for number in operations:
        if number is None:
            ring.reset()
            rows = []
        else:
            row = [number, -number, number + 1]
            ring.append(row)
            rows.append(row)
        newest = rows[-length:]
        expected = np.zeros((length, FEATURES), np.float32)
        expected[length - len(newest) :] = np.array(newest, np.float32).reshape(-1, FEATURES)
        assert np.array_equal(ring.window(), expected)
        assert np.array_equal(ring.latest(), expected[-1])
        assert ring.count == len(newest)
        assert ring.position == (len(rows) - 1) % length
        assert ring.next_slot == len(rows) % length


def test_window_is_a_contiguous_view_of_the_storage() -> None:
    ring = RingWindow(5, FEATURES)
    for number in range(13):
        ring.append([number] * FEATURES)
        window = ring.window()
        assert window.flags.c_contiguous
        assert window.base is ring.storage
        assert window.shape == (5, FEATURES)
        assert ring.latest().base is ring.storage
        assert ring.window() is window


def test_writing_in_place_and_advancing_is_appending() -> None:
    ring = RingWindow(4, FEATURES)
    for number in range(9):
        for place in (ring.next_slot, ring.next_slot + ring.length):
            ring.storage[place] = number
        ring.advance()
    assert ring.window()[:, 0].tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize(("length", "features", "name"), [(0, 3, "length"), (3, 0, "feature_count")])
def test_sizes_below_one_are_refused(length: int, features: int, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: came 0; allowed: 1 or more"):
        RingWindow(length, features)
