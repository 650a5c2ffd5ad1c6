"""The ring of the newest rows, written twice so that the last L of them are always one contiguous block."""

import numpy as np
import numpy.typing as npt

from lob.errors import InputError

Rows = npt.NDArray[np.float32]


class RingWindow:
    """The last `length` rows of `feature_count` numbers, as a mirrored ring of 2L rows.

    The row of slot s stands at `storage[s]` and at `storage[s + L]`. Whoever writes a row writes both places
    of `next_slot` and then calls `advance()`; `append(row)` does the whole of it. Rows never written are
    zero.
    """

    def __init__(self, length: int, feature_count: int) -> None:
        for name, value in (("length", length), ("feature_count", feature_count)):
            if value < 1:
                raise InputError(f"{name}: came {value}; allowed: 1 or more")
        self.length = length
        self.feature_count = feature_count
        self.storage: Rows = np.zeros((2 * length, feature_count), np.float32)  # (2L, F)
        self._rows: list[Rows] = [self.storage[slot] for slot in range(length)]  # L views (F,)
        self._windows: list[Rows] = [
            self.storage[slot + 1 : slot + 1 + length] for slot in range(length)
        ]  # L views (L, F)
        self.next_slot = 0
        self.position = length - 1
        self.count = 0

    def latest(self) -> Rows:
        """The newest row, a view (F,); zeros before the first."""
        return self._rows[self.position]

    def window(self) -> Rows:
        """The last L rows, oldest first, a contiguous view (L, F); the oldest are zeros while `count` < L."""
        return self._windows[self.position]

    def row(self, age: int) -> Rows:
        """The row `age` rows before the newest, a view (F,); `age` is below L, and zeros from `count` on."""
        return self._rows[self.position - age]

    def advance(self) -> None:
        """Take the row just written at `next_slot` as the newest."""
        slot = self.next_slot
        self.position = slot
        self.next_slot = slot + 1 if slot + 1 < self.length else 0
        if self.count < self.length:
            self.count += 1

    def append(self, row: npt.ArrayLike) -> None:
        """Copy a row (F,) in as the newest."""
        self.storage[self.next_slot] = row
        self.storage[self.next_slot + self.length] = row
        self.advance()

    def reset(self) -> None:
        """Forget all rows."""
        self.storage.fill(0.0)
        self.next_slot = 0
        self.position = self.length - 1
        self.count = 0
