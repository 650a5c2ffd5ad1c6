"""The order book of one instrument: sorted arrays of ticks and sizes, changed in one jitted call a message."""

from enum import IntEnum


class BookStatus(IntEnum):
    """What a message did to the book. From GAP on the book is unusable until the next snapshot."""

    OK = 0
    SNAPSHOT = 1
    IGNORED = 2
    WAITING = 3
    ONE_SIDED = 4
    GAP = 5
    CROSSED = 6
    MALFORMED = 7
    OVERFLOW = 8
