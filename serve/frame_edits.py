"""What faults make of one frame of an order-book topic: other numbers, other levels, damage."""

import re
from random import Random

import msgspec

from serve.exchange_book import BookMessage, ExchangeBook, Levels, decode_book

_UPDATE_ID = re.compile(rb'"u":(\d+)')
_TIMES = re.compile(rb'"(ts|cts)":(\d+)')


def update_id(frame: bytes) -> int:
    """`u` of a frame, 0 where it has none."""
    found = _UPDATE_ID.search(frame)
    return int(found[1]) if found else 0


def renumbered(frame: bytes, offset: int) -> bytes:
    """The frame with a `u` that is lower by `offset`."""
    if offset == 0:
        return frame
    return _UPDATE_ID.sub(lambda found: b'"u":%d' % (int(found[1]) - offset), frame, count=1)


def leapt(frame: bytes, leap_ms: int) -> bytes:
    """The frame with its two times `leap_ms` later, none before 0."""
    return _TIMES.sub(lambda found: b'"%b":%d' % (found[1], max(0, int(found[2]) + leap_ms)), frame)


def truncated(frame: bytes, random: Random) -> bytes:
    """The frame without its end."""
    return frame[: random.randrange(1, len(frame))]


def oversized(frame: bytes, size_bytes: int) -> bytes:
    """The frame with more than `size_bytes` of white space in it: large, and otherwise right."""
    return b"{" + b" " * size_bytes + frame[1:]


def malformed(frame: bytes, random: Random) -> bytes:
    """The frame with a syntax or a level that cannot be; never one that could be taken for a right one."""
    message = decode_book(frame)
    how = random.randrange(6)
    if how == 0:
        return frame.replace(b'"data":{', b'"data":{{', 1)
    if how == 1:
        return frame.replace(b'"u":', b'"u":"', 1)
    bad = [("none", "1"), ("-1", "1"), ("1", "-1"), ("1", "NaN")][how - 2]
    side = message.data.b if random.random() < 0.5 else message.data.a
    side.insert(random.randint(0, len(side)), bad)
    return msgspec.json.encode(message)


def opening_delta(snapshot: bytes) -> bytes:
    """A delta that comes before `snapshot` and that the snapshot already holds."""
    message = decode_book(snapshot)
    message.type = "delta"
    message.data.b, message.data.a = message.data.b[:1], message.data.a[:1]
    message.data.u -= 1
    return msgspec.json.encode(message)


class BookEdits:
    """Faults of one topic's market: frames that replace its own, so that its book can still be followed.

    `follow` is told every frame of the market, in order. What `crossed` and `emptied` do to the book the next
    delta must undo: `mended`. All take the frame that has just been followed, and answer None where the book
    does not allow it.
    """

    def __init__(self) -> None:
        self._book = ExchangeBook()
        self._before: tuple[Levels, Levels] = ([], [])
        self._crossing: tuple[int, str] | None = None
        self._emptied: int | None = None

    @property
    def is_pending(self) -> bool:
        """Whether the next delta has something to undo."""
        return self._crossing is not None or self._emptied is not None

    def follow(self, frame: bytes, *, keep: bool) -> None:
        """Follow the market; `keep` the sides from before, for `emptied`."""
        if keep:
            self._before = (self._book.bids, self._book.asks)
        self._book.apply(frame)

    def whole(self, restarted: bool) -> bytes | None:
        """The book as a snapshot, under the number 1 where the service has `restarted`."""
        if not self._book.is_known:
            return None
        self._crossing = self._emptied = None
        snapshot = self._book.snapshot()
        return renumbered(snapshot, self._book.update_id - 1) if restarted else snapshot

    def crossed(self, frame: bytes, random: Random) -> bytes | None:
        """The frame and a level on the wrong side of the other side's best."""
        sides = (self._book.bids, self._book.asks)
        if not self._book.is_known or min(map(len, sides)) < 2:
            return None
        into = random.randrange(2)
        level = sides[1 - into][1]
        self._crossing = (into, level[0])
        message = decode_book(frame)
        (message.data.b, message.data.a)[into].append(level)
        return msgspec.json.encode(message)

    def emptied(self, frame: bytes, random: Random) -> bytes | None:
        """The frame and the end of every level of one side."""
        if not self._book.is_known or not all(self._before):
            return None
        self._emptied = random.randrange(2)
        message = decode_book(frame)
        _set_side(message, self._emptied, [(price, "0") for price, _ in self._before[self._emptied]])
        return msgspec.json.encode(message)

    def mended(self, frame: bytes) -> bytes:
        """The frame and what brings the book back to the market's."""
        crossing, emptied = self._crossing, self._emptied
        self._crossing = self._emptied = None
        message = decode_book(frame)
        if message.type == "snapshot":
            return frame
        sides = (self._book.bids, self._book.asks)
        if emptied is not None:
            _set_side(message, emptied, sides[emptied])
        if crossing is not None:
            into, price = crossing
            side = (message.data.b, message.data.a)[into]
            if all(float(told) != float(price) for told, _ in side):
                side.append((price, dict(sides[into]).get(price, "0")))
        return msgspec.json.encode(message)


def _set_side(message: BookMessage, side: int, levels: Levels) -> None:
    if side == 0:
        message.data.b = levels
    else:
        message.data.a = levels
