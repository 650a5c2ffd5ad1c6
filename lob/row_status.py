"""What a frame came to on its way to a feature row."""

from enum import IntEnum


class RowStatus(IntEnum):
    """What a frame came to. ROW and SNAPSHOT leave a new row in the window; the others leave it alone.

    SNAPSHOT: the first row since the book started anew, alone in a window that was reset: the snapshot's
    own, or that of the change after which both sides are there, or of the one that a snapshot fetched apart
    was joined at. GAP, CROSSED, MALFORMED and OVERFLOW leave the book unusable (then WAITING) until the next
    snapshot; NOT_JSON does not, as the sequence shows the loss if it was a book message.
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
    REFUSED = 13  # a snapshot fetched apart does not fit the changes kept for it: another is needed
