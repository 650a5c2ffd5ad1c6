"""From a frame's bytes to a feature row in the window: the only composition of these steps."""

from enum import IntEnum


class RowStatus(IntEnum):
    """What a frame came to. ROW and SNAPSHOT leave a new row in the window; the others leave it alone.

    SNAPSHOT: the book started anew; the window was reset and holds the new book's first row. GAP, CROSSED,
    MALFORMED and OVERFLOW leave the book unusable (then WAITING) until the next snapshot; NOT_JSON does not,
    as the sequence shows the loss if it was a book message.
    """

    ROW = 0
    SNAPSHOT = 1
    NO_ROW = 2  # applied, and the first levels did not change
    IGNORED = 3  # an old message, or a resend of what is already applied
    WAITING = 4  # a change before the snapshot
    ONE_SIDED = 5  # applied; one side is empty
    GAP = 6
    CROSSED = 7
    MALFORMED = 8  # a book message with levels that cannot be read
    OVERFLOW = 9  # more levels than the book holds
    NOT_JSON = 10  # not JSON, or JSON of no known shape
    NOT_BOOK = 11  # well formed, but no book message
    OTHER_STREAM = 12  # a book message of another symbol or depth
