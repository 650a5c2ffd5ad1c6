"""Joining a snapshot that was fetched beside a stream to the stream's changes, at the one change it equals.

The rule is Bybit's for `orderbook.full` (API documentation v5, "Full Orderbook", "Full Order Book
Synchronization Procedure"): changes are kept from the first one on, and a snapshot counts once a kept change
has both its numbers, `u` and `seq`. What the documentation leaves open is refused here, never guessed: see
docs/exchange.md, "The whole book".
"""

from collections import deque
from enum import Enum, auto

from msgspec import structs

from lob.messages import BookUpdate

MAXIMUM_KEPT = 500
"""Changes kept for a snapshot, the newest ones: 100 s of them at Bybit's pace."""

MAXIMUM_KEPT_BYTES = 32 * 1024 * 1024
"""Bytes of their levels: what a hostile exchange can have us hold."""

FIRST_UPDATE_ID = 1
"""The venue's sign that it counts anew."""


class Join(Enum):
    """What has become of the join."""

    WAITING = auto()
    """For a snapshot, or for the change that the snapshot at hand equals."""
    REFUSED = auto()
    """The snapshot does not fit the stream: another is needed."""
    JOINED = auto()
    """`ExactJoin.take` has the snapshot and the changes after it."""


class ExactJoin:
    """One stream's changes since it was last in sequence, and the newest snapshot that may yet join them."""

    def __init__(self) -> None:
        self._changes: deque[BookUpdate] = deque()  # each one update after the one before it
        self._bytes = 0
        self._snapshot: BookUpdate | None = None

    def reset(self) -> None:
        """Forget everything, as on a new connection."""
        self._clear_changes()
        self._snapshot = None

    def add_change(self, change: BookUpdate) -> Join:
        """Keep a change of the stream; answers what it means to the snapshot at hand.

        A change that is not one update after the last begins the keeping anew, and so does one that counts
        anew. One that is late or was sent twice, as its sequence tells, is left out.
        """
        changes = self._changes
        if changes and self._is_old(change):
            return Join.WAITING
        if change.update_id == FIRST_UPDATE_ID:
            self._snapshot = None  # of the numbers before
            self._clear_changes()
        elif changes and change.update_id != changes[-1].update_id + 1:
            self._clear_changes()
        # A copy of the levels alone: what was decoded holds on to the whole frame.
        kept = structs.replace(change, bids=bytes(change.bids), asks=bytes(change.asks))
        changes.append(kept)
        self._bytes += _size(kept)
        while len(changes) > MAXIMUM_KEPT or (self._bytes > MAXIMUM_KEPT_BYTES and len(changes) > 1):
            self._bytes -= _size(changes.popleft())
        return self._judge()

    def add_snapshot(self, snapshot: BookUpdate) -> Join:
        """Take a snapshot in, in place of one at hand; answers whether it joins."""
        self._snapshot = snapshot
        return self._judge()

    def take(self) -> tuple[BookUpdate, list[BookUpdate]]:
        """The snapshot and the changes after it, right after JOINED; nothing is kept any longer."""
        snapshot = self._snapshot
        assert snapshot is not None, "taken before it was joined"
        later = [change for change in self._changes if change.update_id > snapshot.update_id]
        self.reset()
        return snapshot, later

    def _is_old(self, change: BookUpdate) -> bool:
        """Whether the stream has told of a change before, or something newer than it."""
        first, last = self._changes[0], self._changes[-1]
        if change.update_id == FIRST_UPDATE_ID:
            return first.update_id == FIRST_UPDATE_ID and change.sequence == first.sequence
        if change.update_id <= last.update_id:
            return change.sequence <= last.sequence
        return change.update_id == last.update_id + 1 and change.sequence < last.sequence

    def _judge(self) -> Join:
        """Hold the snapshot at hand against the changes kept; one that is refused is dropped."""
        snapshot, changes = self._snapshot, self._changes
        if snapshot is None or not changes:
            return Join.WAITING
        first, last = changes[0], changes[-1]
        if snapshot.update_id > last.update_id and snapshot.sequence > last.sequence:
            return Join.WAITING  # it is ahead of the stream, which will come to it
        place = snapshot.update_id - first.update_id
        if 0 <= place < len(changes) and changes[place].sequence == snapshot.sequence:
            return Join.JOINED
        self._snapshot = None
        return Join.REFUSED

    def _clear_changes(self) -> None:
        self._changes.clear()
        self._bytes = 0


def _size(change: BookUpdate) -> int:
    return len(change.bids) + len(change.asks)
